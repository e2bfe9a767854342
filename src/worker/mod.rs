//! The worker: marks -> derived rows -> evidence -> detections, in event time, incremental and idempotent.
//!
//! [`run`] is the loop; [`pass`] is one turn and what tests call. Source: architecture, section 7.

mod cases;
mod derive;
mod find;
mod pass;
mod images;
mod loads;
mod spans;
mod standing;
mod traces;
mod tuning;
pub mod what_if;

pub use pass::{PassReport, pass};

use crate::{
    app::App,
    store::{allowlist, audit::Actor},
};
use chrono::TimeDelta;
use std::{sync::Arc, time::Duration};

/// How old the oldest mark of a host must be: a trickle is not one pass per event.
const SETTLE: TimeDelta = TimeDelta::seconds(2);
/// How long the loop waits for news.
const POLL: Duration = Duration::from_millis(250);

/// Kilobytes waiting for COMMIT from which on receiving goes first: nobody loses what is evaluated later. Measured: sixteen senders
/// at full speed keep 7,000 waiting, a fleet of 10,000 hosts with an event a second 500.
const PRESSED: usize = 2_048;
/// Then the worker rests this many times as long as it worked, up to the longest rest, or until it has been calm for so many looks.
const REST: u32 = 8;
const LONGEST_REST: Duration = Duration::from_secs(30);
const CALM: u32 = 4;

/// How often what time alone changes is looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// Leaves the processors to those who receive.
async fn rest(app: &App, longest: Duration) {
    let (started, mut calm) = (std::time::Instant::now(), 0);
    // Between two groups little waits for a moment.
    while calm < CALM && started.elapsed() < longest && !app.stop.is_cancelled() {
        tokio::time::sleep(POLL).await;
        calm = if app.writer.waiting_kib() < PRESSED { calm + 1 } else { 0 };
    }
}

/// Evaluates until told to stop.
pub async fn run(app: Arc<App>) {
    let mut kept: Option<std::time::Instant> = None;
    loop {
        if kept.is_none_or(|at| at.elapsed() >= HOUSEKEEPING) {
            kept = Some(std::time::Instant::now());
            if let Err(error) = keep(&app).await {
                tracing::error!(error = format!("{error:#}"), "housekeeping failed; trying again in a minute");
            }
        }
        let started = std::time::Instant::now();
        let pause = match pass(&app, SETTLE).await {
            Ok(_) if app.writer.waiting_kib() >= PRESSED => {
                rest(&app, started.elapsed().saturating_mul(REST).clamp(POLL, LONGEST_REST)).await;
                Duration::ZERO
            }
            Ok(report) if report.marks > 0 || report.bands > 0 => Duration::ZERO,
            Ok(_) => POLL + Duration::from_millis(rand::random::<u64>() % 50),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "a pass failed; trying again in 2 s");
                Duration::from_secs(2)
            }
        };
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = async {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    // Written now, settled a little later.
                    () = app.marked.notified(), if pause <= POLL * 2 => tokio::time::sleep(POLL.min(pause)).await,
                }
            } => {}
        }
    }
}

/// What time alone changes: entries of a single-handed site take effect a day after they were made.
async fn keep(app: &App) -> anyhow::Result<()> {
    let mut tx = app.db.worker.begin().await?;
    let actor = Actor::new("system", app.audit_key.clone());
    let ripe = allowlist::ripen(&mut tx, &actor, app.clock.now()).await?;
    tx.commit().await?;
    if ripe > 0 {
        tracing::info!(entries = ripe, "allowlist entries took effect a day after they were made");
    }
    Ok(())
}
