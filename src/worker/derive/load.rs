//! Load beside processor buckets: graphics engines, what no listed process explains, busy half days.

use super::super::spans::Spans;
use sqlx::PgConnection;

/// Below this a host is not busy: what nobody explains is not asked. The exit of R.UNATTRIB (percent).
pub(in crate::worker) const REST_EXIT: f32 = 20.0;

/// Recomputes the rows of the spans; processor buckets must be there.
pub(in crate::worker) async fn derive(db: &mut PgConnection, spans: &Spans) -> sqlx::Result<()> {
    let a = spans.arrays();
    sqlx::query!(
        "-- worker::derive::load::derive: empty the spans
        delete from gpu_bucket b using unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        where b.host_id = s.host_id and b.bucket >= s.since and b.bucket < s.until",
        &a.hosts,
        &a.since,
        &a.until
    )
    .execute(&mut *db)
    .await?;
    sqlx::query_file!("src/worker/derive/gpu_bucket.sql", &a.hosts, &a.since, &a.until, a.first, a.last).execute(&mut *db).await?;
    sqlx::query_file!("src/worker/derive/rest_share.sql", &a.hosts, &a.since, &a.until, a.first, a.last, REST_EXIT).execute(&mut *db).await?;
    sqlx::query_file!("src/worker/derive/busy_half.sql", &a.hosts, &a.since, &a.until, a.first, a.last).execute(db).await?;
    Ok(())
}
