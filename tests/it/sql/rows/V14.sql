-- A used idempotency key.
insert into project (id, name) values ('00000014-0000-7000-8000-000000000001', 'idempotent');
insert into idempotency_key (project_id, key, fingerprint, created_id, response, expires_at)
values ('00000014-0000-7000-8000-000000000001', 'a key', sha256(''), gen_random_uuid(), '{}', now() + interval '1 day');
