-- The end of an upload, or of a file, marks a bounded number of its parts as garbage. As long as there are more, the
-- upload has a row here, and the sweeper marks the next ones batch by batch: no statement grows with the upload.
create table unfinished_discard (
    upload_id  uuid primary key references upload,
    created_at timestamptz not null default now()
);

create index unfinished_discard_by_age on unfinished_discard (created_at, upload_id);

create function unfinished_discard_follows_an_end() returns trigger language plpgsql as $$
begin
    if exists (select from upload where id = new.upload_id and status = 'pending') then
        raise exception using
            errcode = 'integrity_constraint_violation',
            message = 'unfinished_discard_follows_an_end: the parts of a pending upload are not discarded',
            constraint = 'unfinished_discard_follows_an_end',
            table = 'unfinished_discard';
    end if;
    return null;
end
$$;

create trigger unfinished_discard_follows_an_end after insert on unfinished_discard
    for each row execute function unfinished_discard_follows_an_end();

create trigger unfinished_discard_never_changes before update on unfinished_discard
    for each row execute function refuse('a row of this queue is inserted and deleted, never updated');

create function unfinished_discard_ends_with_the_last_part() returns trigger language plpgsql as $$
begin
    if exists (select id from part where upload_id = old.upload_id and state <> 'garbage'
               except select unnest(manifest) from file where id = old.upload_id and deleted_at is null) then
        raise exception using
            errcode = 'integrity_constraint_violation',
            message = 'unfinished_discard_ends_with_the_last_part: some parts are not garbage yet',
            constraint = 'unfinished_discard_ends_with_the_last_part',
            table = 'unfinished_discard';
    end if;
    return null;
end
$$;

create trigger unfinished_discard_ends_with_the_last_part after delete on unfinished_discard
    for each row execute function unfinished_discard_ends_with_the_last_part();

-- As before, but for parts beside the manifest of an upload that is in the queue.
create or replace function completed_upload_has_its_file() returns trigger language plpgsql as $$
declare
    wrong text;
begin
    if not exists (select from file
                   where id = new.id and project_id = new.project_id and filename = new.filename
                     and purpose = new.purpose and mime_type = new.mime_type and bytes = new.bytes
                     and created_at = new.created_at) then
        wrong := 'there is no file that matches the upload';
    elsif (select not coalesce(bool_and(coalesce(listed.stop - listed.start = held.bytes, false)), true)
                  or count(*) <> count(distinct held.id)
           from (select id, bytes from part where upload_id = new.id and state <> 'garbage') held
           full join (select part_id, start, stop
                      from file, unnest(manifest, offsets, (offsets || bytes)[2:]) as listed (part_id, start, stop)
                      where file.id = new.id) listed
                  on listed.part_id = held.id
           where listed.part_id is not null or not exists (select from unfinished_discard where upload_id = new.id)) then
        wrong := format('the manifest is not of the parts that the upload holds, one after another, with %s bytes in all',
                        new.bytes);
    end if;
    if wrong is not null then
        raise exception using
            errcode = 'integrity_constraint_violation',
            message = format('completed_upload_has_its_file: %s', wrong),
            constraint = 'completed_upload_has_its_file',
            table = 'upload';
    end if;
    return null;
end
$$;

-- As before, but for an upload that is in the queue.
create or replace function what_is_over_holds_only_garbage() returns trigger language plpgsql as $$
begin
    if not exists (select from unfinished_discard where upload_id = new.id)
       and exists (select from part where upload_id = new.id and state <> 'garbage') then
        raise exception using
            errcode = 'integrity_constraint_violation',
            message = format('%s: what is not in a file becomes garbage in the same transaction, or is queued for it',
                             tg_name),
            constraint = tg_name,
            table = tg_table_name;
    end if;
    return null;
end
$$;
