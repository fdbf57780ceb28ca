-- Parts with content: one of a pending upload, one in a file, one that is garbage.
insert into project (id, name) values ('00000004-0000-7000-8000-000000000001', 'with-small-parts');
insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, expires_at)
select id::uuid, '00000004-0000-7000-8000-000000000001', 'client', 'a', 'batch', 'text/plain', 3, now() + interval '1 hour'
from (values ('00000004-0000-7000-8000-000000000002'), ('00000004-0000-7000-8000-000000000003')) as wanted (id);
insert into part (id, upload_id, state, bytes, crc64nvme, content)
select id::uuid, upload::uuid, 'stored', 3, 7, 'abc'
from (values ('00000004-0000-7000-8000-000000000004', '00000004-0000-7000-8000-000000000002'),
             ('00000004-0000-7000-8000-000000000005', '00000004-0000-7000-8000-000000000003'),
             ('00000004-0000-7000-8000-000000000006', '00000004-0000-7000-8000-000000000003')) as come (id, upload);
update part set byte_offset = 0 where id = '00000004-0000-7000-8000-000000000005';
insert into file (id, project_id, filename, purpose, mime_type, bytes, crc64nvme, created_at, expires_at)
select id, project_id, filename, purpose, mime_type, bytes, 7, created_at, created_at + interval '1 hour' from upload
where id = '00000004-0000-7000-8000-000000000003';
update upload set status = 'completed', ended_at = now() where id = '00000004-0000-7000-8000-000000000003';
update part set state = 'garbage', not_before = now() where id = '00000004-0000-7000-8000-000000000006';
