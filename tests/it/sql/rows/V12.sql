-- A project and a key with limits, and an upload of each origin, which the triggers count.
insert into project (id, name, max_bytes, max_pending_uploads, max_files, default_file_lifetimes, longest_file_lifetimes)
values ('00000012-0000-7000-8000-000000000001', 'limited', 1000, 9223372036854775807, 0, '{batch=3600,*=7200}', '{*=86400}');
insert into api_key (id, project_id, name, hash, max_requests_per_second, max_bytes_per_second)
values ('00000012-0000-7000-8000-000000000002', '00000012-0000-7000-8000-000000000001', 'slow', sha256('V12'), 5, 1000);
insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, expires_at)
values ('00000012-0000-7000-8000-000000000003', '00000012-0000-7000-8000-000000000001', 'client', 'a', 'batch',
        'text/plain', 3, now() + interval '1 hour');
insert into upload (id, project_id, origin, bytes, expires_at)
values ('00000012-0000-7000-8000-000000000004', '00000012-0000-7000-8000-000000000001', 'form', 3, now() + interval '1 hour');
