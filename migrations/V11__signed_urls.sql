-- Signed URLs: the secrets that sign them, and the use of those that can be used only once.

create table url_secret (
    id uuid primary key,
    secret bytea not null check (length(secret) = 32),
    -- Processes sign with the newest secret of which this time has passed; by then, all of them have loaded it.
    signs_from timestamptz not null default now()
);

-- 244 random bits of the cryptographic generator behind gen_random_uuid.
insert into url_secret (id, secret)
values (gen_random_uuid(), decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

create table used_url (
    id uuid primary key,
    -- The request that used it: for an upload, the id of the File that it created, which may be deleted by now.
    used_by uuid not null,
    -- When the URL expires. The row is deleted after that.
    expires_at timestamptz not null
);

create index used_url_by_expiry on used_url (expires_at);
