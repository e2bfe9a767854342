//! Facts -> derived rows: process instances, flows, CPU buckets, what a host's telemetry could show.
//!
//! Everything here recomputes the rows of a span whole and says which other stretches changed meaning by it.

pub(super) mod flow;
pub(super) mod load;
pub(super) mod process;

use super::spans::Spans;
use sqlx::PgConnection;

/// Recomputes CPU per group and what each bucket could show.
pub(super) async fn buckets(db: &mut PgConnection, spans: &Spans) -> sqlx::Result<()> {
    let a = spans.arrays();
    sqlx::query!(
        "-- worker::derive::buckets: empty the spans
        delete from host_bucket b using unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        where b.host_id = s.host_id and b.bucket >= s.since and b.bucket < s.until and b.bucket between $4 and $5",
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "-- worker::derive::buckets: empty the spans
        delete from cpu_bucket b using unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        where b.host_id = s.host_id and b.bucket >= s.since and b.bucket < s.until and b.bucket between $4 and $5",
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last
    )
    .execute(&mut *db)
    .await?;
    sqlx::query_file!("src/worker/derive/host_bucket.sql", &a.hosts, &a.since, &a.until, a.first, a.last).execute(&mut *db).await?;
    sqlx::query_file!("src/worker/derive/cpu_bucket.sql", &a.hosts, &a.since, &a.until, a.first, a.last).execute(db).await?;
    Ok(())
}
