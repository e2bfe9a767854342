//! Detections as pages and API read them. What people change is in `store::triage`, what the worker records in its own file.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

/// Counts on pages stop here: `1,000+`.
pub const COUNT_CAP: i64 = 1_000;

/// How many detections the queue's default view holds, up to [`COUNT_CAP`].
pub async fn open_count(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "n!" from (
             select from detection
             where status <> 'closed' and verdict in ('alert', 'partial', 'early_warning') limit $1) open"#,
        COUNT_CAP
    )
    .fetch_one(conn)
    .await
}

/// Events are stored that nobody has evaluated for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// Host buckets waiting, up to 100,000.
    pub pending: i64,
    /// How long the oldest has waited.
    pub waited: TimeDelta,
}

/// Whether evaluation is more than two minutes behind. Source of the limit: trust design, section 15.
pub async fn behind(conn: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<Option<Behind>> {
    let oldest = sqlx::query_scalar!("select min(marked_at) from mark").fetch_one(&mut *conn).await?;
    let Some(waited) = oldest.map(|at| now - at).filter(|w| *w > TimeDelta::minutes(2)) else {
        return Ok(None);
    };
    let pending = sqlx::query_scalar!(
        r#"select count(*) as "n!" from (select from (select distinct host_id, bucket from mark) b limit 100000) m"#
    )
    .fetch_one(conn)
    .await?;
    Ok(Some(Behind { pending, waited }))
}
