//! Statements that violate the rules of the table `store`.

use super::{Fixed, Rule};

pub(super) const RULES: &[Rule] = &[
    ("store_pkey", &["drop index store_is_the_only_one; insert into store (id) values (linked_store())"]),
    ("store_is_the_only_one", &["insert into store (id) values (gen_random_uuid())"]),
    ("store_keeps_its_identity", &["update store set linked_at = null where id = linked_store()"]),
];

pub(super) const FIXED: &[Fixed] = &[Fixed {
    table: "store",
    row: "linked_store",
    along: "",
    but: &[],
    refused_by: "store_keeps_its_identity",
    or_by: &[],
}];
