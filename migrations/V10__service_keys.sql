-- Service keys, which act for several projects, and scopes, expiry and last use of keys.

-- Gateways name projects after their tenants, such as by an email address.
alter table project drop constraint project_name_check;
alter table project add constraint project_name_check check (name ~ '^[A-Za-z0-9][A-Za-z0-9._@:+-]{0,127}$');

alter table api_key
    alter column project_id drop not null,
    -- Patterns of the names of the projects that a service key may act for; null for a key of one project.
    add column acts_for text[],
    -- Whether a service key creates a project that it may act for and that does not exist.
    add column creates_projects boolean not null default false,
    add column scopes text[] not null default '{read,write}',
    add column expires_at timestamptz,
    -- Updated about every ten minutes while the key is in use.
    add column last_used_at timestamptz,
    add constraint api_key_acts_for_one_project_or_for_patterns check ((project_id is null) = (acts_for is not null)),
    add constraint api_key_acts_for_at_least_one_pattern check (cardinality(acts_for) between 1 and 100),
    add constraint api_key_of_a_project_creates_none check (acts_for is not null or not creates_projects),
    add constraint api_key_has_known_scopes check (cardinality(scopes) > 0 and scopes <@ '{read,write}'),
    add constraint api_key_expires_after_it_was_created check (expires_at > created_at);
