-- The ledger: who owns what, which Upload is in which state, and every object in the store.
--
-- Two kinds of rule are written here. What one row may look like is a check constraint. What may
-- follow what is a trigger whose `when` names the illegal change; those that must look at other
-- rows see a whole statement at once, so that a File of ten thousand Parts costs one look-up.

create table project (
    id         uuid primary key,
    name       text not null unique check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    created_at timestamptz not null default now()
);

create table api_key (
    id         uuid primary key,
    project_id uuid not null references project,
    name       text not null check (name <> ''),
    hash       bytea not null unique check (octet_length(hash) = 32),
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);

-- An intent to make one File. `origin` tells how it came: by POST /v1/uploads ('client'), which
-- declares everything beforehand, or by POST /v1/files ('form'), which is an Upload inside the
-- service whose name, purpose and size are known only once the body has ended.
create table upload (
    id                    uuid primary key,
    project_id            uuid not null references project,
    origin                text not null check (origin in ('client', 'form')),
    filename              text,
    purpose               text,
    mime_type             text,
    bytes                 bigint check (bytes >= 0),
    file_lifetime_seconds bigint check (file_lifetime_seconds between 3600 and 2592000),
    status                text not null default 'pending'
                          check (status in ('pending', 'completed', 'cancelled', 'expired')),
    created_at            timestamptz not null default now(),
    expires_at            timestamptz not null,
    ended_at              timestamptz,
    constraint upload_expires_after_it_was_created check (expires_at > created_at),
    constraint upload_ended_exactly_when_terminal check ((status = 'pending') = (ended_at is null)),
    constraint upload_is_declared check (
        (origin = 'form' and status <> 'completed')
        or (filename is not null and purpose is not null and mime_type is not null and bytes is not null)
    )
);

-- A File has the id of the Upload that made it: a completed Upload cannot have two.
create table file (
    id         uuid primary key references upload,
    project_id uuid not null references project,
    filename   text not null,
    purpose    text not null,
    mime_type  text not null,
    bytes      bigint not null check (bytes >= 0),
    crc64nvme  bigint not null,
    md5        bytea check (octet_length(md5) = 16),
    created_at timestamptz not null,
    expires_at timestamptz,
    deleted_at timestamptz,
    constraint file_expires_after_it_was_created check (expires_at > created_at)
);

-- One row an object in the store, written before its first byte and removed after the object.
-- The rows with a `byte_offset` are the manifest of the File with the Upload's id: a Part is in at
-- most one manifest because it has only one such column.
create table part (
    id           uuid primary key,
    upload_id    uuid not null references upload,
    state        text not null default 'receiving' check (state in ('receiving', 'stored', 'garbage')),
    bytes        bigint check (bytes > 0),
    crc64nvme    bigint,
    byte_offset  bigint check (byte_offset >= 0),
    multipart_id text,
    created_at   timestamptz not null default now(),
    not_before   timestamptz,
    attempts     integer not null default 0 check (attempts >= 0),
    last_error   text,
    constraint part_has_its_size_and_checksum_together check ((bytes is null) = (crc64nvme is null)),
    constraint part_being_received_has_no_size check (state <> 'receiving' or bytes is null),
    constraint part_stored_has_its_size check (state <> 'stored' or bytes is not null),
    constraint part_in_a_manifest_has_its_size check (byte_offset is null or bytes is not null),
    constraint part_is_due_exactly_when_garbage check ((state = 'garbage') = (not_before is not null)),
    constraint part_is_retried_only_as_garbage check (state = 'garbage' or (attempts = 0 and last_error is null))
);

-- Uploads of a project by age, those that are due, and those that may be forgotten.
create index upload_by_age on upload (project_id, created_at, id) where origin = 'client';
create index upload_due on upload (expires_at) where status = 'pending';
create index upload_ended on upload (ended_at) where status in ('cancelled', 'expired');

-- Files of a project by age, all and by purpose, those that are due, and those that may be forgotten.
create index file_by_age on file (project_id, created_at, id) where deleted_at is null;
create index file_by_purpose on file (project_id, purpose, created_at, id) where deleted_at is null;
create index file_due on file (expires_at) where deleted_at is null;
create index file_deleted on file (deleted_at) where deleted_at is not null;

-- Parts of an Upload, manifests in order, garbage by the time it may go.
create index part_of_upload on part (upload_id, created_at, id);
create unique index part_in_manifest on part (upload_id, byte_offset) where byte_offset is not null;
create index part_due on part (not_before) where state = 'garbage';

create function refuse() returns trigger language plpgsql as $$
begin
    raise exception using
        errcode = 'integrity_constraint_violation',
        message = format('%s: %s', tg_name, tg_argv[0]),
        constraint = tg_name,
        table = tg_table_name;
end
$$;

-- Uploads -------------------------------------------------------------------------------------

create trigger upload_begins_pending before insert on upload for each row
    when (new.status <> 'pending')
    execute function refuse('an upload begins as pending');

create trigger upload_end_is_final before update on upload for each row
    when (old.status <> 'pending' and new is distinct from old)
    execute function refuse('an upload that is completed, cancelled or expired never changes');

create trigger upload_keeps_what_it_is before update on upload for each row
    when ((new.id, new.project_id, new.origin, new.created_at, new.expires_at)
          is distinct from (old.id, old.project_id, old.origin, old.created_at, old.expires_at)
          or (old.origin = 'client'
              and (new.filename, new.purpose, new.mime_type, new.bytes, new.file_lifetime_seconds)
              is distinct from (old.filename, old.purpose, old.mime_type, old.bytes, old.file_lifetime_seconds)))
    execute function refuse('what an upload was created with does not change');

create trigger upload_leaves_only_ended before delete on upload for each row
    when (old.status = 'pending')
    execute function refuse('a pending upload is not deleted');

-- Files ---------------------------------------------------------------------------------------

create trigger file_begins_present before insert on file for each row
    when (new.deleted_at is not null)
    execute function refuse('a file is not born deleted');

create trigger file_only_ever_becomes_deleted before update on file for each row
    when (old.deleted_at is not null or new.deleted_at is null
          or (new.id, new.project_id, new.filename, new.purpose, new.mime_type, new.bytes,
              new.crc64nvme, new.md5, new.created_at, new.expires_at)
          is distinct from (old.id, old.project_id, old.filename, old.purpose, old.mime_type, old.bytes,
              old.crc64nvme, old.md5, old.created_at, old.expires_at))
    execute function refuse('a file never changes, but that it is deleted once');

create trigger file_leaves_only_deleted before delete on file for each row
    when (old.deleted_at is null)
    execute function refuse('a file is marked as deleted before its row goes');

-- Parts ---------------------------------------------------------------------------------------

create trigger part_begins_being_received before insert on part for each row
    when (new.state <> 'receiving' or new.byte_offset is not null or new.multipart_id is not null)
    execute function refuse('a part begins as receiving, with nothing known of it');

create trigger part_goes_forward before update on part for each row
    when (not (new.state = old.state
               or (old.state = 'receiving' and new.state in ('stored', 'garbage'))
               or (old.state = 'stored' and new.state = 'garbage')))
    execute function refuse('a part goes from receiving to stored to garbage, never back');

create trigger part_keeps_what_it_is before update on part for each row
    when ((new.id, new.upload_id, new.created_at) is distinct from (old.id, old.upload_id, old.created_at)
          or (old.multipart_id is not null and new.multipart_id is distinct from old.multipart_id)
          or (old.state <> 'receiving' and (new.bytes, new.crc64nvme, new.multipart_id)
              is distinct from (old.bytes, old.crc64nvme, old.multipart_id))
          or (old.state = 'receiving' and new.state <> 'stored' and new.bytes is not null)
          or (old.byte_offset is not null and new.byte_offset is distinct from old.byte_offset)
          or (old.state <> 'stored' and new.byte_offset is distinct from old.byte_offset))
    execute function refuse('a stored part and its place in a manifest never change');

create trigger part_leaves_only_as_garbage before delete on part for each row
    when (old.state <> 'garbage')
    execute function refuse('a part is marked as garbage before its row goes');

-- What a part may do depends on its Upload. The row lock makes a transition of the Upload and a
-- change of its parts follow one another.
create function part_needs_a_pending_upload() returns trigger language plpgsql as $$
begin
    perform from upload where id in (select upload_id from changed) and status = 'pending' for share;
    if exists (select from changed
               join upload on upload.id = changed.upload_id
               where upload.status <> 'pending') then
        raise exception using
            errcode = 'integrity_constraint_violation',
            message = 'part_needs_a_pending_upload: only a pending upload takes parts',
            constraint = 'part_needs_a_pending_upload',
            table = 'part';
    end if;
    return null;
end
$$;

create trigger part_needs_a_pending_upload after insert on part
    referencing new table as changed
    for each statement execute function part_needs_a_pending_upload();

-- What was is taken away from what is by `except`, not joined to it: a session keeps the plan of the
-- first use, perhaps of one row, and a nested loop over ten thousand takes seconds.
create function part_change_fits_its_upload() returns trigger language plpgsql as $$
declare
    filled uuid[] := array(
        select distinct upload_id
        from ((select upload_id, id, 'stored' from changed where state = 'stored'
               union all select upload_id, id, 'placed' from changed where byte_offset is not null)
              except
              (select upload_id, id, 'stored' from was where state = 'stored'
               union all select upload_id, id, 'placed' from was where byte_offset is not null)) news);
begin
    if exists (select from upload where id = any(filled) and status <> 'pending') then
        raise exception using
            errcode = 'integrity_constraint_violation',
            message = 'part_change_fits_its_upload: only a pending upload stores parts and places them in its manifest',
            constraint = 'part_change_fits_its_upload',
            table = 'part';
    end if;
    if exists (select from (select upload_id, id from changed where state = 'garbage' and byte_offset is not null
                            except select upload_id, id from was where state = 'garbage') going
               left join file on file.id = going.upload_id
               where file.deleted_at is null) then
        raise exception using
            errcode = 'integrity_constraint_violation',
            message = 'part_change_fits_its_upload: a part of a file that is not deleted is not garbage',
            constraint = 'part_change_fits_its_upload',
            table = 'part';
    end if;
    return null;
end
$$;

create trigger part_change_fits_its_upload after update on part
    referencing old table as was new table as changed
    for each statement execute function part_change_fits_its_upload();

-- Completion ----------------------------------------------------------------------------------

-- Checked when the transaction commits: a completed Upload has its File, and the File's manifest
-- begins at 0, has no gap and no overlap, and adds up to the declared bytes.
create function completed_upload_has_its_file() returns trigger language plpgsql as $$
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
    select coalesce(sum(bytes), 0), coalesce(bool_and(byte_offset = start), true)
    into total, dense
    from (select bytes, byte_offset, sum(bytes) over (order by byte_offset) - bytes as start
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

create constraint trigger completed_upload_has_its_file after update on upload
    deferrable initially deferred for each row
    when (new.status = 'completed' and old.status <> 'completed')
    execute function completed_upload_has_its_file();

create function file_has_its_completed_upload() returns trigger language plpgsql as $$
begin
    if not exists (select from upload where id = new.id and status = 'completed') then
        raise exception using
            errcode = 'integrity_constraint_violation',
            message = 'file_has_its_completed_upload: only a completed upload has a file',
            constraint = 'file_has_its_completed_upload',
            table = 'file';
    end if;
    return null;
end
$$;

create constraint trigger file_has_its_completed_upload after insert on file
    deferrable initially deferred for each row
    execute function file_has_its_completed_upload();

create function file_leaves_with_its_upload() returns trigger language plpgsql as $$
begin
    if exists (select from upload where id = old.id) then
        raise exception using
            errcode = 'integrity_constraint_violation',
            message = 'file_leaves_with_its_upload: a file and its upload are forgotten together',
            constraint = 'file_leaves_with_its_upload',
            table = 'file';
    end if;
    return null;
end
$$;

create constraint trigger file_leaves_with_its_upload after delete on file
    deferrable initially deferred for each row
    execute function file_leaves_with_its_upload();

-- Some microseconds a Part, when a manifest is written: without its File it could neither be used nor go.
create function part_is_placed_with_its_file() returns trigger language plpgsql as $$
begin
    if not exists (select from upload where id = new.upload_id and status = 'completed') then
        raise exception using
            errcode = 'integrity_constraint_violation',
            message = 'part_is_placed_with_its_file: a part is placed in the transaction that completes its upload',
            constraint = 'part_is_placed_with_its_file',
            table = 'part';
    end if;
    return null;
end
$$;

create constraint trigger part_is_placed_with_its_file after update on part
    deferrable initially deferred for each row
    when (old.byte_offset is null and new.byte_offset is not null)
    execute function part_is_placed_with_its_file();

-- Leaving -------------------------------------------------------------------------------------

-- Checked when the transaction commits: what ends without a File, is left over by one, or was in a
-- deleted one, has been written down as garbage. Nobody would look for it later.
create function what_is_over_holds_only_garbage() returns trigger language plpgsql as $$
begin
    if exists (select from part
               where upload_id = new.id and state <> 'garbage'
                 and (byte_offset is null or not exists (select from file where id = new.id and deleted_at is null))) then
        raise exception using
            errcode = 'integrity_constraint_violation',
            message = format('%s: what is not in a file becomes garbage in the same transaction', tg_name),
            constraint = tg_name,
            table = tg_table_name;
    end if;
    return null;
end
$$;

create constraint trigger ended_upload_holds_only_garbage after update on upload
    deferrable initially deferred for each row
    when (old.status = 'pending' and new.status <> 'pending')
    execute function what_is_over_holds_only_garbage();

create constraint trigger deleted_file_holds_only_garbage after update on file
    deferrable initially deferred for each row
    when (old.deleted_at is null and new.deleted_at is not null)
    execute function what_is_over_holds_only_garbage();
