//! Load that a processor run does not show: graphics engines, load that no process explains, duty over days. Source: detection
//! design, section 5, R.GPU, R.UNATTRIB, R.DUTY.

use super::super::{derive::load::REST_EXIT, spans::Spans, tuning::Tuning};
use crate::{
    model::{code::Code, ids::HostId},
    store::evidence::Found,
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

/// Entering and leaving a run of graphics engines, percent.
const GPU: (f32, f32) = (50.0, 35.0);
/// Entering a run of unexplained load, percent of the host; [`REST_EXIT`] leaves it.
const REST: f32 = 30.0;
/// Minutes of unexplained load until R.UNATTRIB.
const REST_MINUTES: i32 = 30;
/// Busy minutes that make a day of duty.
const DUTY_MINUTES: i32 = 120;
/// Days of duty among five.
const DUTY_DAYS: i32 = 3;
/// How far a day of duty reaches: what [`duty`] finds is complete for spans widened by this.
pub(in crate::worker) const DUTY_REACH: TimeDelta = TimeDelta::days(5);

fn found(code: Code, host: i64, group: i64, process: Option<i64>, times: [DateTime<Utc>; 3], summary: String) -> Found {
    let [first_seen, last_seen, known_at] = times;
    Found {
        host: HostId(host),
        group,
        code,
        subject: String::new(),
        first_seen,
        last_seen,
        known_at,
        points: code.entry().points,
        force: code.entry().force,
        process,
        summary,
        rule: None,
        events: Vec::new(),
    }
}

/// R.GPU and R.UNATTRIB.
pub(super) async fn runs(db: &mut PgConnection, spans: &Spans, tuning: &Tuning) -> sqlx::Result<Vec<Found>> {
    let mut out = Vec::new();
    for (tunables, spans) in tuning.groups(spans) {
        out.extend(runs_of(db, &spans, tunables.time_window_minutes).await?);
    }
    Ok(out)
}

async fn runs_of(db: &mut PgConnection, spans: &Spans, time_window_minutes: i32) -> sqlx::Result<Vec<Found>> {
    let a = spans.arrays();
    let rows = sqlx::query_file!(
        "src/worker/find/other_load.sql",
        &a.hosts,
        &a.since,
        &a.until,
        GPU.0,
        GPU.1,
        time_window_minutes,
        REST,
        REST_EXIT,
        REST_MINUTES
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| {
            let (code, summary) = if r.code == "R.GPU" {
                let limit = format!("threshold {:.0} %, {time_window_minutes} min", GPU.0);
                (Code::RGpu, format!("{:.0} % of the GPU's compute engines for {} min ({limit})", r.share, r.minutes))
            } else {
                let limit = format!("threshold {REST:.0} %, {REST_MINUTES} min");
                (Code::RUnattrib, format!("{:.0} % of CPU for {} min that no listed process explains ({limit})", r.share, r.minutes))
            };
            found(code, r.host_id, r.group_key, r.process_id, [r.since, r.until, r.known_at], summary)
        })
        .collect())
}

/// R.DUTY.
pub(super) async fn duty(db: &mut PgConnection, spans: &Spans) -> sqlx::Result<Vec<Found>> {
    let a = spans.arrays();
    let rows = sqlx::query_file!("src/worker/find/duty.sql", &a.hosts, &a.since, &a.until, DUTY_MINUTES, DUTY_DAYS).fetch_all(db).await?;
    Ok(rows
        .into_iter()
        .map(|r| {
            let summary = format!(
                "busy for {:.0} min a day on {} of 5 days (threshold 20 %, {DUTY_MINUTES} min, {DUTY_DAYS} days)",
                r.minutes, r.days
            );
            found(Code::RDuty, r.host_id, r.group_key, r.process_id, [r.since, r.until, r.known_at], summary)
        })
        .collect())
}
