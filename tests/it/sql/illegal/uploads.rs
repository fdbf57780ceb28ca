//! Statements that violate the rules of the table `upload`.

use super::{Fixed, Rule};

pub(super) const FIXED: &[Fixed] = &[
    Fixed {
        table: "upload",
        row: "filling",
        along: "",
        but: &["status", "ended_at"],
        refused_by: "upload_keeps_what_it_is",
        or_by: &[],
    },
    Fixed {
        table: "upload",
        row: "declared_form",
        along: "",
        but: &["status", "ended_at", "filename", "purpose", "mime_type", "bytes", "file_lifetime_seconds"],
        refused_by: "upload_keeps_what_it_is",
        or_by: &[],
    },
    Fixed { table: "upload", row: "completed", along: "", but: &[], refused_by: "upload_end_is_final", or_by: &[] },
    Fixed { table: "upload", row: "cancelled", along: "", but: &[], refused_by: "upload_end_is_final", or_by: &[] },
    Fixed { table: "upload", row: "expired", along: "", but: &[], refused_by: "upload_end_is_final", or_by: &[] },
];

pub(super) const RULES: &[Rule] = &[
    (
        "upload_pkey",
        &["insert into upload (id, project_id, origin, expires_at)
           values (filling(), busy_project(), 'form', now() + interval '1 hour')"],
    ),
    (
        "upload_project_id_fkey",
        &[
            "insert into upload (id, project_id, origin, expires_at)
             values (gen_random_uuid(), gen_random_uuid(), 'form', now() + interval '1 hour')",
            "delete from project where id = busy_project()",
        ],
    ),
    (
        "upload_origin_check",
        &["insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, expires_at)
           values (gen_random_uuid(), busy_project(), 'mail', 'a', 'batch', 'text/plain', 1, now() + interval '1 hour')"],
    ),
    (
        "upload_bytes_check",
        &[
            "insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, expires_at)
             values (gen_random_uuid(), busy_project(), 'client', 'a', 'batch', 'text/plain', -1, now() + interval '1 hour')",
            "update upload set bytes = -1 where id = form()",
        ],
    ),
    (
        "upload_file_lifetime_seconds_check",
        &[
            "update upload set file_lifetime_seconds = 0 where id = form()",
            "update upload set file_lifetime_seconds = 3599 where id = form()",
            "update upload set file_lifetime_seconds = 2592001 where id = form()",
        ],
    ),
    (
        "upload_status_check",
        &[
            "select end_as(filling(), 'done')",
            "select end_as(filling(), 'Cancelled')",
            "select end_as(form(), '')",
        ],
    ),
    (
        "upload_expires_after_it_was_created",
        &[
            "insert into upload (id, project_id, origin, expires_at) values (gen_random_uuid(), busy_project(), 'form', now())",
            "insert into upload (id, project_id, origin, created_at, expires_at)
             values (gen_random_uuid(), busy_project(), 'form', now() + interval '2 hours', now() + interval '1 hour')",
        ],
    ),
    (
        "upload_ended_exactly_when_terminal",
        &[
            "update upload set status = 'cancelled' where id = filling()",
            "update upload set status = 'expired' where id = filling()",
            "update upload set status = 'completed' where id = filling()",
            "update upload set ended_at = now() where id = filling()",
            "insert into upload (id, project_id, origin, expires_at, ended_at)
             values (gen_random_uuid(), busy_project(), 'form', now() + interval '1 hour', now())",
        ],
    ),
    (
        "upload_is_declared",
        &[
            "insert into upload (id, project_id, origin, purpose, mime_type, bytes, expires_at)
             values (gen_random_uuid(), busy_project(), 'client', 'batch', 'text/plain', 1, now() + interval '1 hour')",
            "insert into upload (id, project_id, origin, filename, mime_type, bytes, expires_at)
             values (gen_random_uuid(), busy_project(), 'client', 'a', 'text/plain', 1, now() + interval '1 hour')",
            "insert into upload (id, project_id, origin, filename, purpose, bytes, expires_at)
             values (gen_random_uuid(), busy_project(), 'client', 'a', 'batch', 1, now() + interval '1 hour')",
            "insert into upload (id, project_id, origin, filename, purpose, mime_type, expires_at)
             values (gen_random_uuid(), busy_project(), 'client', 'a', 'batch', 'text/plain', now() + interval '1 hour')",
            "select end_as(form(), 'completed')",
            "update upload set status = 'completed', ended_at = now(), filename = null where id = declared_form()",
            "update upload set status = 'completed', ended_at = now(), purpose = null where id = declared_form()",
            "update upload set status = 'completed', ended_at = now(), mime_type = null where id = declared_form()",
            "update upload set status = 'completed', ended_at = now(), bytes = null where id = declared_form()",
        ],
    ),
    (
        "upload_begins_pending",
        &[
            "insert into upload (id, project_id, origin, status, expires_at, ended_at)
             values (gen_random_uuid(), busy_project(), 'form', 'cancelled', now() + interval '1 hour', now())",
            "insert into upload (id, project_id, origin, status, expires_at, ended_at)
             values (gen_random_uuid(), busy_project(), 'form', 'expired', now() + interval '1 hour', now())",
            "insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, status, expires_at, ended_at)
             values (gen_random_uuid(), busy_project(), 'client', 'a', 'batch', 'text/plain', 0, 'completed',
                     now() + interval '1 hour', now())",
        ],
    ),
    (
        "upload_end_is_final",
        &[
            "update upload set status = 'pending', ended_at = null where id = completed()",
            "select end_as(completed(), 'cancelled')",
            "select end_as(completed(), 'expired')",
            "update upload set status = 'pending', ended_at = null where id = cancelled()",
            "select end_as(cancelled(), 'completed')",
            "select end_as(cancelled(), 'expired')",
            "update upload set status = 'pending', ended_at = null where id = expired()",
            "select end_as(expired(), 'completed')",
            "select end_as(expired(), 'cancelled')",
            // Also within one transaction.
            "select end_as(empty(), 'cancelled'); select end_as(empty(), 'expired')",
        ],
    ),
    (
        "upload_keeps_what_it_is",
        &[
            "update upload set origin = 'form', filename = null where id = filling()",
            "update upload set bytes = bytes + 1, status = 'cancelled', ended_at = now() where id = filling()",
            "update upload set expires_at = expires_at + interval '1 hour' where id = form()",
        ],
    ),
    (
        "upload_leaves_only_ended",
        &[
            "delete from upload where id = empty()",
            "delete from upload where id = filling()",
            "delete from upload where id = form()",
        ],
    ),
    (
        "completed_upload_has_its_file",
        &[
            "select end_as(empty(), 'completed')",
            "select end_as(declared_form(), 'completed')",
            // The file belongs to another project or has other fields than the upload.
            "select make_file(empty(), project_id => keyed_project()), end_as(empty(), 'completed')",
            "select make_file(empty(), filename => 'b.jsonl'), end_as(empty(), 'completed')",
            "select make_file(empty(), purpose => 'evals'), end_as(empty(), 'completed')",
            "select make_file(empty(), mime_type => 'text/plain'), end_as(empty(), 'completed')",
            "select make_file(filling(), bytes => 31, manifest => array[stored(), stored_too()]), end_as(filling(), 'completed')",
            "select make_file(empty(), created_at => now() + interval '1 second'), end_as(empty(), 'completed')",
            // The manifest: too few bytes, too many, the right sum with a gap, an overlap, another order.
            "select complete(filling(), array[stored()])",
            "select complete(filling(), array[stored_too()])",
            "select complete(filling(), array[stored(), stored_too(), spare()])",
            "select complete(filling(), array[stored(), stored_too()], '{0, 11}')",
            "select complete(filling(), array[stored(), stored_too()], '{0, 9}')",
            "select complete(filling(), array[stored_too(), stored()], '{0, 10}')",
            // A Part more than once, of another Upload, missing, null, still being received, or already garbage.
            "select complete(filling(), array[stored(), stored(), stored()])",
            "select complete(filling(), array[linked()])",
            "select complete(filling(), array[stored_too(), gen_random_uuid()], '{0, 20}')",
            "select complete(filling(), array[stored_too(), null], '{0, 20}')",
            "select complete(filling(), array[stored_too(), receiving()], '{0, 20}')",
            "select discard(stored()); select complete(filling(), array[stored(), stored_too()])",
            // Parts that are not in the manifest and not garbage.
            "select make_file(filling(), manifest => array[stored(), stored_too()]), end_as(filling(), 'completed')",
            "select discard(spare()); select make_file(filling(), manifest => array[stored(), stored_too()]), end_as(filling(), 'completed')",
        ],
    ),
    (
        "ended_upload_holds_only_garbage",
        &[
            "select end_as(filling(), 'cancelled')",
            "select end_as(filling(), 'expired')",
            "select discard(id) from part where upload_id = filling() and id not in (receiving(), abandoned());
             select end_as(filling(), 'cancelled')",
        ],
    ),
];
