-- What a newer version might do to a schema that this version uses: it adds a column to every table, with a value that
-- this version does not set, an index, a table and a trigger that fills it.
do $$
declare
    statement text;
begin
    for statement in
        select format('alter table %I add column of_a_newer_version text not null default %L', relname, 'new')
        from pg_class
        where relnamespace = 'public'::regnamespace and relkind = 'r' and relname <> 'refinery_schema_history'
        order by relname
    loop
        execute statement;
    end loop;
end
$$;

create index file_of_a_newer_version on file (of_a_newer_version, id);

create table file_event (id uuid not null, happened_at timestamptz not null default now());

create function write_file_event() returns trigger language plpgsql as $$
begin
    insert into file_event (id) values (new.id);
    return null;
end
$$;

create trigger file_writes_an_event after insert on file for each row execute function write_file_event();
