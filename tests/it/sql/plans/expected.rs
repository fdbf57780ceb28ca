//! Which index each statement is to use.

/// What is expected of the statements that have this fragment.
pub(super) struct Expected {
    pub fragment: &'static str,
    /// It uses each of these, or one of those between bars.
    pub indexes: &'static [&'static str],
    /// An index that may be read from one end to the other.
    pub whole: Option<&'static str>,
    /// Values to plan for, beside any: as for the first page, the last, a full batch.
    pub values: &'static [&'static str],
}

const fn any(fragment: &'static str, indexes: &'static [&'static str]) -> Expected {
    Expected { fragment, indexes, whole: None, values: &[] }
}

const fn also(fragment: &'static str, indexes: &'static [&'static str], values: &'static [&'static str]) -> Expected {
    Expected { fragment, indexes, whole: None, values }
}

pub(super) const EXPECTED: &[Expected] = &[
    // No table, or one that stays small.
    any("select pg_is_in_recovery()", &[]),
    any("select pg_try_advisory_xact_lock", &[]),
    any("from pg_locks", &[]),
    any("select exists (select from api_key)", &[]),
    any("select exists (select from unfinished_discard)", &[]),
    any("from unfinished_discard order by created_at", &[]),
    any("insert into project", &[]),
    any("insert into api_key", &[]),
    any("from api_key join project", &[]),
    any("update api_key set revoked_at", &["api_key_pkey"]),
    any("select id, linked_at from store", &[]),
    any("insert into store", &[]),
    any("update store", &[]),
    any("delete from store", &[]),
    // Every request asks this.
    also("from api_key where hash = $1", &["api_key_hash_key"], &["sha256('1')"]),
    // Uploads.
    any("insert into upload (", &[]),
    any("update upload set filename", &["upload_pkey"]),
    any("update upload set status = 'cancelled'", &["upload_pkey"]),
    any("select created_at from upload where id", &["upload_pkey"]),
    any("where upload.id = $1 and upload.project_id = $2 and upload.origin", &["upload_pkey", "file_pkey"]),
    also(
        "(upload.created_at, upload.id) > ($2, $3)",
        &["upload_by_age", "file_pkey"],
        &["id(1), '1970-01-01', id(0), 21", "id(1), now() - interval '1 day', id(1), 21"],
    ),
    also(
        "(upload.created_at, upload.id) < ($2, $3)",
        &["upload_by_age", "file_pkey"],
        &["id(1), '9999-12-31', id(0), 21", "id(1), now() - interval '60 days', id(1), 21"],
    ),
    also("from upload where status = 'pending' and expires_at <= now()", &["upload_due", "upload_pkey"], &["500"]),
    also(
        "from upload where status in ('cancelled', 'expired')",
        &["upload_ended", "part_of_upload", "upload_pkey"],
        &["604800, 500"],
    ),
    also("delete from upload where id = any($1)", &["upload_pkey"], &["ids(0, 500)"]),
    // Files.
    // A completion.
    any("insert into file (", &["upload_pkey", "part_of_upload", "part_pkey"]),
    any("select manifest as", &["file_pkey"]),
    any("update file set deleted_at = now() where id = $1", &["file_pkey"]),
    any("select created_at from file where id", &["file_pkey"]),
    any("> now()) and id = $1 and project_id = $2", &["file_pkey"]),
    also(
        "project_id = $1 and (created_at, id) > ($2, $3)",
        &["file_by_age"],
        &["id(1), '1970-01-01', id(0), 21", "id(1), now() - interval '1 day', id(1), 21"],
    ),
    also(
        "project_id = $1 and (created_at, id) < ($2, $3)",
        &["file_by_age"],
        &["id(1), '9999-12-31', id(0), 21", "id(1), now() - interval '60 days', id(1), 21"],
    ),
    also(
        "purpose = $2 and (created_at, id) > ($3, $4)",
        &["file_by_purpose"],
        &["id(1), 'vision', '1970-01-01', id(0), 21", "id(1), 'unheard of', '1970-01-01', id(0), 10001"],
    ),
    also(
        "purpose = $2 and (created_at, id) < ($3, $4)",
        &["file_by_purpose"],
        &["id(1), 'vision', '9999-12-31', id(0), 21", "id(1), 'unheard of', '9999-12-31', id(0), 10001"],
    ),
    also("from file where deleted_at is null and expires_at <= now()", &["file_due", "file_pkey"], &["500"]),
    also("delete from file using gone", &["file_deleted", "part_of_upload", "file_pkey"], &["604800, 500"]),
    // Parts.
    any("insert into part (", &["upload_pkey", "part_of_upload"]),
    any("update part set multipart_id", &["part_pkey"]),
    any("update part set state = 'stored'", &["part_pkey", "upload_pkey"]),
    any("where id = $1 and state in ('receiving', 'garbage')", &["part_pkey"]),
    any("update part set last_error", &["part_pkey"]),
    any("select created_at from part where id", &["part_pkey|part_of_upload"]),
    any("select id, md5_state from part where part.upload_id = $1", &["part_of_upload"]),
    also("from part where upload_id = $1 and md5_state is not null", &["part_of_upload"], &["id(1)", "id(200000)"]),
    also("from part where upload_id = $1 and state = 'stored'", &["part_of_upload"], &["id(1)", "id(200000)"]),
    also(
        "from part where upload_id = $1 and (created_at, id) > ($2, $3)",
        &["part_of_upload"],
        &["id(200000), '1970-01-01', id(0), 21", "id(200000), '1970-01-01', id(0), 10001"],
    ),
    also("width_bucket", &["file_pkey", "part_pkey"], &["id(1), 5, 15, 500"]),
    also(
        "with queued as materialized",
        &["part_of_upload", "part_pkey"],
        &["array[id(200000)], 60, 4000, 1000", "ids(0, 500), 60, 4000, 1000"],
    ),
    also(
        "with held as materialized",
        &["part_of_upload", "file_pkey", "part_pkey"],
        &["array[id(200000)], 60, 4000, 1000", "ids(0, 500), 60, 4000, 1000"],
    ),
    also(
        "from part where state = 'garbage' and not_before <= now()",
        &["part_due", "part_pkey"],
        &["500, 0", "500, 3600"],
    ),
    also("select id from part where id = any($1)", &["part_pkey"], &["ids(0, 1000)"]),
    any("from part where id = $1 and state = 'stored'", &["part_pkey"]),
    also("select id, content", &["part_pkey"], &["ids(1000010, 16)"]),
    Expected {
        fragment: "content is null order by id desc",
        indexes: &["part_pkey"],
        whole: Some("part_pkey"),
        values: &["16"],
    },
    also("from part where id > $1 order by id", &["part_pkey"], &["id(5), 1000"]),
    // It holds nothing but what is counted.
    Expected {
        fragment: "where state = 'garbage' and last_error is not null",
        indexes: &["part_refusing"],
        whole: Some("part_refusing"),
        values: &[],
    },
    // Little garbage is read as it is.
    Expected {
        fragment: "delete from part where id = any($1)",
        indexes: &["part_pkey|part_due"],
        whole: Some("part_due"),
        values: &["ids(5000000, 500)"],
    },
];
