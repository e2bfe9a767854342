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
    text.len() == PREFIX.len() + 1 + SECRET + CHECKSUM
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
