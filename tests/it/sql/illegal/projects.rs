//! Statements that violate the rules of the tables `project` and `api_key`.

use super::Rule;

pub(super) const RULES: &[Rule] = &[
    ("project_pkey", &["insert into project (id, name) values (busy_project(), 'new')"]),
    ("project_name_key", &["insert into project (id, name) values (gen_random_uuid(), 'busy')"]),
    (
        "project_name_check",
        &[
            "insert into project (id, name) values (gen_random_uuid(), '')",
            "insert into project (id, name) values (gen_random_uuid(), '-x')",
            "insert into project (id, name) values (gen_random_uuid(), 'a b')",
            "insert into project (id, name) values (gen_random_uuid(), 'ä')",
            "insert into project (id, name) values (gen_random_uuid(), E'a\\n')",
            "insert into project (id, name) values (gen_random_uuid(), repeat('a', 129))",
            "update project set name = 'a/b' where id = busy_project()",
        ],
    ),
    (
        "api_key_pkey",
        &["insert into api_key (id, project_id, name, hash) values (working_key(), keyed_project(), 'x', sha256('x'))"],
    ),
    (
        "api_key_hash_key",
        &[
            "insert into api_key (id, project_id, name, hash)
             select gen_random_uuid(), busy_project(), 'x', hash from api_key where id = working_key()",
            "insert into api_key (id, project_id, name, hash)
             select gen_random_uuid(), keyed_project(), 'x', hash from api_key where id = revoked_key()",
        ],
    ),
    (
        "api_key_hash_check",
        &[
            "update api_key set hash = '' where id = working_key()",
            "update api_key set hash = substr(hash, 2) where id = working_key()",
            "update api_key set hash = hash || '\\x00' where id = working_key()",
        ],
    ),
    ("api_key_name_check", &["update api_key set name = '' where id = working_key()"]),
    (
        "api_key_acts_for_one_project_or_for_patterns",
        &[
            "update api_key set project_id = null where id = working_key()",
            "update api_key set acts_for = '{a}' where id = working_key()",
        ],
    ),
    (
        "api_key_acts_for_at_least_one_pattern",
        &[
            "update api_key set project_id = null, acts_for = '{}' where id = working_key()",
            "update api_key set project_id = null, acts_for = array_fill('a'::text, '{101}') where id = working_key()",
        ],
    ),
    ("api_key_of_a_project_creates_none", &["update api_key set creates_projects = true where id = working_key()"]),
    (
        "api_key_has_known_scopes",
        &[
            "update api_key set scopes = '{}' where id = working_key()",
            "update api_key set scopes = '{read,admin}' where id = working_key()",
        ],
    ),
    ("api_key_expires_after_it_was_created", &["update api_key set expires_at = created_at where id = working_key()"]),
    (
        "api_key_project_id_fkey",
        &[
            "update api_key set project_id = gen_random_uuid() where id = working_key()",
            "delete from project where id = keyed_project()",
        ],
    ),
];
