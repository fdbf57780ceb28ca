-- One row in every state that the ledger allows, reached by legal steps. The id of each row is returned by a function
-- with the name of the state.
do $$
declare
    name text;
    n int := 0;
begin
    foreach name in array array[
        'busy_project', 'keyed_project', 'working_key', 'revoked_key',
        'empty', 'filling', 'form', 'declared_form', 'elsewhere', 'cancelled', 'expired', 'completed', 'deleted', 'gone',
        'receiving', 'in_pieces', 'stored', 'stored_too', 'linked', 'spare', 'kept', 'abandoned', 'discarded',
        'kept_leaving', 'placed', 'placed_next', 'leaving', 'linked_store']
    loop
        n := n + 1;
        execute format('create function %I() returns uuid immutable language sql return %L::uuid',
                       name, lpad(to_hex(n), 32, '0'));
    end loop;
end
$$;

-- The steps, each reduced to what the schema requires.
create function store(part_id uuid, size bigint) returns void language sql as $$
    update part set state = 'stored', bytes = size, crc64nvme = 7 where id = part_id
$$;
create function discard(part_id uuid) returns void language sql as $$
    update part set state = 'garbage', not_before = now() where id = part_id
$$;
create function end_as(upload_id uuid, how text) returns void language sql as $$
    update upload set status = how, ended_at = now() where id = upload_id
$$;
create function make_file(upload_id uuid, project_id uuid default null, filename text default null, purpose text default null,
                          mime_type text default null, bytes bigint default null, created_at timestamptz default null,
                          md5 bytea default null, expires_at timestamptz default null,
                          manifest uuid[] default '{}', offsets bigint[] default null)
returns void language sql as $$
    insert into file (id, project_id, filename, purpose, mime_type, bytes, crc64nvme, md5, created_at, expires_at,
                      manifest, offsets)
    select it.id, coalesce($2, it.project_id), coalesce($3, it.filename), coalesce($4, it.purpose),
           coalesce($5, it.mime_type), coalesce($6, it.bytes), 7, $8, coalesce($7, it.created_at), $9, $10,
           coalesce($11, array(select sum(part.bytes) over (order by nth) - part.bytes
                               from unnest($10) with ordinality as listed (id, nth) join part using (id) order by nth))
    from upload it where it.id = $1
$$;
create function complete(upload_id uuid, manifest uuid[], offsets bigint[] default null) returns void language sql as $$
    select make_file($1, manifest => $2, offsets => $3), end_as($1, 'completed');
    select discard(id) from part where part.upload_id = $1 and state <> 'garbage' and id <> all($2);
$$;

insert into project (id, name) values (busy_project(), 'busy'), (keyed_project(), 'keyed');
insert into api_key (id, project_id, name, hash, revoked_at) values
    (working_key(), keyed_project(), 'ci', decode(repeat('01', 32), 'hex'), null),
    (revoked_key(), keyed_project(), 'old ci', decode(repeat('02', 32), 'hex'), now());

insert into store (id, linked_at) values (linked_store(), now());

insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, file_lifetime_seconds, expires_at)
select id, busy_project(), 'client', 'a.jsonl', 'batch', 'application/jsonl', bytes, 3600, now() + interval '1 hour'
from (values (empty(), 0), (filling(), 30), (elsewhere(), 30), (cancelled(), 30), (completed(), 30), (deleted(), 10),
             (gone(), 0)) as wanted (id, bytes);
insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, created_at, expires_at)
values (expired(), busy_project(), 'client', 'a.jsonl', 'batch', 'application/jsonl', 30,
        now() - interval '2 hours', now() - interval '1 hour');
insert into upload (id, project_id, origin, expires_at)
values (form(), busy_project(), 'form', now() + interval '1 hour'),
       (declared_form(), busy_project(), 'form', now() + interval '1 hour');
update upload set filename = 'b.bin', purpose = 'vision', mime_type = 'image/png', bytes = 0 where id = declared_form();

insert into part (id, upload_id) values
    (receiving(), filling()), (in_pieces(), filling()), (stored(), filling()), (stored_too(), filling()),
    (linked(), elsewhere()), (spare(), filling()), (abandoned(), filling()), (discarded(), cancelled()),
    (placed(), completed()), (placed_next(), completed()), (leaving(), deleted());
update part set multipart_id = 'm-1' where id in (in_pieces(), abandoned());
select store(id, bytes)
from (values (stored(), 10), (stored_too(), 20), (spare(), 20), (discarded(), 10), (placed(), 10), (placed_next(), 20),
             (leaving(), 10)) as come (id, bytes);
select discard(abandoned()), discard(discarded());
update part set attempts = 1, last_error = 'the store was unreachable' where id = abandoned();
update part set state = 'stored', bytes = 30, crc64nvme = 7, md5_state = '\x01', md5_follows = stored()
where id = linked();
insert into part (id, upload_id, state, bytes, crc64nvme, content)
values (kept(), elsewhere(), 'stored', 3, 7, 'abc'), (kept_leaving(), elsewhere(), 'stored', 3, 7, 'abc');
select discard(kept_leaving());

select end_as(cancelled(), 'cancelled'), end_as(expired(), 'expired');
begin;
select make_file(id, md5 => decode(repeat('03', 16), 'hex'), expires_at => now() + interval '1 day', manifest => parts),
       end_as(id, 'completed')
from (values (completed(), array[placed(), placed_next()]), (deleted(), array[leaving()]), (gone(), '{}')) as made (id, parts);
commit;
update file set deleted_at = now() where id in (deleted(), gone());
select discard(leaving());
