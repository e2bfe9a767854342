//! The worker: marks -> derived rows -> evidence -> detections, in event time, incremental and idempotent.
//!
//! [`run`] is the loop; [`pass`] is one turn and what tests call. Source: architecture, section 7.

mod cases;
mod derive;
mod find;
mod pass;
mod spans;

pub use pass::{PassReport, pass};

use crate::app::App;
use chrono::TimeDelta;
use std::{sync::Arc, time::Duration};

/// How old the oldest mark of a host must be: a trickle is not one pass per event.
const SETTLE: TimeDelta = TimeDelta::milliseconds(500);
/// How long the loop waits for news.
const POLL: Duration = Duration::from_millis(250);

/// Evaluates until told to stop.
pub async fn run(app: Arc<App>) {
    loop {
        let pause = match pass(&app, SETTLE).await {
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
                    () = app.marked.notified() => tokio::time::sleep(POLL.min(pause)).await,
                }
            } => {}
        }
    }
}
