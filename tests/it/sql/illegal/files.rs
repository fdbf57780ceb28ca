//! Statements that violate the rules of the table `file`.

use super::{Fixed, Rule};

pub(super) const FIXED: &[Fixed] = &[
    Fixed {
        table: "file",
        row: "completed",
        along: "",
        but: &["deleted_at"],
        refused_by: "file_only_ever_becomes_deleted",
        or_by: &[],
    },
    Fixed {
        table: "file",
        row: "completed",
        along: "deleted_at = now(), ",
        but: &["deleted_at"],
        refused_by: "file_only_ever_becomes_deleted",
        or_by: &[],
    },
    Fixed {
        table: "file",
        row: "deleted",
        along: "",
        but: &[],
        refused_by: "file_only_ever_becomes_deleted",
        or_by: &[],
    },
];

pub(super) const RULES: &[Rule] = &[
    // An Upload has at most one File, including a deleted one.
    ("file_pkey", &["select make_file(completed(), manifest => array[placed()])", "select make_file(gone())"]),
    (
        "file_id_fkey",
        &[
            "insert into file (id, project_id, filename, purpose, mime_type, bytes, manifest, offsets, crc64nvme, created_at)
             values (gen_random_uuid(), busy_project(), 'a', 'batch', 'text/plain', 0, '{}', '{}', 0, now())",
            "delete from upload where id = gone()",
        ],
    ),
    ("file_project_id_fkey", &["select make_file(empty(), project_id => gen_random_uuid())"]),
    ("file_bytes_check", &["select make_file(empty(), bytes => -1)"]),
    (
        "file_md5_check",
        &[
            "select make_file(empty(), md5 => '')",
            "select make_file(empty(), md5 => decode(repeat('00', 15), 'hex'))",
            "select make_file(empty(), md5 => decode(repeat('00', 17), 'hex'))",
        ],
    ),
    (
        "file_sha256_check",
        &["insert into file (id, project_id, filename, purpose, mime_type, bytes, manifest, offsets, crc64nvme, created_at, sha256)
           select id, project_id, filename, purpose, mime_type, bytes, '{}', '{}', 0, created_at, substr(sha256(''), 2) from upload where id = empty()"],
    ),
    (
        "file_sha512_check",
        &["insert into file (id, project_id, filename, purpose, mime_type, bytes, manifest, offsets, crc64nvme, created_at, sha512)
           select id, project_id, filename, purpose, mime_type, bytes, '{}', '{}', 0, created_at, sha256('') from upload where id = empty()"],
    ),
    (
        "file_expires_after_it_was_created",
        &[
            "select make_file(empty(), expires_at => created_at) from upload where id = empty()",
            "select make_file(empty(), expires_at => now() - interval '1 day')",
        ],
    ),
    (
        "file_has_parts_exactly_when_it_has_bytes",
        &["select make_file(filling())", "select make_file(empty(), manifest => array[stored()])"],
    ),
    (
        "file_has_an_offset_for_each_part",
        &[
            "select make_file(filling(), manifest => array[stored(), stored_too()], offsets => '{0}')",
            "select make_file(filling(), manifest => array[stored(), stored_too()], offsets => '{0, 10, 30}')",
            "select make_file(filling(), manifest => array[stored()], offsets => '{}')",
        ],
    ),
    (
        "file_begins_with_its_first_part",
        &[
            "select make_file(filling(), manifest => array[stored(), stored_too()], offsets => '{1, 11}')",
            "select make_file(filling(), manifest => array[stored(), stored_too()], offsets => '[2:3]={0, 10}')",
        ],
    ),
    (
        "file_begins_present",
        &["insert into file (id, project_id, filename, purpose, mime_type, bytes, manifest, offsets, crc64nvme, created_at, deleted_at)
           select id, project_id, filename, purpose, mime_type, bytes, '{}', '{}', 0, created_at, now() from upload where id = empty()"],
    ),
    (
        "file_only_ever_becomes_deleted",
        &[
            "update file set deleted_at = null where id = deleted()",
            "update file set deleted_at = now() + interval '1 day' where id = deleted()",
            "update file set deleted_at = now(), filename = 'b' where id = completed()",
            "update file set deleted_at = now(), project_id = keyed_project() where id = completed()",
            "update file set deleted_at = now(), manifest = '{}', offsets = '{}' where id = completed()",
        ],
    ),
    ("deleted_file_holds_only_garbage", &["update file set deleted_at = now() where id = completed()"]),
    ("file_leaves_only_deleted", &["delete from file where id = completed()"]),
    (
        "file_leaves_with_its_upload",
        &["delete from file where id = gone()", "delete from file where id = deleted()"],
    ),
    (
        "file_has_its_completed_upload",
        &[
            "select make_file(empty())",
            "select make_file(filling(), manifest => array[stored(), stored_too()])",
            "select make_file(declared_form())",
            "select make_file(cancelled(), manifest => array[discarded()])",
            "select make_file(expired(), manifest => array[discarded()])",
            "select make_file(empty()), end_as(empty(), 'cancelled')",
        ],
    ),
];
