//! The audit trail: what is recorded, that nothing is answered that is not recorded, and its export.

mod commands;
mod export;
mod failures;
mod refusals;
mod requests;

use serde_json::Value;

use crate::support::TestApp;

/// The recorded events, the oldest first.
async fn events(app: &TestApp) -> Vec<Value> {
    let select = "select to_jsonb(it)::text from audit_event it order by at, id";
    let rows: Vec<String> = sqlx::query_scalar(select).fetch_all(&app.pool).await.unwrap();
    rows.iter().map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// The events that `act` leaves, and what it returns.
async fn left_by<T>(app: &TestApp, act: impl Future<Output = T>) -> (Vec<Value>, T) {
    let before = events(app).await.len();
    let done = act.await;
    (events(app).await.split_off(before), done)
}

/// The only event that `act` leaves.
async fn event_of<T>(app: &TestApp, act: impl Future<Output = T>) -> Value {
    let (left, _) = left_by(app, act).await;
    let [event] = &left[..] else { panic!("there are {} events: {left:?}", left.len()) };
    event.clone()
}

/// Asserts what an event is about.
#[track_caller]
fn assert_is(event: &Value, action: &str, outcome: &str, status: Option<u16>, object: Option<&str>) {
    let found = (&event["action"], &event["outcome"], &event["status"], &event["object"]);
    assert_eq!(found, (&action.into(), &outcome.into(), &status.into(), &object.into()), "{event}");
}

/// Runs a command with the audit trail. Returns its output.
#[track_caller]
fn run(app: &TestApp, arguments: &[&str]) -> String {
    let done = app.run(arguments);
    assert!(done.status.success(), "{arguments:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// The id of the key of the project `default`, as it is in the ledger.
async fn own_key(app: &TestApp) -> String {
    let select = "select id::text from api_key where name = 'from the settings'";
    sqlx::query_scalar(select).fetch_one(&app.pool).await.unwrap()
}
