-- The store that this ledger's objects are in: an id that the store holds as well, in an object of its own, so
-- that neither is ever used with another one. `linked_at` is set once that object has been written.
create table store (
    id         uuid primary key,
    created_at timestamptz not null default now(),
    linked_at  timestamptz
);

-- One store a ledger. A ledger that moves its objects to another store would drop this index and name each
-- object's store in its row.
create unique index store_is_the_only_one on store ((true));

create trigger store_keeps_its_identity before update on store for each row
    when ((new.id, new.created_at) is distinct from (old.id, old.created_at)
          or (old.linked_at is not null and new.linked_at is distinct from old.linked_at))
    execute function refuse('the identity of a store never changes; another one takes its place');
