-- Idempotency keys of requests that create something, with their responses.

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
