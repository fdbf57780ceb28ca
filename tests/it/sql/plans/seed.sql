-- A ledger after some time of use: 100,000 uploads of 20 projects, about half of them with files that still exist, and
-- a few rows of each kind due. Triggers are disabled: the rows are inserted directly in their final, legal states.
begin;
set local session_replication_role = replica;

-- Numbers as ids, in the same order.
create function id(n bigint) returns uuid immutable language sql return lpad(to_hex(n), 32, '0')::uuid;
create function ids(after bigint, count bigint) returns uuid[] immutable language sql
    return array(select id(after + n) from generate_series(1, count) n);

insert into project (id, name) select id(n), 'project-' || n from generate_series(1, 20) n;
insert into api_key (id, project_id, name, hash)
select id(n), id(1 + n % 20), 'key', sha256(n::text::bytea) from generate_series(1, 3000) n;
insert into used_url (id, used_by, expires_at)
select id(n), id(n), now() - n * interval '1 minute' from generate_series(1, 10000) n;
insert into idempotency_key (project_id, key, fingerprint, created_id, response, expires_at)
select id(1 + n % 20), 'key-' || n, sha256(n::text::bytea), id(n), repeat('a', 300),
       now() + interval '1 day' - n * interval '10 seconds'
from generate_series(1, 10000) n;
insert into audit_event (id, at, action, outcome, status, via, key_id, project, object, address)
select id(n), now() - n * interval '3 minutes', 'file.read', 'ok', 200, 'key', id(1 + n % 3000), 'project-' || n % 20,
       'file-' || n, '192.0.2.1'
from generate_series(1, 50000) n;

-- Of each hundred: 80 completed, 8 cancelled, 10 expired, 2 pending (one of them a form, a few of them due).
insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, status, created_at, expires_at, ended_at)
select id(n), id(1 + n / 7 % 20), case when n % 10 = 9 then 'form' else 'client' end, repeat('a', 120) || '.bin', 'batch', 'text/plain', 20,
       status, created, created + interval '1 hour', case when status <> 'pending' then created + interval '10 minutes' end
from (select n, case when n % 100 < 80 then 'completed' when n % 100 < 88 then 'cancelled'
                     when n % 100 < 98 then 'expired' else 'pending' end as status,
             now() - case when n % 100 < 98 then (100000 - n) * interval '1 minute' else n * interval '0.037 seconds' end as created
      from generate_series(1, 100000) n) wanted;

-- One third is deleted; one third has an expiry, which has passed for a few.
insert into file (id, project_id, filename, purpose, mime_type, bytes, manifest, offsets, crc64nvme, created_at, expires_at,
                  deleted_at)
select id, project_id, filename, case when n % 7 = 0 then 'vision' else purpose end, mime_type, bytes,
       array[id(1000000 + 10 * n), id(1000001 + 10 * n)], '{0, 10}', 0, created_at,
       case when n % 3 = 1 then greatest(created_at + interval '1 hour', now() + (n - 500) * interval '1 minute') end,
       case when n % 3 = 0 then created_at + interval '1 hour' end
from (select upload.*, row_number() over (order by id) as n from upload where status = 'completed') it;

-- Two parts of every existing file, three of every pending upload, and one garbage part of every expired upload.
insert into part (id, upload_id, state, bytes, crc64nvme, created_at)
select part_id, file.id, 'stored', 10, 0, created_at from file, unnest(manifest) part_id where deleted_at is null;
insert into part (id, upload_id, state, bytes, crc64nvme, created_at)
select id(3000000 + 10 * row_number() over (order by upload.id) + piece), upload.id,
       case when piece = 0 then 'receiving' else 'stored' end, nullif(10 * piece, 0), nullif(piece, 0), created_at
from upload, generate_series(0, 2) piece where status = 'pending';
insert into part (id, upload_id, state, created_at, not_before)
select id(5000000 + row_number() over (order by upload.id)), upload.id, 'garbage', created_at,
       now() + (row_number() over (order by upload.id) - 200) * interval '1 second'
from upload where status = 'expired';
commit;

-- One upload with the maximum number of parts.
begin;
set local session_replication_role = replica;
insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, expires_at)
values (id(200000), id(1), 'client', 'large.bin', 'batch', 'text/plain', 100000, now() + interval '1 hour');
insert into part (id, upload_id, state, bytes, crc64nvme)
select id(7000000 + n), id(200000), 'stored', 10, 0 from generate_series(1, 10000) n;
commit;

