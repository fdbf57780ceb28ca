//! Statements that violate the rules of quotas: the table `usage_counter`, and the limits of projects and keys.

use super::Rule;

pub(super) const RULES: &[Rule] = &[
    (
        "project_limits_are_not_negative",
        &[
            "update project set max_bytes = -1 where id = busy_project()",
            "update project set max_pending_uploads = -1, max_bytes = 5 where id = busy_project()",
            "update project set max_files = -1 where id = busy_project()",
        ],
    ),
    (
        "project_lifetimes_are_of_purposes",
        &[
            "update project set default_file_lifetimes = '{batch}' where id = busy_project()",
            "update project set default_file_lifetimes = '{batch=0}' where id = busy_project()",
            "update project set longest_file_lifetimes = '{batch=1d}' where id = busy_project()",
            "update project set longest_file_lifetimes = '{batch=1,**=2}' where id = busy_project()",
            "update project set longest_file_lifetimes = '{NULL}' where id = busy_project()",
        ],
    ),
    (
        "api_key_rates_are_positive",
        &[
            "update api_key set max_requests_per_second = 0 where id = working_key()",
            "update api_key set max_bytes_per_second = -1, max_requests_per_second = 1 where id = working_key()",
        ],
    ),
    ("usage_counter_has_a_valid_shard", &["insert into usage_counter values (keyed_project(), 16, 0, 0, 0, 0)"]),
    (
        "usage_counter_pkey",
        &["insert into usage_counter select keyed_project(), 3, 0, 0, 0, 0 from generate_series(1, 2)"],
    ),
    ("usage_counter_project_id_fkey", &["insert into usage_counter values (gen_random_uuid(), 0, 0, 0, 0, 0)"]),
];
