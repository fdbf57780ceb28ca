-- Whether the last completion in a project came with an md5: then it pays to compute it as the parts come.
alter table project add column completes_with_md5 boolean not null default false;

-- The MD5 under way, from the beginning of the file to the end of this part, if it comes after
-- `md5_follows` (first, where that is null). Its first byte names its format. Of no use once the part is placed.
alter table part
    add column md5_state bytea,
    add column md5_follows uuid,
    add constraint part_has_an_md5_only_between_stored_and_placed check (
        case when md5_state is null then md5_follows is null
             else bytes is not null and byte_offset is null and octet_length(md5_state) between 1 and 256 end
    );

drop trigger part_keeps_what_it_is on part;

create trigger part_keeps_what_it_is before update on part for each row
    when ((new.id, new.upload_id, new.created_at) is distinct from (old.id, old.upload_id, old.created_at)
          or (old.multipart_id is not null and new.multipart_id is distinct from old.multipart_id)
          or (old.state <> 'receiving' and (new.bytes, new.crc64nvme, new.multipart_id)
              is distinct from (old.bytes, old.crc64nvme, old.multipart_id))
          or (old.state = 'receiving' and new.state <> 'stored' and new.bytes is not null)
          or (old.byte_offset is not null and new.byte_offset is distinct from old.byte_offset)
          or (old.state <> 'stored' and new.byte_offset is distinct from old.byte_offset)
          or (old.state <> 'receiving' and new.byte_offset is not distinct from old.byte_offset
              and (new.md5_state, new.md5_follows) is distinct from (old.md5_state, old.md5_follows)))
    execute function refuse('a stored part and its place in a manifest never change');
