//! Statements that violate the rules of the table `part`.

use super::{Fixed, Rule};

const LATER: (&str, &str) = ("not_before", "part_is_due_exactly_when_garbage");
const RETRIES: (&str, &str) = ("attempts", "part_is_retried_only_as_garbage");
const REASON: (&str, &str) = ("last_error", "part_is_retried_only_as_garbage");
const CHECKSUM: (&str, &str) = ("crc64nvme", "part_has_its_size_and_checksum_together");
const MD5: (&str, &str) = ("md5_state", "part_has_an_md5_only_once_stored");
const FOLLOWS: (&str, &str) = ("md5_follows", "part_has_an_md5_only_once_stored");

/// Content can be neither changed nor added later.
const CONTENT: (&str, &str) = ("content", "part_content_never_changes");

pub(super) const FIXED: &[Fixed] = &[
    Fixed {
        table: "part",
        row: "receiving",
        along: "",
        but: &["state", "multipart_id"],
        refused_by: "part_keeps_what_it_is",
        or_by: &[LATER, RETRIES, REASON, CHECKSUM, MD5, FOLLOWS, CONTENT],
    },
    Fixed {
        table: "part",
        row: "in_pieces",
        along: "",
        but: &["state"],
        refused_by: "part_keeps_what_it_is",
        or_by: &[LATER, RETRIES, REASON, CHECKSUM, MD5, FOLLOWS, CONTENT],
    },
    Fixed {
        table: "part",
        row: "linked",
        along: "",
        but: &["state"],
        refused_by: "part_keeps_what_it_is",
        or_by: &[LATER, RETRIES, REASON, CONTENT],
    },
    Fixed {
        table: "part",
        row: "stored",
        along: "",
        but: &["state"],
        refused_by: "part_keeps_what_it_is",
        or_by: &[LATER, RETRIES, REASON, CONTENT],
    },
    Fixed {
        table: "part",
        row: "kept",
        along: "",
        but: &["state"],
        refused_by: "part_keeps_what_it_is",
        or_by: &[LATER, RETRIES, REASON, CONTENT],
    },
    Fixed {
        table: "part",
        row: "kept_leaving",
        along: "",
        but: &["state", "not_before", "attempts", "last_error"],
        refused_by: "part_keeps_what_it_is",
        or_by: &[CONTENT],
    },
    Fixed {
        table: "part",
        row: "placed",
        along: "",
        but: &["state"],
        refused_by: "part_keeps_what_it_is",
        or_by: &[LATER, RETRIES, REASON, CONTENT],
    },
    Fixed {
        table: "part",
        row: "abandoned",
        along: "",
        but: &["state", "not_before", "attempts", "last_error"],
        refused_by: "part_keeps_what_it_is",
        or_by: &[CONTENT],
    },
    Fixed {
        table: "part",
        row: "leaving",
        along: "",
        but: &["state", "not_before", "attempts", "last_error"],
        refused_by: "part_keeps_what_it_is",
        or_by: &[CONTENT],
    },
];

pub(super) const RULES: &[Rule] = &[
    ("part_pkey", &["insert into part (id, upload_id) values (receiving(), empty())"]),
    (
        "part_upload_id_fkey",
        &[
            "insert into part (id, upload_id) values (gen_random_uuid(), gen_random_uuid())",
            "delete from upload where id = cancelled()",
            "with going as (delete from file where id = deleted()) delete from upload where id = deleted()",
        ],
    ),
    (
        "part_state_check",
        &[
            // The triggers, which would refuse it first, are disabled.
            "set local session_replication_role = replica;
             update part set state = 'lost' where id = receiving()",
            "set local session_replication_role = replica;
             insert into part (id, upload_id, state) values (gen_random_uuid(), empty(), '')",
        ],
    ),
    ("part_bytes_check", &["select store(receiving(), 0)", "select store(receiving(), -1)"]),
    ("part_attempts_check", &["update part set attempts = -1 where id = abandoned()"]),
    (
        "part_has_its_size_and_checksum_together",
        &[
            "update part set state = 'stored', bytes = 10 where id = receiving()",
            "update part set state = 'stored', crc64nvme = 10 where id = receiving()",
        ],
    ),
    (
        "part_being_received_has_no_size",
        &["insert into part (id, upload_id, bytes, crc64nvme) values (gen_random_uuid(), empty(), 1, 1)"],
    ),
    ("part_stored_has_its_size", &["update part set state = 'stored' where id = receiving()"]),
    (
        "part_has_an_md5_only_once_stored",
        &[
            "update part set md5_state = '\\x01' where id = receiving()",
            "update part set state = 'stored', bytes = 1, crc64nvme = 1, md5_follows = stored() where id = receiving()",
            "update part set state = 'stored', bytes = 1, crc64nvme = 1, md5_state = '' where id = receiving()",
            "update part set state = 'stored', bytes = 1, crc64nvme = 1, md5_state = decode(repeat('01', 257), 'hex')
             where id = receiving()",
        ],
    ),
    (
        "part_is_due_exactly_when_garbage",
        &[
            "update part set state = 'garbage' where id = receiving()",
            "update part set state = 'garbage' where id = stored()",
            "update part set not_before = null where id = abandoned()",
            "update part set not_before = now() where id = stored()",
            "insert into part (id, upload_id, not_before) values (gen_random_uuid(), empty(), now())",
        ],
    ),
    (
        "part_is_retried_only_as_garbage",
        &[
            "update part set attempts = 1 where id = stored()",
            "update part set last_error = 'x' where id = receiving()",
            "insert into part (id, upload_id, attempts) values (gen_random_uuid(), empty(), 1)",
        ],
    ),
    (
        "part_begins_being_received",
        &[
            "insert into part (id, upload_id, state, bytes, crc64nvme) values (gen_random_uuid(), empty(), 'stored', 1, 1)",
            "insert into part (id, upload_id, state, not_before) values (gen_random_uuid(), empty(), 'garbage', now())",
            "insert into part (id, upload_id, multipart_id) values (gen_random_uuid(), empty(), 'm')",
            "insert into part (id, upload_id, state, bytes, crc64nvme, content, multipart_id)
             values (gen_random_uuid(), empty(), 'stored', 1, 1, 'a', 'm')",
            "insert into part (id, upload_id, state, bytes, crc64nvme, content, not_before)
             values (gen_random_uuid(), empty(), 'garbage', 1, 1, 'a', now())",
        ],
    ),
    (
        "part_content_is_all_of_it",
        &[
            "insert into part (id, upload_id, state, bytes, crc64nvme, content)
             values (gen_random_uuid(), empty(), 'stored', 2, 1, 'a')",
            "insert into part (id, upload_id, state, bytes, crc64nvme, content)
             values (gen_random_uuid(), empty(), 'stored', 2, 1, 'abc')",
        ],
    ),
    (
        "part_content_is_small",
        &["insert into part (id, upload_id, state, bytes, crc64nvme, content)
           values (gen_random_uuid(), empty(), 'stored', 65537, 1, repeat('a', 65537)::bytea)"],
    ),
    (
        "part_content_has_no_object",
        &[
            "insert into part (id, upload_id, content) values (gen_random_uuid(), empty(), '')",
            // The triggers, which would refuse it first, are disabled.
            "set local session_replication_role = replica;
             update part set multipart_id = 'm' where id = kept()",
        ],
    ),
    (
        "part_content_never_changes",
        &[
            "update part set content = 'abd' where id = kept()",
            "update part set content = null where id = kept()",
            "update part set content = 'ten bytes.' where id = stored()",
            "update part set state = 'stored', bytes = 1, crc64nvme = 1, content = 'a' where id = receiving()",
            "update part set state = 'garbage', not_before = now(), content = null where id = kept()",
            "update part set content = null where id = kept_leaving()",
        ],
    ),
    (
        "part_goes_forward",
        &[
            "update part set state = 'receiving', bytes = null, crc64nvme = null where id = stored()",
            "update part set state = 'receiving', not_before = null, attempts = 0, last_error = null where id = abandoned()",
            "update part set state = 'stored', bytes = 1, crc64nvme = 1, not_before = null where id = abandoned()",
            "update part set state = 'stored', not_before = null where id = discarded()",
            "update part set state = 'stored', not_before = null where id = leaving()",
            "update part set state = 'lost' where id = receiving()",
        ],
    ),
    (
        "part_keeps_what_it_is",
        &[
            "update part set upload_id = elsewhere() where id = stored()",
            "update part set state = 'garbage', not_before = now(), bytes = bytes + 1 where id = stored()",
            "update part set state = 'garbage', not_before = now(), bytes = 1, crc64nvme = 1 where id = receiving()",
            "update part set state = 'stored', bytes = 1, crc64nvme = 1, multipart_id = 'other' where id = in_pieces()",
            "update part set md5_state = null, md5_follows = null where id = linked()",
        ],
    ),
    (
        "part_leaves_only_as_garbage",
        &[
            "delete from part where id = receiving()",
            "delete from part where id = stored()",
            "delete from part where id = placed()",
            "delete from part where id = kept()",
        ],
    ),
    (
        "part_needs_a_pending_upload",
        &[
            "insert into part (id, upload_id) values (gen_random_uuid(), completed())",
            "insert into part (id, upload_id) values (gen_random_uuid(), cancelled())",
            "insert into part (id, upload_id) values (gen_random_uuid(), expired())",
            "insert into part (id, upload_id) values (gen_random_uuid(), empty()), (gen_random_uuid(), cancelled())",
            "insert into part (id, upload_id, state, bytes, crc64nvme, content)
             values (gen_random_uuid(), cancelled(), 'stored', 1, 1, 'a')",
        ],
    ),
    (
        "part_change_fits_its_upload",
        &[
            // A Part becomes stored only while its Upload is pending.
            "select end_as(filling(), 'cancelled'); select store(receiving(), 10)",
            "select end_as(filling(), 'expired'); select store(receiving(), 10)",
            "select make_file(filling(), manifest => array[stored(), stored_too()]), end_as(filling(), 'completed');
             select store(receiving(), 10)",
            // The Parts of a File cannot be discarded before the File is deleted.
            "select discard(placed())",
            "select discard(placed_next())",
            "update part set state = 'garbage', not_before = now() where id in (stored(), placed())",
            "select complete(filling(), array[stored(), stored_too()]); select discard(stored())",
        ],
    ),
];
