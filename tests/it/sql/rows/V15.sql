-- A file with the digests that were sent with its bytes.
insert into project (id, name) values ('00000015-0000-7000-8000-000000000001', 'with-digests');
insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, expires_at)
values ('00000015-0000-7000-8000-000000000002', '00000015-0000-7000-8000-000000000001', 'form', 'a', 'batch', 'text/plain', 0,
        now() + interval '1 hour');
insert into file (id, project_id, filename, purpose, mime_type, bytes, manifest, offsets, crc64nvme, sha256, sha512, created_at,
                  expires_at)
select id, project_id, filename, purpose, mime_type, bytes, '{}', '{}', 0, sha256(''), sha512(''), created_at,
       created_at + interval '1 hour'
from upload where id = '00000015-0000-7000-8000-000000000002';
update upload set status = 'completed', ended_at = now() where id = '00000015-0000-7000-8000-000000000002';
