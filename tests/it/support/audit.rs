//! The check that ends every test: after sweeps with the clock far ahead, every object has its row and every row its
//! object, and no key is in the log.

use sqlx::{AssertSqlSafe, Executor as _, PgPool};

use super::store::{Listed, object_name};
use super::{TestApp, eventually};

impl TestApp {
    /// Simulates the passing of time by moving all timestamps in the ledger into the past. The service uses only the
    /// database's clock.
    pub async fn let_time_pass(&self, interval: &str) {
        let_time_pass(&self.pool, interval).await;
    }

    /// Moves one upload's timestamps two hours into the past, so that it is expired.
    pub async fn expire(&self, upload: &str) {
        let id = upload.replace("upload_", "");
        let shift = "created_at = created_at - interval '2 hours', expires_at = expires_at - interval '2 hours'";
        move_clock(&self.pool, &format!("update upload set {shift} where id = '{id}'")).await;
    }

    /// Runs `windlass sweep` once. Returns its report.
    pub fn sweep(&self) -> String {
        let swept = self.run(&["sweep"]);
        assert!(swept.status.success(), "{}", String::from_utf8_lossy(&swept.stderr));
        String::from_utf8(swept.stdout).unwrap()
    }

    /// Waits for writers to finish, then checks that ledger and store agree and that files without an expiry are
    /// intact.
    pub async fn nothing_is_lost_and_nothing_is_left(&self) {
        self.no_writer_is_busy().await;
        self.ledger_and_store_agree_in_the_end().await;
        let log = self.log();
        assert!(self.clients().all(|it| !log.contains(&it.key)), "a key is in the log: {log}");
    }

    /// Like [`Self::nothing_is_lost_and_nothing_is_left`], but without waiting: rows that a killed writer has left in
    /// the state `receiving` do not change until they are swept.
    pub async fn ledger_and_store_agree_in_the_end(&self) {
        self.usage_is_counted_exactly().await;
        let kept = self.downloads().await;
        // Several rounds: discarded parts have a grace period, and rows of ended uploads are kept for a while.
        for _ in 0..3 {
            self.let_time_pass("400 days").await;
            self.sweep();
        }
        let stray: i64 = sqlx::query_scalar(
            "select count(*) from part left join file on file.id = upload_id
             where state <> 'stored' or part.id = any(manifest) is not true",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap();
        assert_eq!(stray, 0, "parts that are in no file");
        let rows = self.objects_in_the_ledger("true").await;
        assert_eq!(self.store.list().await, rows, "the store (left) and the ledger (right)");
        assert_eq!(self.store.half_done().await, 0, "unfinished multipart uploads");
        let stray: i64 = sqlx::query_scalar(
            "select count(*) from upload where not exists (select from file where file.id = upload.id)",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap();
        assert_eq!(stray, 0, "uploads without a file");
        let left: Vec<_> = self.downloads().await;
        assert!(left.iter().all(|it| kept.contains(it)), "a file has changed");
        self.usage_is_counted_exactly().await;
    }

    /// Checks that a recount of every project's uploads and files finds what was counted.
    pub async fn usage_is_counted_exactly(&self) {
        let differences: Vec<String> =
            sqlx::query_scalar("select it::text from usage_difference it").fetch_all(&self.pool).await.unwrap();
        assert!(differences.is_empty(), "a recount finds differences: {differences:?}");
    }

    /// Expires every pending upload, including those whose creation was not acknowledged.
    pub async fn expire_everything(&self) {
        self.let_time_pass("2 hours").await;
        self.sweep();
    }

    /// Waits until no part is in the state `receiving`: after a disconnect, that takes a moment.
    pub async fn no_writer_is_busy(&self) {
        let busy = "select count(*) from part where state = 'receiving'";
        eventually("no part is being received", async || {
            sqlx::query_scalar::<_, i64>(busy).fetch_one(&self.pool).await.unwrap() == 0
        })
        .await;
    }

    /// The id and the downloaded bytes of every file of both projects.
    async fn downloads(&self) -> Vec<(String, Vec<u8>)> {
        let mut downloads = Vec::new();
        for client in self.clients() {
            for file in client.get("/v1/files").await.ok()["data"].as_array().unwrap() {
                let id = file["id"].as_str().unwrap().to_owned();
                let bytes = client.download(&id).await;
                assert_eq!(bytes.len() as u64, file["bytes"].as_u64().unwrap());
                downloads.push((id, bytes));
            }
        }
        downloads
    }

    /// The objects of the parts that match an SQL condition, by name and size, without parts stored in the ledger.
    pub async fn objects_in_the_ledger(&self, condition: &str) -> Vec<Listed> {
        let statement = format!("select id, coalesce(bytes, -1) from part where content is null and ({condition})");
        let rows: Vec<(uuid::Uuid, i64)> =
            sqlx::query_as(AssertSqlSafe(statement)).fetch_all(&self.pool).await.unwrap();
        let mut objects: Vec<_> = rows
            .into_iter()
            .map(|(id, bytes)| (object_name(&format!("part_{}", id.simple())), bytes.unsigned_abs()))
            .collect();
        objects.sort();
        objects
    }
}

/// Moves all timestamps in the ledger into the past.
pub async fn let_time_pass(pool: &PgPool, interval: &str) {
    // In the service's lock order: a file before its upload, both before their parts.
    let statements = format!(
        "update file set created_at = created_at - interval '{interval}', expires_at = expires_at - interval '{interval}',
                         deleted_at = deleted_at - interval '{interval}';
         update upload set created_at = created_at - interval '{interval}', expires_at = expires_at - interval '{interval}',
                           ended_at = ended_at - interval '{interval}';
         update part set created_at = created_at - interval '{interval}', not_before = not_before - interval '{interval}';
         update used_url set expires_at = expires_at - interval '{interval}';
         update idempotency_key set expires_at = expires_at - interval '{interval}';
         update audit_event set at = at - interval '{interval}'"
    );
    move_clock(pool, &statements).await;
}

/// Runs statements with triggers disabled, to change columns that the schema makes immutable, such as timestamps.
pub async fn move_clock(pool: &PgPool, statements: &str) {
    let statements = format!("begin; set local session_replication_role = replica; {statements}; commit");
    pool.execute(sqlx::raw_sql(AssertSqlSafe(statements))).await.unwrap();
}
