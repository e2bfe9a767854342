//! How the whole thing is doing: what is stored, what waits, what the worker did last.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::PgConnection;

/// The answer of `GET /api/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// What arrived.
    pub ingest: Ingest,
    /// What was evaluated.
    pub worker: Worker,
    /// Where it is kept.
    pub database: Database,
    /// Of this program.
    pub version: &'static str,
}

/// What arrived.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ingest {
    /// Raw records kept, an estimate of the planner's statistics scaled by a sample; cheap on any size.
    pub events_estimate: i64,
    /// Records of the last 24 hours, exact.
    pub records_24h: i64,
    /// Records that could not be used.
    pub quarantined: i64,
    /// Wall clock of the latest commit that stored something.
    pub last_received_at: Option<DateTime<Utc>>,
}

/// What was evaluated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Worker {
    /// Host buckets and fleet counts not yet evaluated; 0 = every stored event has been.
    pub pending: i64,
    /// Wall clock.
    pub last_pass_at: Option<DateTime<Utc>>,
    /// Age of the oldest thing that waits, seconds.
    pub lag_seconds: f64,
    /// Hosts whose evaluation keeps failing.
    pub parked: i64,
}

/// Where it is kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Database {
    /// It answered.
    pub reachable: bool,
    /// On disk.
    pub size_bytes: i64,
    /// Of the server.
    pub version: String,
}

/// Asks the database.
pub async fn read(conn: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<Status> {
    let waiting = sqlx::query!(
        r#"select count(*) + (select count(*) from fleet_mark) as "pending!", (select min(marked_at) from mark) as oldest,
             (select finished_at from worker_pass) as last_pass_at,
             (select count(*) from lease where attempts >= 5) as "parked!"
           from (select distinct host_id, bucket from mark) as m"#
    )
    .fetch_one(&mut *conn)
    .await?;
    let stored = sqlx::query!(
        r#"select coalesce(sum(records) filter (where received_at > $1), 0) as "records_24h!", max(received_at) as last_received_at,
             coalesce((select greatest(reltuples, 0)::float8 from pg_class where oid = 'segment'::regclass), 0) as "segments!",
             coalesce(avg(records)::float8, 0) as "per_segment!", count(*) as "recent!",
             coalesce((select count(*) from quarantine), 0) as "quarantined!",
             pg_database_size(current_database()) as "size_bytes!", current_setting('server_version') as "version!"
           from (select records, received_at from segment order by segment_id desc limit 100000) as recent"#,
        now - TimeDelta::hours(24)
    )
    .fetch_one(conn)
    .await?;
    // The statistics of a young table are older than its rows.
    let segments = stored.segments.max(stored.recent as f64);
    Ok(Status {
        ingest: Ingest {
            events_estimate: (segments * stored.per_segment).round() as i64,
            records_24h: stored.records_24h,
            quarantined: stored.quarantined,
            last_received_at: stored.last_received_at,
        },
        worker: Worker {
            pending: waiting.pending,
            last_pass_at: waiting.last_pass_at,
            lag_seconds: waiting.oldest.map_or(0.0, |at| (now - at).num_milliseconds().max(0) as f64 / 1_000.0),
            parked: waiting.parked,
        },
        database: Database { reachable: true, size_bytes: stored.size_bytes, version: stored.version },
        version: env!("CARGO_PKG_VERSION"),
    })
}
