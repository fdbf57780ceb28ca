-- The SHA-2 digests that were sent with the bytes of a file.

-- The next migration validates the constraints, since that reads the whole table.
alter table file
    add column sha256 bytea,
    add column sha512 bytea,
    add constraint file_sha256_check check (octet_length(sha256) = 32) not valid,
    add constraint file_sha512_check check (octet_length(sha512) = 64) not valid;

-- As before, but with the new columns.
drop trigger file_only_ever_becomes_deleted on file;
create trigger file_only_ever_becomes_deleted before update on file for each row
    when (old.deleted_at is not null or new.deleted_at is null
          or (new.id, new.project_id, new.filename, new.purpose, new.mime_type, new.bytes, new.crc64nvme, new.md5,
              new.sha256, new.sha512, new.created_at, new.expires_at, new.manifest, new.offsets)
          is distinct from (old.id, old.project_id, old.filename, old.purpose, old.mime_type, old.bytes, old.crc64nvme,
              old.md5, old.sha256, old.sha512, old.created_at, old.expires_at, old.manifest, old.offsets))
    execute function refuse('a file never changes, but that it is deleted once');
