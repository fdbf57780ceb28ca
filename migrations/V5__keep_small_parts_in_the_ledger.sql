-- The bytes of a small part, in its own row: as durable as the ledger, and no object in the store. A larger
-- one has its bytes in an object and nothing here. What is too long for a page goes beside the table,
-- uncompressed: it is written once, and read as it is.
alter table part
    add column content bytea,
    alter column content set storage external,
    add constraint part_content_is_all_of_it check (octet_length(content) = bytes),
    add constraint part_content_is_small check (octet_length(content) <= 65536),
    add constraint part_content_has_no_object check (
        content is null or (state in ('stored', 'garbage') and multipart_id is null)
    );

drop trigger part_begins_being_received on part;

create trigger part_begins_being_received before insert on part for each row
    when (new.byte_offset is not null or new.multipart_id is not null
          or (new.state <> 'receiving' and (new.state <> 'stored' or new.content is null)))
    execute function refuse('a part begins as receiving, with nothing known of it, or as stored, with its content');

-- Asked only where a statement sets the content, which none does: to compare it at every change would be to read it.
create trigger part_content_never_changes before update of content on part for each row
    when (new.content is distinct from old.content)
    execute function refuse('the content of a part is written with its row, or never');
