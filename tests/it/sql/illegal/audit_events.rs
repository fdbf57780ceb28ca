//! Statements that violate the rules of the table `audit_event`.

use super::Rule;

pub(super) const RULES: &[Rule] = &[
    (
        "audit_event_pkey",
        &["insert into audit_event (id, action, outcome, via, operator)
           select id, 'key.create', 'ok', 'command_line', 'a@b' from (select gen_random_uuid() as id) new,
                  generate_series(1, 2)"],
    ),
    (
        "audit_event_action_check",
        &["insert into audit_event (id, action, outcome, via, operator)
           values (gen_random_uuid(), 'file.forget', 'ok', 'command_line', 'a@b')"],
    ),
    (
        "audit_event_outcome_check",
        &["insert into audit_event (id, action, outcome, via, operator)
           values (gen_random_uuid(), 'key.create', 'maybe', 'command_line', 'a@b')"],
    ),
    (
        "audit_event_via_check",
        &["insert into audit_event (id, action, outcome, via, key_id)
           values (gen_random_uuid(), 'key.create', 'ok', 'magic', gen_random_uuid())"],
    ),
    (
        "audit_event_status_check",
        &[
            "insert into audit_event (id, action, outcome, via, key_id, status)
             values (gen_random_uuid(), 'file.read', 'ok', 'key', gen_random_uuid(), 99)",
            "insert into audit_event (id, action, outcome, via, key_id, status)
             values (gen_random_uuid(), 'file.read', 'ok', 'key', gen_random_uuid(), 600)",
        ],
    ),
    (
        "audit_event_operator_check",
        &[
            "insert into audit_event (id, action, outcome, via, operator)
             values (gen_random_uuid(), 'key.create', 'ok', 'command_line', '')",
            "insert into audit_event (id, action, outcome, via, operator)
             values (gen_random_uuid(), 'key.create', 'ok', 'command_line', repeat('a', 321))",
        ],
    ),
    (
        "audit_event_project_check",
        &[
            "insert into audit_event (id, action, outcome, via, operator, project)
             values (gen_random_uuid(), 'key.create', 'ok', 'command_line', 'a@b', '')",
            "insert into audit_event (id, action, outcome, via, operator, project)
             values (gen_random_uuid(), 'key.create', 'ok', 'command_line', 'a@b', repeat('a', 129))",
        ],
    ),
    (
        "audit_event_object_check",
        &[
            "insert into audit_event (id, action, outcome, via, operator, object)
             values (gen_random_uuid(), 'key.create', 'ok', 'command_line', 'a@b', '')",
            "insert into audit_event (id, action, outcome, via, operator, object)
             values (gen_random_uuid(), 'key.create', 'ok', 'command_line', 'a@b', repeat('a', 65))",
        ],
    ),
    (
        "audit_event_forwarded_for_check",
        &[
            "insert into audit_event (id, action, outcome, via, key_id, forwarded_for)
             values (gen_random_uuid(), 'file.read', 'ok', 'key', gen_random_uuid(), '')",
            "insert into audit_event (id, action, outcome, via, key_id, forwarded_for)
             values (gen_random_uuid(), 'file.read', 'ok', 'key', gen_random_uuid(), repeat('a', 257))",
        ],
    ),
    (
        "audit_event_request_id_check",
        &[
            "insert into audit_event (id, action, outcome, via, key_id, request_id)
             values (gen_random_uuid(), 'file.read', 'ok', 'key', gen_random_uuid(), '')",
            "insert into audit_event (id, action, outcome, via, key_id, request_id)
             values (gen_random_uuid(), 'file.read', 'ok', 'key', gen_random_uuid(), repeat('a', 129))",
        ],
    ),
    (
        "audit_event_user_agent_check",
        &[
            "insert into audit_event (id, action, outcome, via, key_id, user_agent)
             values (gen_random_uuid(), 'file.read', 'ok', 'key', gen_random_uuid(), '')",
            "insert into audit_event (id, action, outcome, via, key_id, user_agent)
             values (gen_random_uuid(), 'file.read', 'ok', 'key', gen_random_uuid(), repeat('a', 257))",
        ],
    ),
    (
        "audit_event_has_one_actor",
        &[
            "insert into audit_event (id, action, outcome, via)
             values (gen_random_uuid(), 'file.read', 'ok', 'key')",
            "insert into audit_event (id, action, outcome, via)
             values (gen_random_uuid(), 'file.read', 'ok', 'signed_url')",
            "insert into audit_event (id, action, outcome, via, key_id, operator)
             values (gen_random_uuid(), 'file.read', 'ok', 'command_line', gen_random_uuid(), 'a@b')",
        ],
    ),
    (
        "audit_event_of_a_command_has_its_operator",
        &[
            "insert into audit_event (id, action, outcome, via)
             values (gen_random_uuid(), 'key.create', 'ok', 'command_line')",
            "insert into audit_event (id, action, outcome, via, key_id, operator)
             values (gen_random_uuid(), 'file.read', 'ok', 'key', gen_random_uuid(), 'a@b')",
        ],
    ),
    (
        "audit_event_never_changes",
        &["insert into audit_event (id, action, outcome, via, operator)
           values (gen_random_uuid(), 'key.create', 'ok', 'command_line', 'a@b');
           update audit_event set outcome = 'failed'"],
    ),
];
