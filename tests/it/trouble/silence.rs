//! How long a client waits for a Postgres that does not respond: one timeout, whatever is done inside.

use crate::support::wire::Mode;

use super::postgres::{app_on_a_wire, is_away, recovers};

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_waits_no_longer_for_a_silent_postgres_than_anything_else() {
    let (app, wire) = app_on_a_wire().await;
    app.client.upload(1).await;
    wire.set(Mode::Silent);
    let twice = async {
        for _ in 0..2 {
            is_away(&app.client.get("/v1/files/file-00000000000000000000000000000000").await);
        }
    };
    let mut creation = std::pin::pin!(app.client.begin_upload(1));
    tokio::select! {
        biased;
        answer = &mut creation => is_away(&answer),
        () = twice => panic!("a creation waits as long as two other requests one after the other"),
    }
    wire.set(Mode::Pass);
    recovers(&app).await;
    app.expire_everything().await;
    app.nothing_is_lost_and_nothing_is_left().await;
}
