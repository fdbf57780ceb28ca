-- Completion costs what its Parts' rows cost to write, and little besides.

-- Only what is garbage has a `not_before`, or a `last_error`: said so, an index does not hang on the
-- state, and a part that becomes stored stays where it is in all of them.
drop index part_due;
create index part_due on part (not_before) where not_before is not null;
drop index part_refusing;
create index part_refusing on part (id) where last_error is not null;

-- The first Part of a manifest answers, when the transaction commits, for all of them: there are none
-- without it (`part_change_fits_its_upload`), and it was placed in the same transaction, since an Upload
-- that has one is not pending afterwards.
drop trigger part_is_placed_with_its_file on part;

create constraint trigger part_is_placed_with_its_file after update on part
    deferrable initially deferred for each row
    when (old.byte_offset is null and new.byte_offset = 0)
    execute function part_is_placed_with_its_file();

-- What was is taken away from what is by `except`, not joined to it: a session keeps the plan of the
-- first use, perhaps of one row, and a nested loop over ten thousand takes seconds. No variable is in
-- these queries: with an array in it, a query is planned anew each time.
create or replace function part_change_fits_its_upload() returns trigger language plpgsql as $$
declare
    wrong text;
begin
    select case when upload.status <> 'pending' then 'only a pending upload stores parts and places them in its manifest'
                else 'a manifest is placed from its first part on' end
    into wrong
    from (select distinct upload_id, step
          from ((select upload_id, id, 'stored' as step from changed where state = 'stored'
                 union all select upload_id, id, 'placed' from changed where byte_offset is not null)
                except
                (select upload_id, id, 'stored' from was where state = 'stored'
                 union all select upload_id, id, 'placed' from was where byte_offset is not null)) news) filled
    join upload on upload.id = filled.upload_id
    where upload.status <> 'pending'
       or (filled.step = 'placed' and not exists (select from part where part.upload_id = upload.id and byte_offset = 0))
    limit 1;
    if wrong is null
       and exists (select from (select upload_id, id from changed where state = 'garbage' and byte_offset is not null
                                except select upload_id, id from was where state = 'garbage') going
                   left join file on file.id = going.upload_id
                   where file.deleted_at is null) then
        wrong := 'a part of a file that is not deleted is not garbage';
    end if;
    if wrong is not null then
        raise exception using
            errcode = 'integrity_constraint_violation',
            message = format('part_change_fits_its_upload: %s', wrong),
            constraint = 'part_change_fits_its_upload',
            table = 'part';
    end if;
    return null;
end
$$;

-- As before, with each part held against the end of the one before it: sums of bigints are numerics.
create or replace function completed_upload_has_its_file() returns trigger language plpgsql as $$
declare
    total bigint;
    dense boolean;
begin
    if not exists (select from file
                   where id = new.id and project_id = new.project_id and filename = new.filename
                     and purpose = new.purpose and mime_type = new.mime_type and bytes = new.bytes
                     and created_at = new.created_at) then
        raise exception using
            errcode = 'integrity_constraint_violation',
            message = 'completed_upload_has_its_file: there is no file that matches the upload',
            constraint = 'completed_upload_has_its_file',
            table = 'upload';
    end if;
    select coalesce(max(byte_offset + bytes), 0), coalesce(bool_and(byte_offset = start), true)
    into total, dense
    from (select bytes, byte_offset, lag(byte_offset + bytes, 1, 0::bigint) over (order by byte_offset) as start
          from part where upload_id = new.id and byte_offset is not null) manifest;
    if total <> new.bytes or not dense then
        raise exception using
            errcode = 'integrity_constraint_violation',
            message = format('completed_upload_has_its_file: the manifest holds %s bytes, the upload declared %s',
                             total, new.bytes),
            constraint = 'completed_upload_has_its_file',
            table = 'upload';
    end if;
    return null;
end
$$;
