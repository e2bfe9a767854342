//! The audit chain: who did what, in the transaction of the deed, each row sealed over the one before (trust design, section 8).
//!
//! [`append`] is the last statement of every audited change: it locks the chain's head, so lock order is the same everywhere and
//! a change exists exactly when its row does.

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use sqlx::PgConnection;
use std::{fmt, sync::Arc};

/// Who acts, from where, and the key that seals what they do.
#[derive(Clone)]
pub struct Actor {
    /// Account name; `console:NAME` on the console; `system`.
    pub name: String,
    /// Address of the client.
    pub address: Option<String>,
    /// Request id.
    pub request_id: Option<String>,
    key: Arc<[u8]>,
}

impl Actor {
    /// A person or token behind a request.
    pub fn new(name: impl Into<String>, key: Arc<[u8]>) -> Self {
        Self { name: name.into(), address: None, request_id: None, key }
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actor").field("name", &self.name).field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

/// What was done to what. `before` and `after` hold what changed, never secrets.
#[derive(Debug, Clone, Default)]
pub struct Deed<'a> {
    /// `detection.change`, `session.begin` ..
    pub action: &'a str,
    /// Public id or name.
    pub object: &'a str,
    /// As it was.
    pub before: Option<Value>,
    /// As it is.
    pub after: Option<Value>,
}

/// Writes the row of a deed. Call it last in the transaction: it holds the chain's head until the end.
pub async fn append(conn: &mut PgConnection, actor: &Actor, deed: Deed<'_>, now: DateTime<Utc>) -> sqlx::Result<i64> {
    let head = sqlx::query!("select seq, mac from audit_head where only_row for update").fetch_one(&mut *conn).await?;
    let row = Row {
        seq: head.seq + 1,
        // The column holds microseconds; the seal must be over what is stored.
        at: DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now),
        actor: &actor.name,
        action: deed.action,
        object: deed.object,
        before: deed.before.as_ref(),
        after: deed.after.as_ref(),
        request_id: actor.request_id.as_deref(),
        address: actor.address.as_deref(),
    };
    let mac = row.seal(&actor.key, &head.mac);
    sqlx::query!(
        "insert into audit (seq, at, actor, action, object, before, after, request_id, address, prev_mac, mac)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        row.seq,
        row.at,
        row.actor,
        row.action,
        row.object,
        row.before,
        row.after,
        row.request_id,
        row.address,
        head.mac,
        mac,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!("update audit_head set seq = $1, mac = $2 where only_row", row.seq, mac).execute(conn).await?;
    Ok(row.seq)
}

/// Which rows of the log.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Who, exactly.
    pub actor: Option<String>,
    /// Begin of the action: `token` or `token.create`.
    pub action: Option<String>,
    /// Part of the object.
    pub object: Option<String>,
    /// Request, exactly.
    pub request_id: Option<String>,
    /// Wall clock.
    pub since: Option<DateTime<Utc>>,
    /// Wall clock, exclusive.
    pub until: Option<DateTime<Utc>>,
    /// Rows below this one.
    pub before: Option<i64>,
}

/// A row as people read it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Entry {
    /// Place in the chain.
    pub seq: i64,
    /// Wall clock.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub object: String,
    /// As it was.
    pub before: Option<Value>,
    /// As it is.
    pub after: Option<Value>,
    /// Request.
    pub request_id: Option<String>,
    /// Address of the client.
    pub address: Option<String>,
}

/// Rows of the log, newest first.
pub async fn list(conn: &mut PgConnection, filter: &Filter, limit: i64) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as!(
        Entry,
        "-- store::audit::list
         select seq, at, actor, action, object, before, after, request_id, address from audit
         where ($1::text is null or actor = $1) and ($2::text is null or starts_with(action, $2)) and ($3::text is null or strpos(lower(object), lower($3)) > 0)
           and ($4::text is null or request_id = $4) and ($5::timestamptz is null or at >= $5) and ($6::timestamptz is null or at < $6)
           and ($7::bigint is null or seq < $7)
         order by seq desc limit $8",
        filter.actor,
        filter.action,
        filter.object,
        filter.request_id,
        filter.since,
        filter.until,
        filter.before,
        limit
    )
    .fetch_all(conn)
    .await
}

/// Result of a walk over the whole chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Rows looked at.
    pub rows: u64,
    /// First row that does not fit, and why.
    pub broken: Option<(i64, &'static str)>,
}

/// Walks the chain from its first row to its head.
pub async fn verify(conn: &mut PgConnection, key: &[u8]) -> sqlx::Result<Verified> {
    let head = sqlx::query!("select seq, mac from audit_head where only_row").fetch_one(&mut *conn).await?;
    let mut rows = sqlx::query!(
        "select seq, at, actor, action, object, before, after, request_id, address, prev_mac, mac from audit
         where seq <= $1 order by seq",
        head.seq
    )
    .fetch(conn);
    let mut seen = Verified { rows: 0, broken: None };
    let mut last: Option<(i64, Vec<u8>)> = None;
    while let Some(row) = rows.try_next().await? {
        seen.rows += 1;
        let sealed = Row {
            seq: row.seq,
            at: row.at,
            actor: &row.actor,
            action: &row.action,
            object: &row.object,
            before: row.before.as_ref(),
            after: row.after.as_ref(),
            request_id: row.request_id.as_deref(),
            address: row.address.as_deref(),
        }
        .seal(key, &row.prev_mac);
        let fault = match &last {
            Some((seq, _)) if seq + 1 != row.seq => Some("rows before it are missing"),
            Some((_, mac)) if *mac != row.prev_mac => Some("it does not follow the row before"),
            _ if sealed != row.mac => Some("its seal does not match its content"),
            _ => None,
        };
        if let Some(reason) = fault {
            seen.broken = Some((row.seq, reason));
            return Ok(seen);
        }
        last = Some((row.seq, row.mac));
    }
    // Deleted rows at the end leave a head that nobody wrote.
    let end = last.unwrap_or((0, vec![0]));
    if end != (head.seq, head.mac) {
        seen.broken = Some((head.seq, "the chain ends before its head"));
    }
    Ok(seen)
}

struct Row<'a> {
    seq: i64,
    at: DateTime<Utc>,
    actor: &'a str,
    action: &'a str,
    object: &'a str,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
    request_id: Option<&'a str>,
    address: Option<&'a str>,
}

impl Row<'_> {
    fn seal(&self, key: &[u8], previous: &[u8]) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        mac.update(previous);
        let json = |value: Option<&Value>| value.map(canonical);
        let texts = [
            Some(self.seq.to_string()),
            Some(self.at.timestamp_micros().to_string()),
            Some(self.actor.to_owned()),
            Some(self.action.to_owned()),
            Some(self.object.to_owned()),
            json(self.before),
            json(self.after),
            self.request_id.map(str::to_owned),
            self.address.map(str::to_owned),
        ];
        for text in texts {
            // A length no text can have tells "absent" from "empty".
            let length = text.as_ref().map_or(u64::MAX, |t| t.len() as u64);
            mac.update(&length.to_be_bytes());
            mac.update(text.unwrap_or_default().as_bytes());
        }
        mac.finalize().into_bytes().to_vec()
    }
}

/// JSON with sorted keys: jsonb does not keep the order in which they were written.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            let fields: Vec<String> = keys.iter().map(|k| format!("{}:{}", Value::from(k.as_str()), canonical(&map[*k]))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row<'a>(actor: &'a str, object: &'a str, address: Option<&'a str>) -> Row<'a> {
        let at = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        Row { seq: 1, at, actor, action: "a", object, before: None, after: None, request_id: None, address }
    }

    #[test]
    fn the_seal_tells_apart_what_concatenation_would_not() {
        let seal = |r: Row<'_>| r.seal(b"key", b"before");
        assert_ne!(seal(row("ab", "c", None)), seal(row("a", "bc", None)));
        assert_ne!(seal(row("ab", "c", None)), seal(row("ab", "c", Some(""))));
        assert_eq!(seal(row("ab", "c", None)), seal(row("ab", "c", None)));
    }

    #[test]
    fn canonical_json_does_not_depend_on_the_order_of_keys() {
        assert_eq!(canonical(&json!({"b": [1, {"z": null, "y": "é\n"}], "a": 1.5})), r#"{"a":1.5,"b":[1,{"y":"é\n","z":null}]}"#);
    }
}
