//! Checks a few thousand random JSON bodies against `serde_json`, as the fuzz target does, on every run.

use fastrand::Rng;

#[path = "../../fuzz/json.rs"]
mod json;

const CASES: u64 = 20_000;

/// The results that must all occur: otherwise too little of the random input resembles a request.
const OUTCOMES: &[&str] = &[
    "\"bytes\":",
    "\"part_ids\":",
    "The body is not JSON",
    "must be a JSON object",
    "Unknown parameter",
    "Missing required parameter",
    "more than once",
    "whole number",
];

/// Members of both requests, right and wrong.
const MEMBERS: &[&str] = &[
    r#""filename":"a.jsonl""#,
    r#""filename":"\u0000""#,
    r#""filename":"\ud800""#,
    r#""purpose":"batch""#,
    r#""purpose":"nothing""#,
    r#""bytes":12"#,
    r#""bytes":1e3"#,
    r#""bytes":1.0"#,
    r#""bytes":1.5"#,
    r#""bytes":-1"#,
    r#""bytes":99999999999999999999999999"#,
    r#""bytes":"12""#,
    r#""mime_type":"text/plain""#,
    r#""mime_type":null"#,
    r#""expires_after":null"#,
    r#""expires_after":{"anchor":"created_at","seconds":3600}"#,
    r#""expires_after":{"anchor":"created_at","seconds":3.6e3}"#,
    r#""expires_after":{"seconds":3600,"seconds":7200,"anchor":"created_at"}"#,
    r#""expires_after":{"seconds":[[[[[[[[]]]]]]]]}"#,
    r#""part_ids":[]"#,
    r#""part_ids":["part_00000000000000000000000000000001"]"#,
    r#""part_ids":["part_1",2,null]"#,
    r#""md5":"""#,
    r#""md5":"d41d8cd98f00b204e9800998ecf8427e""#,
    r#""\u006dd5":null"#,
    r#""other":{"a":[1,2]}"#,
];

/// The members of a valid request, some left out, some added, and at times a byte changed.
fn body(rng: &mut Rng) -> Vec<u8> {
    let valid = [&MEMBERS[0], &MEMBERS[3], &MEMBERS[5], &MEMBERS[12]];
    let mut members: Vec<&str> = if rng.bool() { valid.map(|it| *it).to_vec() } else { Vec::new() };
    if rng.u8(..4) == 0 {
        members.extend([MEMBERS[19], MEMBERS[22]]);
    }
    members.retain(|_| rng.u8(..12) > 0);
    for _ in 0..rng.usize(..3) {
        members.insert(rng.usize(..=members.len()), rng.choice(MEMBERS).unwrap());
    }
    let brackets = if rng.u8(..16) == 0 { ["[", "]"] } else { ["{", "}"] };
    let mut body = format!("{}{}{}", brackets[0], members.join(","), brackets[1]).into_bytes();
    if rng.u8(..4) == 0 {
        let at = rng.usize(..body.len());
        body[at] = if rng.bool() { rng.u8(..) } else { *rng.choice(b"{}[]\",:\\0e.-").unwrap() };
    }
    if rng.u8(..8) == 0 {
        body.splice(..0, *b"\xef\xbb\xbf");
    }
    body
}

#[test]
fn json_bodies_are_parsed_as_by_serde_json() {
    let outcomes: Vec<_> = (0..CASES)
        .flat_map(|seed| json::check(&body(&mut Rng::with_seed(seed))))
        .map(|it| it.unwrap_or_else(|message| message))
        .collect();
    let times = |outcome: &str| outcomes.iter().filter(|it| it.contains(outcome)).count();
    let rare: Vec<_> = OUTCOMES.iter().map(|it| (it, times(it))).filter(|it| it.1 < 50).collect();
    assert!(rare.is_empty(), "too few cases with these results: {rare:?}");
}

#[test]
fn deeply_nested_json_is_refused() {
    for open in [r#"{"a":"#, "[", r#"{"expires_after":"#] {
        let body = open.repeat(1_000_000);
        assert!(json::check(body.as_bytes()).iter().all(Result::is_err));
    }
}

#[test]
fn a_list_is_no_object() {
    for body in ["[[]]", r#"["a",null,1]"#, r#"{"expires_after":["created_at",3600]}"#] {
        assert!(json::check(body.as_bytes()).iter().all(Result::is_err), "{body}");
    }
}
