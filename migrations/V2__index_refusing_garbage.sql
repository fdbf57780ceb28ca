-- Objects that could not be deleted are counted by every sweep: finding them must not cost a look at
-- all that is to go.
create index part_refusing on part (id) where state = 'garbage' and last_error is not null;
