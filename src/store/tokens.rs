//! Tokens of programs: their text, and who may use one. Only the SHA-256 of a token is stored.
//!
//! Source: trust design, section 6. `^cf_[iam][0-9A-Za-z]{49}$`: kind, 32 random bytes and a checksum, both in base 62. The
//! checksum refuses junk before the database is asked and lets secret scanners recognise what leaked.

use crate::model::permission::{Permission, Role, Scope};
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIX: &str = "cf_";
const SECRET: usize = 43;
const CHECKSUM: usize = 6;
/// Bytes of a token's text.
pub const LENGTH: usize = PREFIX.len() + 1 + SECRET + CHECKSUM;

/// A token that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Key.
    pub token_id: i64,
    /// Words for people.
    pub name: String,
    /// Account name, or `console:NAME`.
    pub owner: String,
    /// Role the owner has now; `None` for tokens of the console, which are bound by their scopes alone.
    pub owner_role: Option<Role>,
    /// What it is for.
    pub scopes: Vec<Scope>,
    /// Ingest: the only hosts it may speak for; empty = any.
    pub allowed_hosts: Vec<String>,
    /// Ingest: host of events that name none.
    pub default_host: Option<String>,
    /// Ingest: offset of times without one, in minutes east of UTC.
    pub utc_offset_minutes: Option<i32>,
}

impl Token {
    /// Whether its scopes and its owner's role both hold the permission.
    pub fn may(&self, permission: Permission) -> bool {
        self.scopes.iter().any(|s| s.may(permission)) && self.owner_role.is_none_or(|r| r.may(permission))
    }
}

/// Big-endian bytes as `width` digits of base 62.
fn base62(bytes: &[u8], width: usize) -> String {
    let mut digits = vec![0u32; width];
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in digits.iter_mut().rev() {
            carry += *digit << 8;
            *digit = carry % 62;
            carry /= 62;
        }
    }
    digits.into_iter().map(|d| char::from(ALPHABET[d as usize])).collect()
}

fn checksum(body: &str) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(body.as_bytes());
    base62(&crc.sum().to_be_bytes(), CHECKSUM)
}

/// Text of a new token for these scopes. The letter is for people; rights come from the scopes.
pub fn mint(scopes: &[Scope]) -> String {
    let kind = match scopes {
        [Scope::Ingest] => 'i',
        [Scope::Metrics] => 'm',
        _ => 'a',
    };
    let body = format!("{PREFIX}{kind}{}", base62(&rand::random::<[u8; 32]>(), SECRET));
    let sum = checksum(&body);
    body + &sum
}

/// Whether the text has the form of a token, checksum included.
pub fn is_well_formed(text: &str) -> bool {
    text.len() == LENGTH
        && text.bytes().skip(PREFIX.len()).all(|b| b.is_ascii_alphanumeric())
        && text.starts_with(PREFIX)
        && matches!(text.as_bytes().get(PREFIX.len()), Some(b'i' | b'a' | b'm'))
        && text.split_at_checked(text.len() - CHECKSUM).is_some_and(|(body, sum)| checksum(body) == sum)
}

/// What is stored of a token.
pub fn digest(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes()).to_vec()
}

/// The token behind a presented text, unless it is junk, unknown, expired, revoked, or its owner is gone or disabled.
pub async fn authenticate(conn: &mut PgConnection, presented: &str, now: DateTime<Utc>) -> sqlx::Result<Option<Token>> {
    if !is_well_formed(presented) {
        return Ok(None);
    }
    let Some(row) = sqlx::query!(
        r#"select t.token_id, t.name, t.owner, t.scopes, t.allowed_hosts, t.default_host, t.utc_offset_minutes, t.last_used,
             a.role as "role?"
           from api_token t left join account a on a.name = t.owner and a.disabled_at is null
           where t.token_hash = $1 and t.expires_at > $2 and t.revoked_at is null
             and (a.account_id is not null or t.owner like 'console:%')"#,
        digest(presented),
        now
    )
    .fetch_optional(&mut *conn)
    .await?
    else {
        return Ok(None);
    };
    if row.last_used.is_none_or(|used| used < now - TimeDelta::minutes(1)) {
        sqlx::query!("update api_token set last_used = $2 where token_id = $1", row.token_id, now).execute(conn).await?;
    }
    Ok(Some(Token {
        token_id: row.token_id,
        name: row.name,
        owner: row.owner,
        // An unknown word in the table gives no right.
        owner_role: match row.role.map(|r| r.parse()) {
            None => None,
            Some(Ok(role)) => Some(role),
            Some(Err(_)) => return Ok(None),
        },
        scopes: row.scopes.iter().filter_map(|s| s.parse().ok()).collect(),
        allowed_hosts: row.allowed_hosts,
        default_host: row.default_host,
        utc_offset_minutes: row.utc_offset_minutes,
    }))
}

/// A token to be made.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    /// Words for people; once only.
    pub name: &'a str,
    /// What it is for.
    pub scopes: &'a [Scope],
    /// Account name, or `console:NAME`.
    pub owner: &'a str,
    /// Ingest: the only host it may speak for, and the host of events that name none.
    pub host: Option<&'a str>,
    /// Wall clock.
    pub expires_at: DateTime<Utc>,
}

/// Makes a token and answers its text, which is kept nowhere; `None` when the name is taken.
pub async fn create(conn: &mut PgConnection, new: &New<'_>, now: DateTime<Utc>) -> sqlx::Result<Option<String>> {
    let text = mint(new.scopes);
    let scopes: Vec<String> = new.scopes.iter().map(|s| s.as_str().to_owned()).collect();
    let host = new.host.map(str::to_lowercase);
    let made = sqlx::query_scalar!(
        "insert into api_token (token_hash, prefix, name, scopes, owner, allowed_hosts, default_host, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (name) do nothing returning token_id",
        digest(&text),
        text.get(..8),
        new.name,
        &scopes,
        new.owner,
        &host.iter().cloned().collect::<Vec<_>>(),
        host,
        now,
        new.expires_at
    )
    .fetch_optional(conn)
    .await?;
    Ok(made.map(|_| text))
}

/// What an ingest token says of records that do not say it themselves, and whom it may speak for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binding {
    /// Host of events that name none.
    pub default_host: Option<String>,
    /// The only hosts it may speak for; empty = any.
    pub allowed_hosts: Vec<String>,
    /// Offset of times without one, in minutes east of UTC.
    pub utc_offset_minutes: Option<i32>,
}

/// Sets the binding of a token.
pub async fn bind(conn: &mut PgConnection, name: &str, binding: &Binding) -> sqlx::Result<()> {
    let lower: Vec<String> = binding.allowed_hosts.iter().map(|h| h.to_lowercase()).collect();
    sqlx::query!(
        "-- store::tokens::bind
         update api_token set default_host = $2, allowed_hosts = $3, utc_offset_minutes = $4 where name = $1",
        name,
        binding.default_host.as_ref().map(|h| h.to_lowercase()),
        &lower,
        binding.utc_offset_minutes
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The binding of a token, revoked ones included; `None` when there is no such token.
pub async fn binding(conn: &mut PgConnection, name: &str) -> sqlx::Result<Option<Binding>> {
    sqlx::query_as!(
        Binding,
        "-- store::tokens::binding
         select default_host, allowed_hosts, utc_offset_minutes from api_token where name = $1",
        name
    )
    .fetch_optional(conn)
    .await
}

/// A token as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Words for people.
    pub name: String,
    /// First characters of its text.
    pub prefix: String,
    /// What it is for.
    pub scopes: Vec<String>,
    /// Account name, or `console:NAME`.
    pub owner: String,
    /// The only hosts it may speak for; empty = any.
    pub allowed_hosts: Vec<String>,
    /// Wall clock.
    pub created_at: DateTime<Utc>,
    /// Wall clock.
    pub expires_at: DateTime<Utc>,
    /// Wall clock.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Wall clock, to the minute.
    pub last_used: Option<DateTime<Utc>>,
}

/// All tokens by name, those that no longer count included.
pub async fn list(conn: &mut PgConnection) -> sqlx::Result<Vec<Listed>> {
    sqlx::query_as!(
        Listed,
        "select name, prefix, scopes, owner, allowed_hosts, created_at, expires_at, revoked_at, last_used from api_token order by name"
    )
    .fetch_all(conn)
    .await
}

/// Ends a token everywhere; `false` when none of that name counts.
pub async fn revoke(conn: &mut PgConnection, name: &str, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update api_token set revoked_at = $2 where name = $1 and revoked_at is null and expires_at > $2",
        name,
        now
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_token_is_well_formed_and_any_other_letter_is_not() {
        for (scopes, kind) in [(vec![Scope::Ingest], 'i'), (vec![Scope::Metrics], 'm'), (vec![Scope::Read, Scope::Ingest], 'a')] {
            let token = mint(&scopes);
            assert_eq!(token.chars().nth(3), Some(kind));
            assert!(is_well_formed(&token), "{token}");
            for at in 0..token.len() {
                let mut other = token.clone().into_bytes();
                other[at] = if other[at] == b'x' { b'y' } else { b'x' };
                assert!(!is_well_formed(std::str::from_utf8(&other).unwrap()), "{at}");
            }
        }
        for junk in ["", "cf_", "cf_a", "Bearer x", &"é".repeat(30)] {
            assert!(!is_well_formed(junk));
        }
    }

    #[test]
    fn base_62_keeps_every_bit() {
        assert_eq!(base62(&[0; 32], SECRET), "0".repeat(SECRET));
        assert_eq!(base62(&[61], 2), "0z");
        assert_eq!(base62(&[1, 0], 3), "048");
        assert_ne!(base62(&[255; 32], SECRET), base62(&[254; 32], SECRET));
    }

    #[test]
    fn a_token_never_exceeds_the_role_of_its_owner() {
        let token = |role| Token {
            token_id: 1,
            name: String::new(),
            owner: String::new(),
            owner_role: role,
            scopes: vec![Scope::Admin],
            allowed_hosts: vec![],
            default_host: None,
            utc_offset_minutes: None,
        };
        assert!(token(None).may(Permission::Tune));
        assert!(token(Some(Role::Lead)).may(Permission::Tune));
        assert!(!token(Some(Role::Analyst)).may(Permission::Tune));
        assert!(!token(None).may(Permission::Administer));
    }
}
