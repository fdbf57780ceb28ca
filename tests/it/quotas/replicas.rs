//! Quotas under a thousand parallel creates on three replicas, and while limits change.

use chrono::{DateTime, Utc};
use futures_util::future::{join, join_all};
use serde_json::json;

use super::{set, usage, used};
use crate::support::client::id;
use crate::support::program::Program;
use crate::support::{Answer, Client, TestApp, eventually};

crate::on_a_directory_and_s3! {
    a_thousand_parallel_creates_on_three_replicas_fill_each_quota_exactly;
    parallel_files_on_three_replicas_never_exceed_a_quota;
    a_limit_that_is_changed_under_load_holds_for_what_begins_later;
    an_upload_does_not_wait_for_the_lock_of_another_project;
}

/// Two more replicas, and a client of each of the three.
fn replicas(app: &TestApp, client: &Client) -> (Vec<Program>, Vec<Client>) {
    let logs = ["second", "third"].map(|it| app.data_dir.path().join(it));
    let programs: Vec<_> = logs.iter().map(|it| Program::serve(&app.settings, it, false)).collect();
    let addresses = programs.iter().map(|it| it.address.clone()).chain([client.address.clone()]);
    let clients = addresses.map(|it| Client::new(&it, &client.key)).collect();
    (programs, clients)
}

async fn begin(client: &Client, bytes: u64) -> Answer {
    let body = json!({"filename": "a", "purpose": "user_data", "bytes": bytes, "mime_type": "text/plain"});
    client.post("/v1/uploads", &body).await
}

/// The number of requests that succeeded; asserts that the others were refused because of a quota.
fn successes(answers: &[Answer]) -> usize {
    let refused = answers.iter().filter(|it| it.status != 200);
    refused.for_each(|it| assert_eq!(it.error(400, it.json()["error"]["param"].as_str())["code"], "quota_exceeded"));
    answers.iter().filter(|it| it.status == 200).count()
}

async fn a_thousand_parallel_creates_on_three_replicas_fill_each_quota_exactly(app: &TestApp) {
    set(app, "default", &["--max-pending-uploads", "100"]);
    let (_programs, clients) = replicas(app, &app.client);
    let answers = join_all((0..500).map(|n| begin(&clients[n % 3], 1))).await;
    assert_eq!(successes(&answers), 100);
    assert_eq!(used(&app.client).await, [100, 100, 0]);
    // Files may be limited as well: an upload reserves one.
    app.client.cancel(&id(&answers.iter().find(|it| it.status == 200).unwrap().ok())).await.ok();
    set(app, "default", &["--max-pending-uploads", "unlimited", "--max-files", "103"]);
    assert_eq!(successes(&join_all((0..100).map(|n| begin(&clients[n % 3], 0))).await), 4);

    app.stranger();
    set(app, "stranger", &["--max-bytes", "50000"]);
    let strangers: Vec<_> = clients.iter().map(|it| Client::new(&it.address, &app.stranger().key)).collect();
    let size = |n: usize| 100 + 37 * (n as u64 % 11);
    let answers = join_all((0..500).map(|n| begin(&strangers[n % 3], size(n)))).await;
    successes(&answers);
    let taken: u64 = (0..500).filter(|n| answers[*n].status == 200).map(size).sum();
    let smallest_refused = (0..500).filter(|n| answers[*n].status != 200).map(size).min().unwrap();
    assert_eq!(used(app.stranger()).await[0], taken);
    assert!(taken <= 50_000 && taken + smallest_refused > 50_000, "{taken} of 50000 bytes, {smallest_refused} refused");
}

async fn parallel_files_on_three_replicas_never_exceed_a_quota(app: &TestApp) {
    set(app, "default", &["--max-files", "20"]);
    let (_programs, clients) = replicas(app, &app.client);
    let answers = join_all((0..60).map(|n| clients[n % 3].create_file("user_data", "a file"))).await;
    assert_eq!(successes(&answers), 20);
    assert_eq!(used(&app.client).await, [120, 0, 20]);
    assert_eq!(app.client.get("/v1/files").await.ok()["data"].as_array().unwrap().len(), 20);
}

async fn a_limit_that_is_changed_under_load_holds_for_what_begins_later(app: &TestApp) {
    let (_programs, clients) = replicas(app, &app.client);
    let load = async {
        for _ in 0..10 {
            successes(&join_all((0..30).map(|n| begin(&clients[n % 3], 10))).await);
        }
    };
    let changes = async {
        for limit in ["5", "unlimited", "0", "default", "40"] {
            let (settings, arguments) = (app.settings.clone(), ["projects", "set", "default", "--max-pending-uploads"]);
            let set = move || crate::support::program::run(&settings, &[&arguments[..], &[limit]].concat());
            assert!(tokio::task::spawn_blocking(set).await.unwrap().status.success());
        }
    };
    futures_util::future::join(load, changes).await;
    let in_use = used(&app.client).await[1];
    app.usage_is_counted_exactly().await;
    let room = 40_u64.saturating_sub(in_use);
    let answers = join_all((0..60).map(|n| begin(&clients[n % 3], 10))).await;
    assert_eq!(successes(&answers) as u64, room);
    assert_eq!(usage(&app.client).await["limits"], json!({"bytes": null, "pending_uploads": 40, "files": null}));
}

/// The sessions that wait for a lock, and since when.
async fn waiting(app: &TestApp) -> Vec<(i32, DateTime<Utc>)> {
    let sessions = "select pid, query_start from pg_stat_activity
                    where wait_event_type = 'Lock' and datname = current_database()";
    sqlx::query_as(sessions).fetch_all(&app.pool).await.unwrap()
}

async fn an_upload_does_not_wait_for_the_lock_of_another_project(app: &TestApp) {
    let stranger = app.stranger();
    set(app, "stranger", &["--max-files", "10"]);
    let mut lock = app.pool.begin().await.unwrap();
    let project = "select from project where name = 'stranger' for no key update";
    sqlx::query(project).execute(&mut *lock).await.unwrap();
    let checks = async {
        eventually("the limited project's upload waits", async || !waiting(app).await.is_empty()).await;
        let before = waiting(app).await;
        begin(&app.client, 1).await.ok();
        assert_eq!(waiting(app).await, before, "the other upload still waits, and has not been retried meanwhile");
        lock.commit().await.unwrap();
    };
    let (answer, ()) = join(begin(stranger, 1), checks).await;
    answer.ok();
    assert_eq!(used(stranger).await, [1, 1, 0]);
}
