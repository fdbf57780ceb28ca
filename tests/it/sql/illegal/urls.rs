//! Statements that violate the rules of the tables `url_secret` and `used_url`.

use super::Rule;

pub(super) const RULES: &[Rule] = &[
    ("url_secret_pkey", &["insert into url_secret (id, secret) select id, secret from url_secret"]),
    (
        "url_secret_secret_check",
        &[
            "update url_secret set secret = ''",
            "update url_secret set secret = substr(secret, 2)",
            "update url_secret set secret = secret || '\\x00'",
        ],
    ),
    (
        "used_url_pkey",
        &["insert into used_url (id, used_by, expires_at)
           select id, id, now() from (select gen_random_uuid() as id) new, generate_series(1, 2)"],
    ),
];
