-- Counts what existed before V12 in one statement, whose snapshot has both the rows and the counters. It locks neither
-- uploads nor files, so that replicas of the previous version are not blocked.
insert into usage_counter as counter (project_id, shard, bytes, pending_uploads, pending_forms, files)
select project_id, 0, bytes, pending_uploads, pending_forms, files from usage_difference order by project_id
on conflict (project_id, shard) do update
set bytes = counter.bytes + excluded.bytes,
    pending_uploads = counter.pending_uploads + excluded.pending_uploads,
    pending_forms = counter.pending_forms + excluded.pending_forms,
    files = counter.files + excluded.files;
