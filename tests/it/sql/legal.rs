//! The legal sequences of states: from an Upload's first row until all its rows are deleted.

use sqlx::{AssertSqlSafe, Executor as _, PgPool};

use super::illegal::states;

/// Runs the steps, each in a transaction that has to affect at least one row.
async fn go(pool: &PgPool, steps: &[&'static str]) {
    for step in steps {
        let mut tx = pool.begin().await.unwrap();
        let done = tx.execute(sqlx::raw_sql(*step)).await.unwrap_or_else(|e| panic!("{step}: {e}"));
        assert!(done.rows_affected() > 0, "{step}");
        tx.commit().await.unwrap_or_else(|e| panic!("{step}: {e}"));
    }
}

/// Runs a query that returns one number.
async fn count(pool: &PgPool, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn an_upload_becomes_a_file_and_is_finally_deleted() {
    let pool = states().await;
    let steps = [
        "insert into part (id, upload_id) values (gen_random_uuid(), filling())",
        "update part set multipart_id = 'm-2' where id = receiving()",
        "select store(receiving(), 30)",
        // The client chooses the order, and unlisted parts are discarded.
        "select complete(filling(), array[stored_too(), stored()])",
        "update file set deleted_at = now() where id = filling();
         select discard(stored()), discard(stored_too())",
        "update part set attempts = attempts + 1, not_before = not_before + interval '20 seconds' where upload_id = filling()",
        "update part set last_error = 'the store is unreachable' where id = stored()",
        "delete from part where upload_id = filling()",
        "delete from file where id = filling(); delete from upload where id = filling()",
    ];
    go(&pool, &steps).await;
    assert_eq!(count(&pool, "select count(*) from upload where id = filling()").await, 0);
}

#[tokio::test]
async fn a_part_in_the_ledger_becomes_a_file_or_is_deleted_with_its_row() {
    let pool = states().await;
    let steps = [
        "insert into part (id, upload_id, state, bytes, crc64nvme, content, md5_state, md5_follows)
         values (gen_random_uuid(), elsewhere(), 'stored', 65536, 1, repeat('a', 65536)::bytea, '\\x01', kept())",
        "update upload set status = 'cancelled', ended_at = now() where id = elsewhere();
         select discard(id) from part where upload_id = elsewhere() and state = 'stored'",
        "update part set attempts = attempts + 1 where upload_id = elsewhere()",
        "delete from part where upload_id = elsewhere()",
        "insert into part (id, upload_id, state, bytes, crc64nvme, content)
         values (gen_random_uuid(), filling(), 'stored', 30, 7, 'thirty bytes, neither less nor')",
        "select complete(filling(), array[id]) from part where octet_length(content) = 30",
    ];
    go(&pool, &steps).await;
    assert_eq!(count(&pool, "select count(*) from part where content is not null").await, 1);
}

#[tokio::test]
async fn a_file_and_its_upload_may_be_deleted_in_either_order_in_one_transaction() {
    let pool = states().await;
    go(&pool, &["delete from file where id = gone(); delete from upload where id = gone()"]).await;
    let at_once = "with file as (delete from file where id = deleted()) delete from upload where id = deleted()";
    go(&pool, &["delete from part where id = leaving()", at_once]).await;
}

#[tokio::test]
async fn an_upload_without_bytes_becomes_a_file_without_parts() {
    let pool = states().await;
    go(&pool, &["select end_as(empty(), 'completed'), make_file(empty())"]).await;
    assert_eq!(count(&pool, "select bytes from file where id = empty()").await, 0);
}

#[tokio::test]
async fn a_form_is_declared_later_and_becomes_a_file() {
    let pool = states().await;
    let steps = [
        "insert into part (id, upload_id) values (gen_random_uuid(), form())",
        "select store(id, 5) from part where upload_id = form()",
        "update upload set filename = 'a', purpose = 'vision', mime_type = 'image/png', bytes = 5, file_lifetime_seconds = 3600
         where id = form()",
        "select complete(form(), array[id]) from part where upload_id = form()",
    ];
    go(&pool, &steps).await;
    assert_eq!(count(&pool, "select bytes from file where id = form()").await, 5);
}

#[tokio::test]
async fn uploads_that_end_unfinished_are_collected_and_deleted() {
    for how in ["cancelled", "expired"] {
        let pool = states().await;
        let mut tx = pool.begin().await.unwrap();
        sqlx::query("select end_as(filling(), $1), end_as(form(), $1)").bind(how).execute(&mut *tx).await.unwrap();
        let discard = "select discard(id) from part where upload_id = filling() and state <> 'garbage'";
        tx.execute(discard).await.unwrap();
        tx.commit().await.unwrap();
        let steps =
            ["delete from part where upload_id = filling()", "delete from upload where id in (filling(), form())"];
        go(&pool, &steps).await;
    }
}

#[tokio::test]
async fn an_ended_upload_may_leave_its_parts_to_the_queue() {
    let queue = "insert into unfinished_discard (upload_id) values (filling())";
    let mut ends = vec![
        format!("{queue}; select discard(stored())"),
        "select discard(id) from part where upload_id = filling() and state <> 'garbage'".to_owned(),
        "delete from unfinished_discard".to_owned(),
    ];
    ends[0] = format!("select end_as(filling(), 'cancelled'); {}", ends[0]);
    let cancelled = ends.clone();
    ends[0] = format!(
        "select make_file(filling(), manifest => array[stored(), stored_too()]), end_as(filling(), 'completed'); {queue}"
    );
    ends[1] = "select discard(id) from part
               where upload_id = filling() and state <> 'garbage' and id not in (stored(), stored_too())"
        .to_owned();
    let completed = ends.clone();
    ends[1] = "update file set deleted_at = now() where id = filling();
               select discard(id) from part where upload_id = filling() and state <> 'garbage'"
        .to_owned();
    for steps in [cancelled, completed, ends] {
        let pool = states().await;
        for step in steps {
            let mut tx = pool.begin().await.unwrap();
            tx.execute(sqlx::raw_sql(AssertSqlSafe(step.clone()))).await.unwrap_or_else(|e| panic!("{step}: {e}"));
            tx.commit().await.unwrap_or_else(|e| panic!("{step}: {e}"));
        }
        assert_eq!(count(&pool, "select count(*) from unfinished_discard").await, 0);
    }
}
