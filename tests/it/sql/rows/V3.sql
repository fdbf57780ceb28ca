-- A part with an MD5 state, in a project whose last completion had an MD5.
insert into project (id, name, completes_with_md5) values ('00000003-0000-7000-8000-000000000001', 'with-md5', true);
insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, expires_at)
values ('00000003-0000-7000-8000-000000000002', '00000003-0000-7000-8000-000000000001', 'client', 'a', 'batch', 'text/plain', 3,
        now() + interval '1 hour');
insert into part (id, upload_id) values ('00000003-0000-7000-8000-000000000003', '00000003-0000-7000-8000-000000000002');
update part set state = 'stored', bytes = 3, crc64nvme = 7, md5_state = '\x01' where id = '00000003-0000-7000-8000-000000000003';
