//! Load of a group over time, with the host's coverage beside it, so that a gap is never drawn as zero.

use crate::{
    model::ids::{GroupKey, HostId},
    time::BUCKET,
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

/// Most points of a lane. Chosen: about one per three pixels, and half of what interface design, section 9, allows.
pub const POINTS: i32 = 300;

/// One step of a lane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Start of the step.
    pub at: DateTime<Utc>,
    /// Mean percent of the host; absent = the group was not sampled.
    pub share: Option<f32>,
    /// Highest sample.
    pub share_max: Option<f32>,
    /// Mean processors busy.
    pub cores: Option<f32>,
    /// Some process of the host was sampled: without, there is no data.
    pub sampled: bool,
}

/// A lane: its points and the width of a step.
#[derive(Debug, Clone)]
pub struct Lane {
    /// In order, one per step, without holes.
    pub points: Vec<Point>,
    /// A multiple of a bucket.
    pub step: TimeDelta,
}

/// Load of a group between two instants; steps grow so that there are at most [`POINTS`].
pub async fn lane(conn: &mut PgConnection, host: HostId, group: GroupKey, since: DateTime<Utc>, until: DateTime<Utc>) -> anyhow::Result<Lane> {
    let since = crate::time::bucket(since);
    let buckets = (until - since).num_seconds().max(1) / BUCKET.num_seconds() + 1;
    let step = BUCKET * i32::try_from(buckets / i64::from(POINTS))?.saturating_add(1);
    let rows = sqlx::query!(
        r#"with steps as (
             select generate_series($3::timestamptz, $4::timestamptz, $5 * interval '1 second') as at
           ), load as (
             select date_bin($5 * interval '1 second', bucket, $3) as at,
               (sum(share * covered_seconds) / nullif(sum(covered_seconds), 0))::real as share, max(share_max) as share_max,
               (sum(cores * covered_seconds) / nullif(sum(covered_seconds), 0))::real as cores
             from cpu_bucket where host_id = $1 and group_key = $2 and bucket >= $3 and bucket < $4 group by 1
           ), coverage as (
             select date_bin($5 * interval '1 second', bucket, $3) as at, bool_or(cpu_samples > 0) as sampled
             from host_bucket where host_id = $1 and bucket >= $3 and bucket < $4 group by 1
           )
           select s.at as "at!", l.share as "share?", l.share_max as "share_max?", l.cores as "cores?",
             coalesce(c.sampled, false) or l.share is not null as "sampled!"
           from steps s left join load l using (at) left join coverage c using (at) where s.at < $4 order by s.at"#,
        host.0,
        group.0,
        since,
        until,
        step.num_seconds() as f64
    )
    .fetch_all(conn)
    .await?;
    let points = rows
        .into_iter()
        .map(|r| Point { at: r.at, share: r.share, share_max: r.share_max, cores: r.cores, sampled: r.sampled })
        .collect();
    Ok(Lane { points, step })
}
