-- A File holds its manifest: completion writes one row for it, and none of its Parts'. What an ended Upload
-- has stored is its manifest, whole; so a Part's row says nothing of its place.

-- The ids of the Parts in the file's order, and where each begins.
alter table file
    add column manifest uuid[] not null default '{}',
    add column offsets bigint[] not null default '{}';
-- What is too long for a page goes beside the table, as it is.
alter table file alter column manifest set storage external, alter column offsets set storage external;

-- Of a deleted File it is what is left of it: some of its Parts may be gone.
alter table file disable trigger file_only_ever_becomes_deleted;
update file set manifest = placed.ids, offsets = placed.offsets
from (select upload_id, array_agg(id order by byte_offset) as ids, array_agg(byte_offset order by byte_offset) as offsets
      from part where byte_offset is not null group by upload_id) placed
where file.id = placed.upload_id;

alter table file
    alter column manifest drop default,
    alter column offsets drop default,
    add constraint file_has_parts_exactly_when_it_has_bytes check (
        deleted_at is not null or (cardinality(manifest) = 0) = (bytes = 0)
    ),
    add constraint file_has_an_offset_for_each_part check (cardinality(offsets) = cardinality(manifest)),
    add constraint file_begins_with_its_first_part check (
        cardinality(offsets) = 0 or offsets[1] is not distinct from 0
    );

drop trigger file_only_ever_becomes_deleted on file;
create trigger file_only_ever_becomes_deleted before update on file for each row
    when (old.deleted_at is not null or new.deleted_at is null
          or (new.id, new.project_id, new.filename, new.purpose, new.mime_type, new.bytes, new.crc64nvme, new.md5,
              new.created_at, new.expires_at, new.manifest, new.offsets)
          is distinct from (old.id, old.project_id, old.filename, old.purpose, old.mime_type, old.bytes, old.crc64nvme, old.md5,
              old.created_at, old.expires_at, old.manifest, old.offsets))
    execute function refuse('a file never changes, but that it is deleted once');

-- The place of a Part, and all that guarded it, goes.
drop trigger part_is_placed_with_its_file on part;
drop function part_is_placed_with_its_file();
drop trigger part_begins_being_received on part;
drop trigger part_keeps_what_it_is on part;
alter table part drop constraint part_has_an_md5_only_between_stored_and_placed;
alter table part drop column byte_offset;

create trigger part_begins_being_received before insert on part for each row
    when (new.multipart_id is not null or (new.state <> 'receiving' and (new.state <> 'stored' or new.content is null)))
    execute function refuse('a part begins as receiving, with nothing known of it, or as stored, with its content');

create trigger part_keeps_what_it_is before update on part for each row
    when ((new.id, new.upload_id, new.created_at) is distinct from (old.id, old.upload_id, old.created_at)
          or (old.multipart_id is not null and new.multipart_id is distinct from old.multipart_id)
          or (old.state <> 'receiving' and (new.bytes, new.crc64nvme, new.multipart_id, new.md5_state, new.md5_follows)
              is distinct from (old.bytes, old.crc64nvme, old.multipart_id, old.md5_state, old.md5_follows))
          or (old.state = 'receiving' and new.state <> 'stored' and new.bytes is not null))
    execute function refuse('a stored part never changes');

alter table part add constraint part_has_an_md5_only_once_stored check (
    case when md5_state is null then md5_follows is null
         else bytes is not null and octet_length(md5_state) between 1 and 256 end
);

-- What was is taken away from what is by `except`, not joined to it, and a File is looked up by its id
-- (`limit 1` holds the planner to that): a session keeps the plan of the first use, perhaps of one row. No
-- variable is in these queries: with an array in it, a query is planned anew each time.
create or replace function part_change_fits_its_upload() returns trigger language plpgsql as $$
declare
    wrong text;
begin
    if exists (select from (select upload_id, id from changed where state = 'stored'
                            except select upload_id, id from was where state = 'stored') filled
               join upload on upload.id = filled.upload_id
               where upload.status <> 'pending') then
        wrong := 'only a pending upload stores parts';
    elsif exists (select id from was where state = 'stored'
                  intersect select id from changed where state = 'garbage'
                  intersect select unnest(manifest)
                            from (select distinct upload_id from changed where state = 'garbage') going,
                                 lateral (select manifest from file
                                          where file.id = going.upload_id and deleted_at is null limit 1) there) then
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

-- Checked when the transaction commits: a completed Upload has its File, and what the Upload holds that is not
-- garbage is in the File's manifest, all of it, each once, and each as long as from its beginning to the next one's.
-- A full join is never a nested loop, which over ten thousand would take seconds.
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
                  on listed.part_id = held.id) then
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

-- Checked when the transaction commits: what an Upload holds that ends without a File, or a File that is
-- deleted, has been written down as garbage. Nobody would look for it later.
create or replace function what_is_over_holds_only_garbage() returns trigger language plpgsql as $$
begin
    if exists (select from part where upload_id = new.id and state <> 'garbage') then
        raise exception using
            errcode = 'integrity_constraint_violation',
            message = format('%s: what is not in a file becomes garbage in the same transaction', tg_name),
            constraint = tg_name,
            table = tg_table_name;
    end if;
    return null;
end
$$;

drop trigger ended_upload_holds_only_garbage on upload;
create constraint trigger ended_upload_holds_only_garbage after update on upload
    deferrable initially deferred for each row
    when (old.status = 'pending' and new.status in ('cancelled', 'expired'))
    execute function what_is_over_holds_only_garbage();
