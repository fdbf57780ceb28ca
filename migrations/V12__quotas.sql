-- Quotas: how much each project may use, and what it uses, counted by triggers; rates of keys, and lifetimes of files.

-- A null limit is the default in the service's settings; 9223372036854775807 is unlimited.
alter table project
    add column max_bytes bigint,
    add column max_pending_uploads bigint,
    add column max_files bigint,
    -- Items are `purpose=seconds`, or `*=seconds` for the other purposes. They take precedence over the settings.
    add column default_file_lifetimes text[] not null default '{}',
    add column longest_file_lifetimes text[] not null default '{}',
    add constraint project_limits_are_not_negative check (least(max_bytes, max_pending_uploads, max_files) >= 0),
    add constraint project_lifetimes_are_of_purposes check (
        array_to_string(default_file_lifetimes || longest_file_lifetimes || '{*=1}', ',', '?')
            ~ '^(([a-z_-]+|\*)=[1-9][0-9]*(,|$))+$'
    );

alter table api_key
    add column max_requests_per_second bigint,
    add column max_bytes_per_second bigint,
    add constraint api_key_rates_are_positive check (least(max_requests_per_second, max_bytes_per_second) > 0);

-- What each project uses is the sum of its rows, of which a session changes only its own: transactions of a project
-- that commit at the same time do not wait for each other. A single row may be negative.
create table usage_counter (
    project_id      uuid not null references project,
    shard           smallint not null,
    -- The declared or reserved bytes of pending uploads, and the bytes of files.
    bytes           numeric not null,
    pending_uploads bigint not null,
    -- Uploads of POST /v1/files, which are hidden from clients. Each becomes a file.
    pending_forms   bigint not null,
    files           bigint not null,
    primary key (project_id, shard),
    constraint usage_counter_has_a_valid_shard check (shard between 0 and 15)
) with (fillfactor = 50);

create function add_usage(project uuid, more_bytes numeric, more_uploads bigint, more_forms bigint, more_files bigint)
returns void language plpgsql as $$
begin
    insert into usage_counter as counter (project_id, shard, bytes, pending_uploads, pending_forms, files)
    values (project, pg_backend_pid() % 16, more_bytes, more_uploads, more_forms, more_files)
    on conflict (project_id, shard) do update
    set bytes = counter.bytes + excluded.bytes,
        pending_uploads = counter.pending_uploads + excluded.pending_uploads,
        pending_forms = counter.pending_forms + excluded.pending_forms,
        files = counter.files + excluded.files;
end
$$;

-- A completed upload counts as its file until the file is deleted. The counters of several projects are changed in the
-- order of their ids, so that two statements do not wait for each other.
create function count_uploads() returns trigger language plpgsql as $$
begin
    -- As in `add_usage`, but with one statement for all projects: creations are the most frequent changes.
    insert into usage_counter as counter (project_id, shard, bytes, pending_uploads, pending_forms, files)
    select project_id, pg_backend_pid() % 16, coalesce(sum(bytes), 0), count(*) filter (where origin = 'client'),
           count(*) filter (where origin = 'form'), 0
    from changed group by project_id order by project_id
    on conflict (project_id, shard) do update
    set bytes = counter.bytes + excluded.bytes,
        pending_uploads = counter.pending_uploads + excluded.pending_uploads,
        pending_forms = counter.pending_forms + excluded.pending_forms;
    return null;
end
$$;

create function count_upload_changes() returns trigger language plpgsql as $$
begin
    perform add_usage(project_id, bytes, uploads, forms, files)
    from (select project_id, coalesce(sum(sign * bytes), 0) as bytes,
                 coalesce(sum(sign) filter (where status = 'pending' and origin = 'client'), 0) as uploads,
                 coalesce(sum(sign) filter (where status = 'pending' and origin = 'form'), 0) as forms,
                 coalesce(sum(sign) filter (where status = 'completed'), 0) as files
          from (select 1 as sign, project_id, origin, status, bytes from changed
                union all
                select -1, project_id, origin, status, bytes from was) both_sides
          where status in ('pending', 'completed')
          group by project_id order by project_id) change
    where bytes <> 0 or uploads <> 0 or forms <> 0 or files <> 0;
    return null;
end
$$;

-- A file changes only once, when it is deleted.
create function count_deleted_files() returns trigger language plpgsql as $$
begin
    perform add_usage(project_id, bytes, 0, 0, files)
    from (select project_id, -sum(bytes) as bytes, -count(*) as files
          from changed group by project_id order by project_id) deleted;
    return null;
end
$$;

create trigger upload_is_counted after insert on upload
    referencing new table as changed for each statement execute function count_uploads();

create trigger upload_change_is_counted after update on upload
    referencing old table as was new table as changed for each statement execute function count_upload_changes();

create trigger file_deletion_is_counted after update on file
    referencing new table as changed for each statement execute function count_deleted_files();

-- What each project uses, as counted.
create view project_usage as
select project.id as project_id, coalesce(sum(counter.bytes), 0) as bytes,
       coalesce(sum(counter.pending_uploads), 0)::bigint as pending_uploads,
       coalesce(sum(counter.pending_forms), 0)::bigint as pending_forms,
       coalesce(sum(counter.files), 0)::bigint as files
from project left join usage_counter counter on counter.project_id = project.id
group by project.id;

-- The projects whose uploads and files do not add up to what was counted, and what is missing in the counters.
create view usage_difference as
select project_id, bytes, pending_uploads, pending_forms, files
from (select project_id, sum(bytes) as bytes, sum(pending_uploads)::bigint as pending_uploads,
             sum(pending_forms)::bigint as pending_forms, sum(files)::bigint as files
      from (select project_id, coalesce(bytes, 0)::numeric as bytes, (origin = 'client')::int::bigint as pending_uploads,
                   (origin = 'form')::int::bigint as pending_forms, 0::bigint as files
            from upload where status = 'pending'
            union all
            select project_id, bytes, 0, 0, 1 from file where deleted_at is null
            union all
            select project_id, -bytes, -pending_uploads, -pending_forms, -files from usage_counter) both_sides
      group by project_id) difference
where bytes <> 0 or pending_uploads <> 0 or pending_forms <> 0 or files <> 0;

-- Whether a limit of a project, or else its default, limits anything.
create function is_limited(most bigint, default_most bigint) returns boolean immutable language sql
return nullif(coalesce(most, default_most), 9223372036854775807) is not null;

-- Of uploads that are about to be inserted (`ids`, with their projects and sizes), those that exceed a quota of their
-- project. The rest fits, and nothing else can use its space before the caller's transaction ends: the row of every
-- project with a limit is locked, in the order of ids. With `uploads_each` and `files_each` zero, only bytes are added.
create function quota_refusals(
    ids uuid[], projects uuid[], sizes bigint[], uploads_each integer, files_each integer,
    default_bytes bigint, default_pending_uploads bigint, default_files bigint
) returns table (refused uuid, quota text, used bigint, most bigint) language plpgsql as $$
declare
    unlimited constant bigint := 9223372036854775807;
    limits record;
    held record;
    wanted record;
begin
    for limits in
        select project.id,
               nullif(coalesce(max_bytes, default_bytes), unlimited) as bytes,
               nullif(coalesce(max_pending_uploads, default_pending_uploads), unlimited) as uploads,
               nullif(coalesce(max_files, default_files), unlimited) as files
        from project
        where project.id = any(projects)
          and (is_limited(max_bytes, default_bytes) or is_limited(max_pending_uploads, default_pending_uploads)
               or is_limited(max_files, default_files))
        order by project.id
        for no key update
    loop
        -- A new snapshot, which includes what the previous holder of the lock has committed.
        select bytes, pending_uploads as uploads, files + pending_uploads + pending_forms as files into held
        from project_usage where project_id = limits.id;
        for wanted in
            select id, size from unnest(ids, projects, sizes) with ordinality as asked (id, project, size, n)
            where project = limits.id order by n
        loop
            quota := case
                when uploads_each > 0 and held.uploads + uploads_each > limits.uploads then 'pending_uploads'
                when files_each > 0 and held.files + files_each > limits.files then 'files'
                when held.bytes + wanted.size > limits.bytes then 'bytes'
            end;
            if quota is null then
                held.bytes := held.bytes + wanted.size;
                held.uploads := held.uploads + uploads_each;
                held.files := held.files + files_each;
            else
                refused := wanted.id;
                used := case quota when 'pending_uploads' then held.uploads when 'files' then held.files
                                   else least(held.bytes, unlimited) end;
                most := case quota when 'pending_uploads' then limits.uploads when 'files' then limits.files
                                   else limits.bytes end;
                return next;
            end if;
        end loop;
    end loop;
end
$$;
