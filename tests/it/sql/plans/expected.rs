//! The indexes that each statement has to use.

/// The expected plan of the statements that contain this fragment.
pub(super) struct Expected {
    pub fragment: &'static str,
    /// The indexes that the plan uses. `a|b` means one of the two.
    pub indexes: &'static [&'static str],
    /// Indexes and tables that may be read completely.
    pub whole: &'static [&'static str],
    /// Parameter values to plan for in addition to the generic plan: a first page, a later one, a full batch.
    pub values: &'static [&'static str],
}

const fn generic(fragment: &'static str, indexes: &'static [&'static str]) -> Expected {
    Expected { fragment, indexes, whole: &[], values: &[] }
}

const fn with_values(
    fragment: &'static str,
    indexes: &'static [&'static str],
    values: &'static [&'static str],
) -> Expected {
    Expected { fragment, indexes, whole: &[], values }
}

pub(super) const EXPECTED: &[Expected] = &[
    // Statements without a table, or on small ones.
    generic("select pg_is_in_recovery()", &[]),
    generic("select pg_try_advisory_xact_lock", &[]),
    generic("from pg_locks", &[]),
    generic("select exists (select from api_key)", &[]),
    generic("select exists (select from unfinished_discard)", &[]),
    generic("from unfinished_discard order by created_at", &[]),
    generic("insert into project", &[]),
    generic("insert into api_key", &[]),
    generic("from api_key left join project", &[]),
    generic("select hash from api_key", &[]),
    generic("update api_key set last_used_at", &["api_key_pkey"]),
    generic("select id from project where name", &[]),
    generic("select id, name, created_at, max_bytes", &[]),
    generic("update api_key set max_requests_per_second", &["api_key_pkey"]),
    generic("update api_key set revoked_at", &["api_key_pkey"]),
    generic("select id, linked_at from store", &[]),
    generic("insert into store", &[]),
    generic("update store", &[]),
    generic("delete from store", &[]),
    generic("from url_secret order by", &[]),
    generic("insert into url_secret", &[]),
    generic("delete from url_secret", &[]),
    generic("select extract(epoch from now())::bigint", &[]),
    // Signed URLs.
    generic(r#"key.id is not null as "is_key_valid!""#, &["api_key_pkey", "used_url_pkey"]),
    generic("insert into used_url", &[]),
    generic("select used_by from used_url", &["used_url_pkey"]),
    with_values("delete from used_url", &["used_url_by_expiry"], &["604800, 100"]),
    // Idempotency keys.
    generic("insert into idempotency_key", &[]),
    generic("select fingerprint, created_id", &["idempotency_key_pkey"]),
    with_values("delete from idempotency_key", &["idempotency_key_by_expiry"], &["500"]),
    // The audit trail.
    generic("insert into audit_event", &[]),
    generic("select clock_timestamp()", &[]),
    with_values(
        "from audit_event where (at, id) > ($1, $2)",
        &["audit_event_by_time"],
        &[
            "'1970-01-01', id(0), now(), 2000, null, null, null, null",
            "now() - interval '30 days', id(1), now(), 2000, 'project-1', 'file.read', id(1), array['file-1']",
        ],
    ),
    with_values("delete from audit_event", &["audit_event_by_time"], &["7776000, 1000"]),
    // Runs for every request.
    with_values("from api_key where hash = $1", &["api_key_hash_key"], &["sha256('1'), 600"]),
    // Uploads.
    generic("where not exists (select from project", &[]),
    generic("with limited as materialized", &[]),
    generic("update pending_upload set filename", &["upload_pkey"]),
    generic("update pending_upload set bytes", &["upload_pkey"]),
    generic("update pending_upload set status = 'cancelled'", &["upload_pkey"]),
    generic("select created_at from upload where id", &["upload_pkey"]),
    generic("where upload.id = $1 and upload.project_id = $2 and upload.origin", &["upload_pkey", "file_pkey"]),
    with_values(
        "(upload.created_at, upload.id) > ($2, $3)",
        &["upload_by_age", "file_pkey"],
        &["id(1), '1970-01-01', id(0), 21", "id(1), now() - interval '1 day', id(1), 21"],
    ),
    with_values(
        "(upload.created_at, upload.id) < ($2, $3)",
        &["upload_by_age", "file_pkey"],
        &["id(1), '9999-12-31', id(0), 21", "id(1), now() - interval '60 days', id(1), 21"],
    ),
    with_values(
        "from upload where status = 'pending' and expires_at <= now()",
        &["upload_due", "upload_pkey"],
        &["500"],
    ),
    with_values(
        "from upload where status in ('cancelled', 'expired')",
        &["upload_ended", "part_of_upload", "upload_pkey"],
        &["604800, 500"],
    ),
    with_values("delete from upload where id = any($1)", &["upload_pkey"], &["ids(0, 500)"]),
    // What the metrics report. The indexes contain exactly the rows that are counted, of which a bounded number is read.
    generic(r#"as "bytes!" from usage_counter"#, &[]),
    Expected {
        fragment: "from (select bytes, expires_at from upload",
        indexes: &["upload_due"],
        whole: &["upload_due"],
        values: &["100000"],
    },
    Expected {
        fragment: "from (select bytes, not_before from part",
        indexes: &["part_due"],
        whole: &["part_due"],
        values: &["100000"],
    },
    with_values("from (select from file where deleted_at is null", &["file_due"], &["100000"]),
    Expected {
        fragment: "as age from ((select upload_id, created_at from part",
        indexes: &["part_due", "part_refusing", "upload_pkey", "file_pkey"],
        whole: &["part_due", "part_refusing"],
        values: &["1000"],
    },
    // Quotas.
    generic(r#"as "limited!""#, &[]),
    generic("update project set max_bytes", &[]),
    generic("select project.name, max_bytes", &[]),
    generic("select default_file_lifetimes", &[]),
    // A recount reads every pending upload and every file.
    Expected {
        fragment: "from usage_difference",
        indexes: &[],
        whole: &["upload", "upload_due", "file", "file_by_age", "file_by_purpose", "file_due"],
        values: &[],
    },
    // Files.
    // A completion.
    generic("insert into file (", &["upload_pkey", "part_of_upload", "part_pkey"]),
    generic("select manifest as", &["file_pkey"]),
    generic("update file set deleted_at = now() where id = $1", &["file_pkey"]),
    generic("select created_at from file where id", &["file_pkey"]),
    generic("> now()) and id = $1 and project_id = $2", &["file_pkey"]),
    with_values(
        "project_id = $1 and (created_at, id) > ($2, $3)",
        &["file_by_age"],
        &["id(1), '1970-01-01', id(0), 21", "id(1), now() - interval '1 day', id(1), 21"],
    ),
    with_values(
        "project_id = $1 and (created_at, id) < ($2, $3)",
        &["file_by_age"],
        &["id(1), '9999-12-31', id(0), 21", "id(1), now() - interval '60 days', id(1), 21"],
    ),
    with_values(
        "purpose = $2 and (created_at, id) > ($3, $4)",
        &["file_by_purpose"],
        &["id(1), 'vision', '1970-01-01', id(0), 21", "id(1), 'unheard of', '1970-01-01', id(0), 10001"],
    ),
    with_values(
        "purpose = $2 and (created_at, id) < ($3, $4)",
        &["file_by_purpose"],
        &["id(1), 'vision', '9999-12-31', id(0), 21", "id(1), 'unheard of', '9999-12-31', id(0), 10001"],
    ),
    with_values(
        "select id from file where deleted_at is null and expires_at <= now()",
        &["file_due", "file_pkey"],
        &["500"],
    ),
    with_values("delete from file using gone", &["file_deleted", "part_of_upload", "file_pkey"], &["604800, 500"]),
    // Parts.
    generic("insert into part (", &["upload_pkey", "part_of_upload"]),
    generic(r#"as "may_have_more!""#, &["part_of_upload"]),
    generic("update part set multipart_id", &["part_pkey"]),
    generic("update part set state = 'stored'", &["part_pkey", "upload_pkey"]),
    generic("where id = $1 and state in ('receiving', 'garbage')", &["part_pkey"]),
    generic("update part set last_error", &["part_pkey"]),
    generic("select created_at from part where id", &["part_pkey|part_of_upload"]),
    generic("select id, md5_state from part where part.upload_id = $1", &["part_of_upload"]),
    with_values(
        "from part where upload_id = $1 and md5_state is not null",
        &["part_of_upload"],
        &["id(1)", "id(200000)"],
    ),
    with_values("from part where upload_id = $1 and state = 'stored'", &["part_of_upload"], &["id(1)", "id(200000)"]),
    with_values(
        "from part where upload_id = $1 and (created_at, id) > ($2, $3)",
        &["part_of_upload"],
        &["id(200000), '1970-01-01', id(0), 21", "id(200000), '1970-01-01', id(0), 10001"],
    ),
    with_values("width_bucket", &["file_pkey", "part_pkey"], &["id(1), 5, 15, 500"]),
    with_values(
        "with queued as materialized",
        &["part_of_upload", "part_pkey"],
        &["array[id(200000)], 60, 4000, 1000", "ids(0, 500), 60, 4000, 1000"],
    ),
    with_values(
        "with held as materialized",
        &["part_of_upload", "file_pkey", "part_pkey"],
        &["array[id(200000)], 60, 4000, 1000", "ids(0, 500), 60, 4000, 1000"],
    ),
    with_values(
        "from part where state = 'garbage' and not_before <= now()",
        &["part_due", "part_pkey"],
        &["500, 0", "500, 3600"],
    ),
    with_values("select id from part where id = any($1)", &["part_pkey"], &["ids(0, 1000)"]),
    generic("from part where id = $1 and state = 'stored'", &["part_pkey"]),
    with_values("select id, content", &["part_pkey"], &["ids(1000010, 16)"]),
    Expected {
        fragment: "content is null order by id desc",
        indexes: &["part_pkey"],
        whole: &["part_pkey"],
        values: &["16"],
    },
    with_values("from part where id > $1 order by id", &["part_pkey"], &["id(5), 1000"]),
    // The index contains exactly the rows that are counted.
    Expected {
        fragment: "where state = 'garbage' and last_error is not null limit $1",
        indexes: &["part_refusing"],
        whole: &["part_refusing"],
        values: &[],
    },
    // If there is little garbage, its index may be read completely.
    Expected {
        fragment: "delete from part where id = any($1)",
        indexes: &["part_pkey|part_due"],
        whole: &["part_due"],
        values: &["ids(5000000, 500)"],
    },
];
