//! Records that could not be used: read, hand out, and take away what a second try could use.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// Reasons that a second try may overcome. The others keep what must stay as it is: a contradicting copy, a cut record, an action
/// that was refused by name.
pub const REPLAYABLE: [&str; 7] =
    ["bad_json", "bad_xml", "no_time", "no_host", "time_out_of_range", "host_not_allowed", "refused_by_database"];

/// A record in quarantine.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Key.
    pub digest: Uuid,
    /// Wall clock.
    pub received_at: DateTime<Utc>,
    /// As in the reply.
    pub reason: String,
    /// In words.
    pub detail: String,
    /// How it came.
    pub protocol: String,
    /// Name of the token.
    pub token: String,
    /// Request it came with.
    pub request_id: String,
    /// Bytes that are kept.
    pub bytes: i64,
    /// The first of them; all of them where [`find`] or [`batch`] was asked.
    pub raw: Vec<u8>,
}

/// Which records.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Name of the token.
    pub token: Option<String>,
    /// As in the reply.
    pub reason: Option<String>,
    /// How it came.
    pub protocol: Option<String>,
    /// Received before this place.
    pub before: Option<(DateTime<Utc>, Uuid)>,
}

/// Newest first, with the first 300 bytes of each.
pub async fn list(conn: &mut PgConnection, filter: &Filter, limit: i64) -> sqlx::Result<Vec<Kept>> {
    sqlx::query_as!(
        Kept,
        r#"-- store::quarantine::list
           select digest, received_at, reason, detail, protocol, token, request_id, length(raw)::bigint as "bytes!", substring(raw from 1 for 300) as "raw!"
           from quarantine
           where ($1::text is null or token = $1) and ($2::text is null or reason = $2) and ($3::text is null or protocol = $3)
             and ($4::timestamptz is null or (received_at, digest) < ($4, $5))
           order by received_at desc, digest desc limit $6"#,
        filter.token,
        filter.reason,
        filter.protocol,
        filter.before.map(|b| b.0),
        filter.before.map(|b| b.1),
        limit
    )
    .fetch_all(conn)
    .await
}

/// One record, whole.
pub async fn find(conn: &mut PgConnection, digest: Uuid) -> sqlx::Result<Option<Kept>> {
    sqlx::query_as!(
        Kept,
        r#"-- store::quarantine::find
           select digest, received_at, reason, detail, protocol, token, request_id, length(raw)::bigint as "bytes!", raw from quarantine where digest = $1"#,
        digest
    )
    .fetch_optional(conn)
    .await
}

/// Whole records to try again: oldest first, of replayable reasons, until `limit` rows.
pub async fn batch(conn: &mut PgConnection, filter: &Filter, limit: i64) -> sqlx::Result<Vec<Kept>> {
    let reasons = REPLAYABLE.map(str::to_owned);
    sqlx::query_as!(
        Kept,
        r#"-- store::quarantine::batch
           select digest, received_at, reason, detail, protocol, token, request_id, length(raw)::bigint as "bytes!", raw
           from quarantine
           where ($1::text is null or token = $1) and ($2::text is null or reason = $2) and ($3::text is null or protocol = $3)
             and reason = any($4)
           order by received_at, digest limit $5"#,
        filter.token,
        filter.reason,
        filter.protocol,
        &reasons,
        limit
    )
    .fetch_all(conn)
    .await
}

/// Takes records out of quarantine: they are stored as events now, or under another reason.
pub async fn release(conn: &mut PgConnection, digests: &[Uuid]) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "-- store::quarantine::release
         delete from quarantine where digest = any($1)",
        digests
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
