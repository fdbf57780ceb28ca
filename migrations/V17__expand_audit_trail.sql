-- The audit trail: who did what, when and from where. It refers to nothing, so that it outlives what it is about.

create table audit_event (
    id uuid primary key,
    at timestamptz not null default clock_timestamp(),
    action text not null check (action in (
        'upload.create', 'upload.list', 'upload.retrieve', 'upload.add_part', 'upload.list_parts', 'upload.complete',
        'upload.cancel', 'file.create', 'file.list', 'file.retrieve', 'file.read', 'file.delete', 'signed_url.create',
        'signed_url.rotate_secret', 'usage.retrieve', 'key.create', 'key.change', 'key.revoke', 'project.create',
        'project.change'
    )),
    outcome text not null check (outcome in ('ok', 'denied', 'failed', 'unknown')),
    -- The status of the response, if there was one.
    status integer check (status between 100 and 599),
    via text not null check (via in ('key', 'signed_url', 'command_line')),
    -- The key that was used, or that signed the URL.
    key_id uuid,
    -- Who ran a command: user@host.
    operator text check (octet_length(operator) between 1 and 320),
    -- The name of the project.
    project text check (octet_length(project) between 1 and 128),
    -- The id of the object, as in the API.
    object text check (octet_length(object) between 1 and 64),
    -- The address of the client's connection.
    address inet,
    -- The end of the header Forwarded or X-Forwarded-For, as it was sent.
    forwarded_for text check (octet_length(forwarded_for) between 1 and 256),
    request_id text check (octet_length(request_id) between 1 and 128),
    -- The beginning of the header User-Agent, as it was sent.
    user_agent text check (octet_length(user_agent) between 1 and 256),
    constraint audit_event_has_one_actor check ((key_id is null) = (via = 'command_line')),
    constraint audit_event_of_a_command_has_its_operator check ((operator is not null) = (via = 'command_line'))
);

create index audit_event_by_time on audit_event (at, id);

create trigger audit_event_never_changes before update on audit_event for each row
    execute function refuse('what has happened does not change');
