-- A service key, and a key of one project that expires and was used.
insert into project (id, name) values ('00000010-0000-7000-8000-000000000001', 'Tenant@example.com');
insert into api_key (id, name, hash, acts_for, creates_projects, scopes, expires_at, last_used_at)
values ('00000010-0000-7000-8000-000000000002', 'gateway', sha256('V10 gateway'), '{team-*}', true, '{read,write}',
        now() + interval '1 year', now());
insert into api_key (id, project_id, name, hash, scopes, expires_at)
values ('00000010-0000-7000-8000-000000000003', '00000010-0000-7000-8000-000000000001', 'reader', sha256('V10 reader'),
        '{read}', now() + interval '1 day');
