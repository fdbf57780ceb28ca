-- A row of every table in every state that V1 allows, reached by legal steps. Do not change this file: it represents
-- what a service of that version may have left.
insert into project (id, name) values ('a0000000-0000-7000-8000-000000000001', 'default');
insert into api_key (id, project_id, name, hash, revoked_at) values
    ('b0000000-0000-7000-8000-000000000001', 'a0000000-0000-7000-8000-000000000001', 'ci', sha256('1'), null),
    ('b0000000-0000-7000-8000-000000000002', 'a0000000-0000-7000-8000-000000000001', 'old ci', sha256('2'), now());

-- 1 pending, 2 cancelled, 3 expired, 4 completed, 5 completed and deleted, 6 completed and deleted without parts,
-- 7 a form that is being received, 8 a form whose body was cut off.
insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, file_lifetime_seconds, created_at, expires_at)
select ('c0000000-0000-7000-8000-00000000000' || n)::uuid, 'a0000000-0000-7000-8000-000000000001', 'client',
       'a.jsonl', 'batch', 'application/jsonl', bytes, 3600, now() - interval '1 minute', expires_at
from (values (1, 30, now() + interval '1 hour'), (2, 30, now() + interval '1 hour'), (3, 30, now() - interval '1 second'),
             (4, 30, now() + interval '1 hour'), (5, 10, now() + interval '1 hour'), (6, 0, now() + interval '1 hour'))
     as wanted (n, bytes, expires_at);
insert into upload (id, project_id, origin, expires_at) values
    ('c0000000-0000-7000-8000-000000000007', 'a0000000-0000-7000-8000-000000000001', 'form', now() + interval '1 hour'),
    ('c0000000-0000-7000-8000-000000000008', 'a0000000-0000-7000-8000-000000000001', 'form', now() + interval '1 hour');

-- Parts of 1: 1 receiving, 2 receiving as a multipart upload, 3 stored, 4 abandoned. Of 2: 5, discarded.
-- Of 4: 6 and 7 in the file, and 8 left out. Of 5: 9 in the deleted file.
insert into part (id, upload_id)
select ('d0000000-0000-7000-8000-00000000000' || n)::uuid, ('c0000000-0000-7000-8000-00000000000' || upload)::uuid
from (values (1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 4), (7, 4), (8, 4), (9, 5)) as come (n, upload);
update part set multipart_id = 'm-1'
where id in ('d0000000-0000-7000-8000-000000000002', 'd0000000-0000-7000-8000-000000000004');
update part set state = 'stored', crc64nvme = -7,
    bytes = case when id = 'd0000000-0000-7000-8000-000000000007' then 20 else 10 end
where id in ('d0000000-0000-7000-8000-000000000003', 'd0000000-0000-7000-8000-000000000005',
             'd0000000-0000-7000-8000-000000000006', 'd0000000-0000-7000-8000-000000000007',
             'd0000000-0000-7000-8000-000000000008', 'd0000000-0000-7000-8000-000000000009');

update upload set status = 'cancelled', ended_at = now()
where id in ('c0000000-0000-7000-8000-000000000002', 'c0000000-0000-7000-8000-000000000008');
update upload set status = 'expired', ended_at = now() where id = 'c0000000-0000-7000-8000-000000000003';
update part set byte_offset = case when id = 'd0000000-0000-7000-8000-000000000007' then 10 else 0 end
where id in ('d0000000-0000-7000-8000-000000000006', 'd0000000-0000-7000-8000-000000000007',
             'd0000000-0000-7000-8000-000000000009');
insert into file (id, project_id, filename, purpose, mime_type, bytes, crc64nvme, md5, created_at, expires_at)
select id, project_id, filename, purpose, mime_type, bytes, 9,
       case when bytes = 30 then decode(repeat('03', 16), 'hex') end,
       created_at, case when bytes = 30 then created_at + interval '1 hour' end
from upload
where id in ('c0000000-0000-7000-8000-000000000004', 'c0000000-0000-7000-8000-000000000005',
             'c0000000-0000-7000-8000-000000000006');
update upload set status = 'completed', ended_at = now() where id in (select id from file);
update file set deleted_at = now()
where id in ('c0000000-0000-7000-8000-000000000005', 'c0000000-0000-7000-8000-000000000006');

update part set state = 'garbage', not_before = now() + interval '1 minute'
where id in ('d0000000-0000-7000-8000-000000000004', 'd0000000-0000-7000-8000-000000000005',
             'd0000000-0000-7000-8000-000000000008', 'd0000000-0000-7000-8000-000000000009');
update part set attempts = 1, last_error = 'the store was away' where id = 'd0000000-0000-7000-8000-000000000004';
