//! Statements that violate the rules of the table `idempotency_key`.

use super::Rule;

pub(super) const RULES: &[Rule] = &[
    (
        "idempotency_key_pkey",
        &["insert into idempotency_key (project_id, key, fingerprint, created_id, response, expires_at)
           select busy_project(), 'a', sha256(''), gen_random_uuid(), '', now() from generate_series(1, 2)"],
    ),
    (
        "idempotency_key_project_id_fkey",
        &["insert into idempotency_key (project_id, key, fingerprint, created_id, response, expires_at)
           values (gen_random_uuid(), 'a', sha256(''), gen_random_uuid(), '', now())"],
    ),
    (
        "idempotency_key_key_check",
        &[
            "insert into idempotency_key (project_id, key, fingerprint, created_id, response, expires_at)
             values (busy_project(), '', sha256(''), gen_random_uuid(), '', now())",
            "insert into idempotency_key (project_id, key, fingerprint, created_id, response, expires_at)
             values (busy_project(), repeat('a', 256), sha256(''), gen_random_uuid(), '', now())",
        ],
    ),
    (
        "idempotency_key_fingerprint_check",
        &["insert into idempotency_key (project_id, key, fingerprint, created_id, response, expires_at)
           values (busy_project(), 'a', 'short', gen_random_uuid(), '', now())"],
    ),
];
