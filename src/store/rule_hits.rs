//! How often each rule fired, for the page of rules.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// Hits of one text of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hits {
    /// Id of the rule.
    pub rule_id: String,
    /// Its text then.
    pub rule_hash: Vec<u8>,
    /// Events of the last 7 days of `until`.
    pub week: i64,
    /// Events of the span.
    pub count: i64,
    /// Hosts of the span.
    pub hosts: i64,
    /// Event time of the latest.
    pub last_at: DateTime<Utc>,
}

/// Hits by rule in the 90 days of event time before the latest event. Hits are rare: one pass over their partitions.
pub async fn counts(conn: &mut PgConnection) -> sqlx::Result<Vec<Hits>> {
    sqlx::query_as!(
        Hits,
        r#"-- store::rule_hits::counts
           with latest as (select coalesce(max(last_seen), now()) as at from host)
           select rule_id, rule_hash, count(*) filter (where occurred_at > latest.at - interval '7 days') as "week!", count(*) as "count!",
             count(distinct host_id) as "hosts!", max(occurred_at) as "last_at!"
           from rule_hit, latest where occurred_at > latest.at - interval '90 days' group by rule_id, rule_hash order by rule_id"#
    )
    .fetch_all(conn)
    .await
}
