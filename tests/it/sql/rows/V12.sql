-- A used idempotency key, and the digests of a file.
insert into idempotency_key (project_id, key, fingerprint, created_id, response, expires_at)
select id, 'a key', sha256(''), gen_random_uuid(), '{}', now() + interval '1 day' from project order by id limit 1;
