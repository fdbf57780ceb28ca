//! The question that ends every test: after a sweep with the clock far ahead, has every object its
//! row, and every row its object?

use sqlx::{AssertSqlSafe, Executor as _, PgPool};

use super::store::{Listed, object_name};
use super::{TestApp, eventually};

impl TestApp {
    /// Moves the clock ahead by moving everything that the ledger remembers into the past: the
    /// database's clock is the only one that decides.
    pub async fn let_time_pass(&self, interval: &str) {
        let_time_pass(&self.pool, interval).await;
    }

    /// Moves the clock ahead for one upload only, past its hour.
    pub async fn expire(&self, upload: &str) {
        let id = upload.replace("upload_", "");
        let shift = "created_at = created_at - interval '2 hours', expires_at = expires_at - interval '2 hours'";
        move_clock(&self.pool, &format!("update upload set {shift} where id = '{id}'")).await;
    }

    /// One `windlass sweep`.
    pub fn sweep(&self) -> String {
        let swept = self.run(&["sweep"]);
        assert!(swept.status.success(), "{}", String::from_utf8_lossy(&swept.stderr));
        String::from_utf8(swept.stdout).unwrap()
    }

    /// Asks the question. Files that nobody deleted and that never expire are still there, whole.
    pub async fn nothing_is_lost_and_nothing_is_left(&self) {
        self.no_writer_is_busy().await;
        self.ledger_and_store_agree_in_the_end().await;
    }

    /// The same, also where a death has left writers' rows that no writer will take back.
    pub async fn ledger_and_store_agree_in_the_end(&self) {
        let kept = self.downloads().await;
        // Expiry gives what it discards a grace, and what is collected is remembered for a while.
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
        assert_eq!(self.store.half_done().await, 0, "half-done multipart uploads");
        let stray: i64 = sqlx::query_scalar(
            "select count(*) from upload where not exists (select from file where file.id = upload.id)",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap();
        assert_eq!(stray, 0, "uploads that are still remembered");
        let left: Vec<_> = self.downloads().await;
        assert!(left.iter().all(|it| kept.contains(it)), "a file has changed");
    }

    /// Ends every upload that is pending, as time does: also those that nobody was told of.
    pub async fn expire_everything(&self) {
        self.let_time_pass("2 hours").await;
        self.sweep();
    }

    /// A writer whose client went away takes a moment to write that down.
    pub async fn no_writer_is_busy(&self) {
        let busy = "select count(*) from part where state = 'receiving'";
        eventually("no part is being received", async || {
            sqlx::query_scalar::<_, i64>(busy).fetch_one(&self.pool).await.unwrap() == 0
        })
        .await;
    }

    /// Every file of both projects: its id and its bytes, as it is downloaded.
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

    /// The objects that rows like that are about, by name and size. What is in the ledger itself is none.
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

/// Moves everything that the ledger remembers into the past.
pub async fn let_time_pass(pool: &PgPool, interval: &str) {
    // In the order in which the service locks them: a file before its upload, both before their parts.
    let statements = format!(
        "update file set created_at = created_at - interval '{interval}', expires_at = expires_at - interval '{interval}',
                         deleted_at = deleted_at - interval '{interval}';
         update upload set created_at = created_at - interval '{interval}', expires_at = expires_at - interval '{interval}',
                           ended_at = ended_at - interval '{interval}';
         update part set created_at = created_at - interval '{interval}', not_before = not_before - interval '{interval}'"
    );
    move_clock(pool, &statements).await;
}

/// Writes other times into rows. No trigger looks on: it is the clock that changes, not the rows.
pub async fn move_clock(pool: &PgPool, statements: &str) {
    let statements = format!("begin; set local session_replication_role = replica; {statements}; commit");
    pool.execute(sqlx::raw_sql(AssertSqlSafe(statements))).await.unwrap();
}
