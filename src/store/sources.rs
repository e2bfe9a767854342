//! What forwarders sent, by token and protocol, read from what the intake keeps anyway: raw segments and quarantine.
//!
//! No counters: every question is a range of newest segment ids or a group of quarantine rows.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

/// How far back rates look.
pub const WINDOW: TimeDelta = TimeDelta::hours(24);

/// Lowest id that a segment of an instant can have (`intake::segment`: milliseconds << 20).
fn floor(at: DateTime<Utc>) -> i64 {
    at.timestamp_millis() << 20
}

/// What came by one token and protocol in the last 24 hours of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// Name of the token.
    pub token: String,
    /// How it came.
    pub protocol: String,
    /// Records kept in the last five minutes.
    pub recent: i64,
    /// Records kept in the window.
    pub records: i64,
    /// Before compression.
    pub bytes: i64,
    /// Wall clock.
    pub first_at: DateTime<Utc>,
    /// Wall clock.
    pub last_at: DateTime<Utc>,
}

/// Rates of all sources, or of one token.
pub async fn rates(conn: &mut PgConnection, token: Option<&str>, now: DateTime<Utc>) -> sqlx::Result<Vec<Rate>> {
    sqlx::query_as!(
        Rate,
        r#"-- store::sources::rates
           select token, protocol, coalesce(sum(records) filter (where received_at > $2), 0)::bigint as "recent!",
             sum(records)::bigint as "records!", sum(raw_bytes)::bigint as "bytes!", min(received_at) as "first_at!", max(received_at) as "last_at!"
           from segment where segment_id >= $1 and ($3::text is null or token = $3) group by token, protocol order by token, protocol"#,
        floor(now - WINDOW),
        now - TimeDelta::minutes(5),
        token
    )
    .fetch_all(conn)
    .await
}

/// Records that could not be used, by token and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Name of the token.
    pub token: String,
    /// How it came.
    pub protocol: String,
    /// As in the reply: `bad_json` ..
    pub reason: String,
    /// In quarantine now.
    pub count: i64,
    /// Of these, in the last 24 hours.
    pub recent: i64,
    /// Wall clock of the newest.
    pub last_at: DateTime<Utc>,
}

/// What is in quarantine, by source and reason; of all sources or one token.
pub async fn faults(conn: &mut PgConnection, token: Option<&str>, now: DateTime<Utc>) -> sqlx::Result<Vec<Fault>> {
    sqlx::query_as!(
        Fault,
        r#"-- store::sources::faults
           select token, protocol, reason, count(*) as "count!", count(*) filter (where received_at > $2) as "recent!", max(received_at) as "last_at!"
           from quarantine where $1::text is null or token = $1 group by token, protocol, reason order by token, protocol, count(*) desc"#,
        token,
        now - WINDOW
    )
    .fetch_all(conn)
    .await
}

/// A segment as it is kept.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Name of the token.
    pub token: String,
    /// Wall clock.
    pub received_at: DateTime<Utc>,
    /// Packed records.
    pub body: Vec<u8>,
}

/// The newest segments of some tokens within the window, at most `most` of each.
pub async fn newest(conn: &mut PgConnection, tokens: &[String], most: i64, now: DateTime<Utc>) -> sqlx::Result<Vec<Segment>> {
    sqlx::query_as!(
        Segment,
        r#"-- store::sources::newest
           select s.token as "token!", s.received_at as "received_at!", s.body as "body!"
           from unnest($1::text[]) as t (name), lateral (
             select token, received_at, body from segment where segment_id >= $2 and token = t.name order by segment_id desc limit $3) as s"#,
        tokens,
        floor(now - WINDOW),
        most
    )
    .fetch_all(conn)
    .await
}
