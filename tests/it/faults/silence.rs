//! A client waits one timeout for a Postgres that does not respond, however many statements a request needs.

use super::postgres::{app_behind_proxy, is_unavailable, recovers};
use crate::support::tcp_proxy::Mode;

#[tokio::test(flavor = "multi_thread")]
async fn creating_an_upload_waits_for_a_silent_postgres_no_longer_than_other_requests() {
    let (app, proxy) = app_behind_proxy().await;
    app.client.upload(1).await;
    proxy.set(Mode::Silent);
    let twice = async {
        for _ in 0..2 {
            is_unavailable(&app.client.get("/v1/files/file-00000000000000000000000000000000").await);
        }
    };
    let mut creation = std::pin::pin!(app.client.begin_upload(1));
    tokio::select! {
        biased;
        answer = &mut creation => is_unavailable(&answer),
        () = twice => panic!("a creation waits as long as two other requests one after the other"),
    }
    proxy.set(Mode::Pass);
    recovers(&app).await;
    app.expire_everything().await;
    app.nothing_is_lost_and_nothing_is_left().await;
}
