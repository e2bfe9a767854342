//! Browser sessions: 256 random bits in a cookie, their SHA-256 in the database, looked up on every request.
//!
//! Source of the limits: trust design, section 4. A session ends in every process at once, since nothing is cached.

use crate::model::permission::Role;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

/// A session nobody used for this long is over.
pub const IDLE: TimeDelta = TimeDelta::minutes(30);
/// No session lives longer.
pub const LONGEST: TimeDelta = TimeDelta::hours(12);
/// More than these, and the oldest goes.
const PER_ACCOUNT: i64 = 10;

/// A session that counts, with the account behind it.
#[derive(Debug, Clone)]
pub struct Session {
    /// Key of the account.
    pub account_id: i64,
    /// Account name.
    pub name: String,
    /// Its role now, not at sign-in.
    pub role: Role,
    /// Hidden field of every form.
    pub csrf: String,
    /// Only the set-password page opens.
    pub must_set_password: bool,
    /// When the password was last given.
    pub reauthenticated_at: DateTime<Utc>,
}

fn digest(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// Begins a session and returns the cookie's value. Sessions beyond ten per account end, oldest first.
pub async fn begin(conn: &mut PgConnection, account_id: i64, address: Option<&str>, now: DateTime<Utc>) -> sqlx::Result<String> {
    let token = random();
    sqlx::query!(
        "insert into session (token_hash, account_id, csrf, created_at, last_seen, reauthenticated_at, address)
         values ($1, $2, $3, $4, $4, $4, $5)",
        digest(&token),
        account_id,
        random(),
        now,
        address
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "delete from session where token_hash in (
           select token_hash from session where account_id = $1 order by created_at desc, token_hash offset $2)
         or created_at < $3 or last_seen < $4",
        account_id,
        PER_ACCOUNT,
        now - LONGEST,
        now - IDLE
    )
    .execute(conn)
    .await?;
    Ok(token)
}

/// Whether the session of a cookie still counts. Notes nothing: a stream does not keep a session alive.
pub async fn alive(conn: &mut PgConnection, token: &str, now: DateTime<Utc>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"-- store::sessions::alive
        select exists (select from session s join account a using (account_id)
          where s.token_hash = $1 and s.created_at > $2 and s.last_seen > $3 and a.disabled_at is null) as "alive!""#,
        digest(token),
        now - LONGEST,
        now - IDLE
    )
    .fetch_one(conn)
    .await
}

/// The session of a cookie, if it still counts. Notes the visit at most once a minute.
pub async fn find(conn: &mut PgConnection, token: &str, now: DateTime<Utc>) -> anyhow::Result<Option<Session>> {
    let hash = digest(token);
    let Some(row) = sqlx::query!(
        "select s.account_id, s.csrf, s.last_seen, s.reauthenticated_at, a.name, a.role, a.must_set_password
         from session s join account a using (account_id)
         where s.token_hash = $1 and s.created_at > $2 and s.last_seen > $3 and a.disabled_at is null",
        hash,
        now - LONGEST,
        now - IDLE
    )
    .fetch_optional(&mut *conn)
    .await?
    else {
        return Ok(None);
    };
    if row.last_seen < now - TimeDelta::minutes(1) {
        sqlx::query!("update session set last_seen = $2 where token_hash = $1", hash, now).execute(conn).await?;
    }
    Ok(Some(Session {
        account_id: row.account_id,
        name: row.name,
        role: row.role.parse()?,
        csrf: row.csrf,
        must_set_password: row.must_set_password,
        reauthenticated_at: row.reauthenticated_at,
    }))
}

/// Ends one session.
pub async fn end(conn: &mut PgConnection, token: &str) -> sqlx::Result<()> {
    sqlx::query!("delete from session where token_hash = $1", digest(token)).execute(conn).await?;
    Ok(())
}

/// Ends all sessions of an account: on disable, role or password change.
pub async fn end_all(conn: &mut PgConnection, account_id: i64) -> sqlx::Result<u64> {
    Ok(sqlx::query!("delete from session where account_id = $1", account_id).execute(conn).await?.rows_affected())
}

/// Notes that the password was given again in the session that holds this hidden token.
pub async fn renew(conn: &mut PgConnection, account_id: i64, csrf: &str, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "-- store::sessions::renew
         update session set reauthenticated_at = $3 where account_id = $1 and csrf = $2",
        account_id,
        csrf,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sessions that still count, by account.
pub async fn counts(conn: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<Vec<(i64, i64)>> {
    let rows = sqlx::query!(
        r#"-- store::sessions::counts
           select account_id, count(*) as "n!" from session where created_at > $1 and last_seen > $2 group by account_id"#,
        now - LONGEST,
        now - IDLE
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|r| (r.account_id, r.n)).collect())
}
