-- URLs that were used: for a download, and for an upload whose file is gone.
insert into used_url (id, used_by, expires_at)
values ('00000011-0000-7000-8000-000000000001', gen_random_uuid(), now() + interval '1 hour'),
       ('00000011-0000-7000-8000-000000000002', '00000011-0000-7000-8000-000000000003', now() + interval '1 hour');
