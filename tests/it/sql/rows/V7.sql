-- A linked store.
insert into store (id, linked_at) values ('00000007-0000-7000-8000-000000000001', now());
