//! Where the parts meet: one [`App`] per process, shared by listeners, writer and worker.

use crate::{config::Settings, intake::Writer, rules::Ruleset, time::Clock};
use sqlx::PgPool;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connection pools by purpose, so that a slow page cannot starve an acknowledgement (trust design, section 12).
#[derive(Debug, Clone)]
pub struct Pools {
    /// Writer and look-ups of the ingest port.
    pub ingest: PgPool,
    /// Pages and API.
    pub web: PgPool,
    /// The worker.
    pub worker: PgPool,
}

/// Everything a handler or task may need.
#[derive(Debug)]
pub struct App {
    /// Database.
    pub db: Pools,
    /// The present.
    pub clock: Arc<dyn Clock>,
    /// Settings of this process.
    pub settings: Arc<Settings>,
    /// Per-event rules.
    pub rules: Arc<Ruleset>,
    /// Group commit.
    pub writer: Writer,
    /// Rung by the writer after a commit, so that the worker does not wait for its next poll.
    pub marked: Arc<Notify>,
    /// Seals the audit chain; shared by all processes, never in the database.
    pub audit_key: Arc<[u8]>,
    /// Every spawned task; shutdown waits for them.
    pub tasks: TaskTracker,
    /// Cancelled once, at shutdown.
    pub stop: CancellationToken,
}
