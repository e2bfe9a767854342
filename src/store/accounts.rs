//! People: accounts, passwords and the throttle of sign-ins.
//!
//! Source of the parameters: trust design, section 3 (ASVS 5.0, appendix C). Hashing is slow on purpose: one at a time per
//! process, off the async threads, else signing in would be a way to exhaust memory.

use crate::model::permission::Role;
use anyhow::Context as _;
use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use std::sync::LazyLock;
use tokio::sync::Semaphore;

/// Characters a password must have. Source: trust design, section 3.
pub const PASSWORD_LENGTH: std::ops::RangeInclusive<usize> = 15..=128;
/// Life of a one-time password.
pub const ONE_TIME: TimeDelta = TimeDelta::hours(24);

/// A row of `account`, without its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Key.
    pub account_id: i64,
    /// Lower case.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The password they have is for setting another.
    pub must_set_password: bool,
    /// When it was disabled.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Last time the password was right.
    pub last_sign_in: Option<DateTime<Utc>>,
}

macro_rules! account {
    ($row:expr) => {
        Account {
            account_id: $row.account_id,
            name: $row.name,
            role: $row.role.parse()?,
            must_set_password: $row.must_set_password,
            disabled_at: $row.disabled_at,
            created_by: $row.created_by,
            created_at: $row.created_at,
            last_sign_in: $row.last_sign_in,
        }
    };
}

static ARGON: LazyLock<Argon2<'static>> = LazyLock::new(|| {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64 * 1024, 3, 1, None).expect("constant parameters"))
});
static TURN: Semaphore = Semaphore::const_new(1);

async fn in_turn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    let _turn = TURN.acquire().await?;
    tokio::task::spawn_blocking(work).await.context("hashing a password")
}

/// PHC string of a password. Slow: about 0.1 s.
pub async fn hash(password: String) -> anyhow::Result<String> {
    in_turn(move || ARGON.hash_password(password.as_bytes()).map(|h| h.to_string()))
        .await?
        .map_err(|e| anyhow::anyhow!("hashing a password: {e}"))
}

/// Whether the password is the one of the hash. Without a hash it takes as long and is never right.
async fn matches(password: String, hash: Option<String>) -> anyhow::Result<bool> {
    in_turn(move || match hash {
        Some(hash) => PasswordHash::new(&hash).is_ok_and(|h| ARGON.verify_password(password.as_bytes(), &h).is_ok()),
        None => ARGON.hash_password(password.as_bytes()).is_err(),
    })
    .await
}

/// Whether any account exists.
pub async fn any(conn: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"select exists (select from account) as "any!""#).fetch_one(conn).await
}

/// Names of the accounts that can be given work, at most 100.
pub async fn names(conn: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "-- store::accounts::names
        select name from account where disabled_at is null and role in ('analyst', 'lead', 'admin') order by name limit 100"
    )
    .fetch_all(conn)
    .await
}

/// All accounts by name.
pub async fn list(conn: &mut PgConnection) -> anyhow::Result<Vec<Account>> {
    sqlx::query!(
        "select account_id, name, role, must_set_password, disabled_at, created_by, created_at, last_sign_in
         from account order by name"
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(|row| Ok(account!(row)))
    .collect()
}

/// One account by name.
pub async fn find(conn: &mut PgConnection, name: &str) -> anyhow::Result<Option<Account>> {
    let row = sqlx::query!(
        "select account_id, name, role, must_set_password, disabled_at, created_by, created_at, last_sign_in
         from account where name = lower($1)",
        name
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok(account!(row))).transpose()
}

/// A password as it is stored.
#[derive(Debug, Clone)]
pub struct Password {
    /// From [`hash`].
    pub hash: String,
    /// Good for one sign-in, for 24 hours, to set another.
    pub one_time: bool,
}

/// Makes an account; `None` when the name is taken.
pub async fn create(
    conn: &mut PgConnection,
    name: &str,
    role: Role,
    password: &Password,
    by: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "insert into account (name, role, password_hash, must_set_password, password_expires_at, created_by, created_at)
         values (lower($1), $2, $3, $4, $5, $6, $7) on conflict (name) do nothing returning account_id",
        name,
        role.as_str(),
        password.hash,
        password.one_time,
        password.one_time.then(|| now + ONE_TIME),
        by,
        now
    )
    .fetch_optional(conn)
    .await
}

/// Replaces a password and ends the sessions of the account; `false` when there is no such account.
pub async fn set_password(conn: &mut PgConnection, name: &str, password: &Password, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let account_id = sqlx::query_scalar!(
        "update account set password_hash = $2, must_set_password = $3, password_expires_at = $4 where name = lower($1)
         returning account_id",
        name,
        password.hash,
        password.one_time,
        password.one_time.then(|| now + ONE_TIME)
    )
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(account_id) = account_id {
        super::sessions::end_all(conn, account_id).await?;
    }
    Ok(account_id.is_some())
}

/// Disables an account and ends its sessions; `false` when there is no such account.
pub async fn disable(conn: &mut PgConnection, name: &str, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let account_id = sqlx::query_scalar!(
        "update account set disabled_at = coalesce(disabled_at, $2) where name = lower($1) returning account_id",
        name,
        now
    )
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(account_id) = account_id {
        super::sessions::end_all(conn, account_id).await?;
    }
    Ok(account_id.is_some())
}

/// Opens a disabled account again; `false` when there is no such account. It needs a new password to be of use.
pub async fn enable(conn: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "-- store::accounts::enable
         update account set disabled_at = null where name = lower($1)",
        name
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Gives an account another role and ends its sessions; `false` when there is no such account.
pub async fn set_role(conn: &mut PgConnection, name: &str, role: Role) -> sqlx::Result<bool> {
    let account_id = sqlx::query_scalar!(
        "-- store::accounts::set_role
         update account set role = $2 where name = lower($1) returning account_id",
        name,
        role.as_str()
    )
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(account_id) = account_id {
        super::sessions::end_all(conn, account_id).await?;
    }
    Ok(account_id.is_some())
}

/// What became of a sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignIn {
    /// The password is right.
    Welcome(Account),
    /// Unknown name, wrong password, disabled or out of date: one answer for all.
    Wrong,
    /// Too many tries; nothing was looked at.
    Wait(TimeDelta),
}

/// Tries a password. The try is counted, and committed by itself, before the password is looked at.
pub async fn sign_in(conn: &mut PgConnection, name: &str, password: String, address: &str, now: DateTime<Utc>) -> anyhow::Result<SignIn> {
    let name = name.trim().to_lowercase();
    let (by_name, by_address) = (format!("account:{name}"), format!("address:{address}"));
    // Five are free, then 2, 4, 8 .. seconds up to 15 minutes.
    let account_wait = count(conn, &by_name, now, |failures| match u32::try_from(failures - 5) {
        Ok(over @ 1..) => TimeDelta::seconds(2i64.pow(over.min(10)).min(900)),
        _ => TimeDelta::zero(),
    })
    .await?;
    let address_wait = count(conn, &by_address, now, |failures| TimeDelta::minutes(15) * i32::from(failures > 50)).await?;
    if let Some(wait) = account_wait.max(address_wait) {
        return Ok(SignIn::Wait(wait));
    }
    let row = sqlx::query!(
        "select account_id, name, role, must_set_password, disabled_at, created_by, created_at, last_sign_in, password_hash
         from account where name = $1 and disabled_at is null and (password_expires_at is null or password_expires_at > $2)",
        name,
        now
    )
    .fetch_optional(&mut *conn)
    .await?;
    let right = matches(password, row.as_ref().map(|r| r.password_hash.clone())).await?;
    let Some(row) = row.filter(|_| right) else {
        return Ok(SignIn::Wrong);
    };
    sqlx::query!("delete from login_attempt where subject = $1", by_name).execute(&mut *conn).await?;
    sqlx::query!("update login_attempt set failures = greatest(failures - 1, 0) where subject = $1", by_address)
        .execute(&mut *conn)
        .await?;
    // A one-time password is used up by its first sign-in: what is left of its life is that of the session.
    sqlx::query!(
        "update account set last_sign_in = $2::timestamptz, password_expires_at = case when must_set_password then $2::timestamptz end where account_id = $1",
        row.account_id,
        now
    )
    .execute(conn)
    .await?;
    Ok(SignIn::Welcome(account!(row)))
}

/// Counts a try of a subject; says how long to wait if it must not be looked at. A quarter of an hour without one forgets.
async fn count(
    conn: &mut PgConnection,
    subject: &str,
    now: DateTime<Utc>,
    wait: impl FnOnce(i32) -> TimeDelta,
) -> sqlx::Result<Option<TimeDelta>> {
    use sqlx::Connection as _;
    let mut tx = conn.begin().await?;
    sqlx::query!(
        "insert into login_attempt (subject, failures, blocked_until, last_at) values ($1, 0, $2, $2) on conflict (subject) do nothing",
        subject,
        now
    )
    .execute(&mut *tx)
    .await?;
    let seen = sqlx::query!("select failures, blocked_until, last_at from login_attempt where subject = $1 for update", subject)
        .fetch_one(&mut *tx)
        .await?;
    if seen.blocked_until > now {
        return Ok(Some(seen.blocked_until - now));
    }
    let failures = if now - seen.last_at > TimeDelta::minutes(15) { 1 } else { seen.failures.saturating_add(1) };
    sqlx::query!(
        "update login_attempt set failures = $2, blocked_until = $3, last_at = $4 where subject = $1",
        subject,
        failures,
        now + wait(failures),
        now
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(None)
}
