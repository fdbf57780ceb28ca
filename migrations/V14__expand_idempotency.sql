-- Idempotency keys, and the SHA-2 digests that were sent with the bytes of a file.

create table idempotency_key (
    project_id uuid not null references project,
    key text not null check (octet_length(key) between 1 and 255),
    -- The SHA-256 of what the request asks for, including its content.
    fingerprint bytea not null check (octet_length(fingerprint) = 32),
    -- The Upload, Part or File that the request created, which may be gone by now.
    created_id uuid not null,
    -- The body of the response.
    response text not null,
    -- The row is inserted in the transaction of the creation, and deleted after this time.
    expires_at timestamptz not null,
    primary key (project_id, key)
);

create index idempotency_key_by_expiry on idempotency_key (expires_at);

alter table file
    add column sha256 bytea check (octet_length(sha256) = 32),
    add column sha512 bytea check (octet_length(sha512) = 64);

-- As before, but with the new columns.
drop trigger file_only_ever_becomes_deleted on file;
create trigger file_only_ever_becomes_deleted before update on file for each row
    when (old.deleted_at is not null or new.deleted_at is null
          or (new.id, new.project_id, new.filename, new.purpose, new.mime_type, new.bytes, new.crc64nvme, new.md5,
              new.sha256, new.sha512, new.created_at, new.expires_at, new.manifest, new.offsets)
          is distinct from (old.id, old.project_id, old.filename, old.purpose, old.mime_type, old.bytes, old.crc64nvme,
              old.md5, old.sha256, old.sha512, old.created_at, old.expires_at, old.manifest, old.offsets))
    execute function refuse('a file never changes, but that it is deleted once');
