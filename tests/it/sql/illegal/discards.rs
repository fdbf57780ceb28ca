//! Statements that violate the rules of the table `unfinished_discard`.

use super::Rule;

pub(super) const RULES: &[Rule] = &[
    ("unfinished_discard_pkey", &["insert into unfinished_discard (upload_id) values (cancelled()), (cancelled())"]),
    (
        "unfinished_discard_upload_id_fkey",
        &[
            "insert into unfinished_discard (upload_id) values (gen_random_uuid())",
            "insert into unfinished_discard (upload_id) values (expired()); delete from upload where id = expired()",
        ],
    ),
    ("unfinished_discard_follows_an_end", &["insert into unfinished_discard (upload_id) values (filling())"]),
    (
        "unfinished_discard_never_changes",
        &[
            "insert into unfinished_discard (upload_id) values (cancelled());
             update unfinished_discard set upload_id = expired()",
            "insert into unfinished_discard (upload_id) values (cancelled());
             update unfinished_discard set created_at = created_at - interval '1 day'",
        ],
    ),
    (
        "unfinished_discard_ends_with_the_last_part",
        &[
            // A cancelled upload still has parts that are not garbage.
            "select end_as(filling(), 'cancelled'); insert into unfinished_discard (upload_id) values (filling());
             select discard(stored()); delete from unfinished_discard",
            // A completed upload still has a part that is not in its file.
            "select make_file(filling(), manifest => array[stored(), stored_too()]), end_as(filling(), 'completed');
             insert into unfinished_discard (upload_id) values (filling()); delete from unfinished_discard",
            // A deleted file still has a part.
            "insert into unfinished_discard (upload_id) values (completed());
             update file set deleted_at = now() where id = completed(); delete from unfinished_discard",
        ],
    ),
];
