//! Signed URLs: their secrets, whether one is still valid, and the use of those that can be used once.

use std::time::Duration;

use sqlx::PgExecutor;
use uuid::Uuid;
use windlass_types::UrlLifetime;

use super::{Result, keys, seconds};
use crate::model::{KeyRates, UrlClaims, UrlSecret, UrlSecrets};

/// All secrets, the newest first.
pub async fn list_secrets(db: impl PgExecutor<'_>) -> Result<UrlSecrets> {
    let rows = sqlx::query!(
        r#"select id, secret, signs_from <= now() as "signs!" from url_secret order by signs_from desc, id desc"#,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| UrlSecret::new(row.id, &row.secret, row.signs)).collect::<Vec<_>>().into())
}

/// Adds a secret that signs URLs from `delay` on.
pub async fn insert_secret(db: impl PgExecutor<'_>, id: Uuid, secret: &[u8], delay: Duration) -> Result<()> {
    sqlx::query!(
        "insert into url_secret (id, secret, signs_from) values ($1, $2, now() + make_interval(secs => $3))",
        id,
        secret,
        seconds(delay),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes the secrets that a newer one has replaced at least `age` ago. Returns their number.
pub async fn delete_replaced_secrets(db: impl PgExecutor<'_>, age: Duration) -> Result<u64> {
    let outcome = sqlx::query!(
        "delete from url_secret where exists (
             select from url_secret newer
             where newer.signs_from > url_secret.signs_from
               and newer.signs_from <= now() - make_interval(secs => $1))",
        seconds(age),
    )
    .execute(db)
    .await?;
    Ok(outcome.rows_affected())
}

/// When a URL that is signed now expires, in Unix seconds.
pub async fn expiry(db: impl PgExecutor<'_>, lifetime: UrlLifetime) -> Result<i64> {
    let row = sqlx::query!(r#"select extract(epoch from now())::bigint as "now!""#).fetch_one(db).await?;
    Ok(row.now.saturating_add(lifetime.seconds()))
}

/// Whether a URL is still valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UrlStatus {
    /// Whether it has expired.
    pub is_expired: bool,
    /// The rates of the key that created it, if the key is valid.
    pub rates: Option<KeyRates>,
    /// Whether it can be used once and was used.
    pub is_used: bool,
}

/// Checks a URL.
pub async fn status(db: impl PgExecutor<'_>, claims: &UrlClaims) -> Result<UrlStatus> {
    let row = sqlx::query!(
        r#"select extract(epoch from now()) >= $1::bigint as "is_expired!", key.id is not null as "is_key_valid!",
                  exists (select from used_url where id = $3) as "is_used!",
                  key.max_requests_per_second as "max_requests_per_second?",
                  key.max_bytes_per_second as "max_bytes_per_second?"
           from (select) one
           left join api_key key on key.id = $2 and key.revoked_at is null
                                and (key.expires_at is null or key.expires_at > now())"#,
        claims.expires_at,
        claims.key.uuid(),
        claims.once,
    )
    .fetch_one(db)
    .await?;
    let rates = keys::rates(row.max_requests_per_second, row.max_bytes_per_second);
    Ok(UrlStatus { is_expired: row.is_expired, rates: row.is_key_valid.then_some(rates), is_used: row.is_used })
}

/// Records that the request `used_by` used a URL that can be used once. Returns false if another request used it before.
/// Idempotent.
pub async fn mark_used(db: impl PgExecutor<'_>, id: Uuid, expires_at: i64, used_by: Uuid) -> Result<bool> {
    let outcome = sqlx::query!(
        "insert into used_url (id, used_by, expires_at) values ($1, $2, to_timestamp($3::bigint))
         on conflict (id) do update set used_by = excluded.used_by where used_url.used_by = excluded.used_by",
        id,
        used_by,
        expires_at,
    )
    .execute(db)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

/// The request that used a URL; for an upload, the id of the File that it created, even if that was deleted.
pub async fn find_use(db: impl PgExecutor<'_>, id: Uuid) -> Result<Option<Uuid>> {
    let row = sqlx::query!("select used_by from used_url where id = $1", id).fetch_optional(db).await?;
    Ok(row.map(|row| row.used_by))
}

/// Deletes up to `batch` rows of URLs that have expired at least `age` ago. Returns their number.
pub async fn delete_expired_uses(db: impl PgExecutor<'_>, age: Duration, batch: u16) -> Result<u64> {
    let outcome = sqlx::query!(
        "delete from used_url where ctid = any (array(
             select ctid from used_url where expires_at < now() - make_interval(secs => $1)
             order by expires_at limit $2 for update skip locked))",
        seconds(age),
        i64::from(batch),
    )
    .execute(db)
    .await?;
    Ok(outcome.rows_affected())
}
