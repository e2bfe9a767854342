//! Group commit: requests that arrive together share a transaction, and all are acknowledged after its COMMIT.
//!
//! Bounded in bytes. One group is written at a time, on two connections in turn: while the disk keeps one, the next is copied.
//! Two writers would meet at every event that is sent twice (measured: most groups had to be repeated), so the next group is told
//! what the one before holds. Order inside the transaction: facts, rule hits, quarantine, address sightings, marks, segments.
//! No NOTIFY and no counters here (measured: NOTIFY cut 1,879 to 486 commits/s).

use super::{
    Batch, FastSet, Identified, Outcome, Receipt, Refused,
    directory::Directory,
    group::{self, Plan, Row, Sighting},
    stage::{Merged, Stage},
};
use crate::{
    model::{
        event::{HostKey, Reject},
        ids::{EventId, HostId},
    },
    time::Clock,
};
use anyhow::Context as _;
use sqlx::{Executor as _, PgConnection, PgPool};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Most rows of one transaction.
const MOST_ROWS: usize = 20_000;
/// How long the writer waits for company, and with how many rows it goes alone.
const LINGER: Duration = Duration::from_millis(5);
const COMPANY: usize = 2_000;
/// How long deadlocks and lost connections are tried again before the sender is told to come back.
const PATIENCE: Duration = Duration::from_secs(2);
/// Kilobytes of records that may wait or be written at once. Source: trust design, section 9 (process stays below 256 MiB).
const BUDGET_KIB: usize = 64 * 1024;

/// SQLSTATE of a key that exists.
const UNIQUE_VIOLATION: &str = "23505";

/// Sightings remembered; beyond it the memory starts anew.
const SIGHTED: usize = 100_000;
/// Groups of which every event is looked for after one of an earlier run, or of another process, came again: more will follow.
const DOUBTED: u32 = 64;

struct Job {
    batch: Batch,
    reply: oneshot::Sender<Result<Receipt, Refused>>,
    _budget: tokio::sync::OwnedSemaphorePermit,
}

/// A sender of the group, in its order.
struct Waiting {
    records: usize,
    reply: oneshot::Sender<Result<Receipt, Refused>>,
    _budget: tokio::sync::OwnedSemaphorePermit,
}

/// Hands batches to the writer task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
    budget: Arc<Semaphore>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("records", &self.batch.records.len()).finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer and the task that must run for it; the task ends when `stop` is cancelled and everything submitted is written.
    pub fn new(
        pool: PgPool,
        clock: Arc<dyn Clock>,
        marked: Arc<Notify>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (jobs, queue) = mpsc::channel(1_024);
        let task = Task { pool, clock, marked, directory: Directory::default(), stage: Stage::new(), recent: Recent::default(), doubt: 0, sighted: FastSet::default(), idle: None, committing: None };
        (Self { jobs, budget: Arc::new(Semaphore::new(BUDGET_KIB)) }, task.run(queue, stop))
    }

    /// Kilobytes of records submitted and not yet answered.
    pub fn waiting_kib(&self) -> usize {
        BUDGET_KIB.saturating_sub(self.budget.available_permits())
    }

    /// Stores a batch; returns after COMMIT.
    ///
    /// # Errors
    /// [`Refused`] when nothing was stored, or when it is unknown whether the COMMIT happened: sending again is harmless.
    pub async fn submit(&self, batch: Batch) -> Result<Receipt, Refused> {
        if batch.records.is_empty() {
            return Ok(Receipt { outcomes: Vec::new(), ids: Vec::new() });
        }
        let kib = u32::try_from((batch.bytes / 1024).clamp(1, BUDGET_KIB)).map_err(|_| Refused::Overloaded)?;
        let budget = Arc::clone(&self.budget).try_acquire_many_owned(kib).map_err(|_| Refused::Overloaded)?;
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { batch, reply, _budget: budget }).await.map_err(|_| Refused::Unavailable)?;
        answer.await.map_err(|_| Refused::Unavailable)?
    }
}

struct Task {
    pool: PgPool,
    clock: Arc<dyn Clock>,
    marked: Arc<Notify>,
    directory: Directory,
    stage: Stage,
    /// What is likely to come again.
    recent: Recent,
    /// Groups for which the memory is not trusted.
    doubt: u32,
    /// Sightings already stored, so that a quiet address costs nothing.
    sighted: FastSet<Sighting>,
    /// A connection without a transaction.
    idle: Option<PgConnection>,
    /// The group before this one.
    committing: Option<Committing>,
}

/// A group whose rows are all written; its COMMIT runs on a task of its own.
struct Committing {
    /// Answers the connection if the group is stored.
    task: JoinHandle<Option<PgConnection>>,
    /// Events of the group, which the next one cannot see yet.
    new: FastSet<EventId>,
    sightings: BTreeSet<Sighting>,
}

/// Rows written in an open transaction.
struct Written {
    db: PgConnection,
    new: FastSet<EventId>,
    sightings: BTreeSet<Sighting>,
}

/// Events stored lately: senders repeat what they sent minutes ago. Two generations, the older one is forgotten as a whole.
#[derive(Debug, Default)]
struct Recent {
    new: FastSet<EventId>,
    old: FastSet<EventId>,
}

impl Recent {
    /// Events of a generation; 20 bytes each.
    const GENERATION: usize = 128 * 1024;

    fn add(&mut self, stored: impl IntoIterator<Item = EventId>) {
        if self.new.len() >= Self::GENERATION {
            std::mem::swap(&mut self.new, &mut self.old);
            self.new.clear();
        }
        self.new.extend(stored);
    }

    fn contains(&self, id: EventId) -> bool {
        self.new.contains(&id) || self.old.contains(&id)
    }
}

/// The COMMIT of the group before failed, so what was left out here because of it has to be stored.
#[derive(Debug, thiserror::Error)]
#[error("the group before could not be committed")]
struct PreviousLost;

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>, stop: CancellationToken) {
        while let Some(jobs) = gather(&mut queue, &stop).await {
            self.group(jobs).await;
        }
        // Its senders are answered by its own task.
        drop(self.settle().await);
    }

    /// Writes the jobs; their COMMIT and the answers go on while the next group is written.
    async fn group(&mut self, jobs: Vec<Job>) {
        let mut rows = Vec::new();
        let mut waiting = Vec::with_capacity(jobs.len());
        for Job { batch, reply, _budget } in jobs {
            let origin = Arc::new(batch.origin);
            waiting.push(Waiting { records: batch.records.len(), reply, _budget });
            rows.extend(batch.records.into_iter().map(|prepared| Row {
                origin: Arc::clone(&origin),
                received_at: batch.received_at,
                outcome: Outcome::Duplicate,
                prepared,
            }));
        }
        match self.write_patiently(&mut rows).await {
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), rows = rows.len(), "a group could not be stored");
                answer(waiting, rows, false);
            }
            Ok(Written { mut db, new, sightings }) => {
                let marked = Arc::clone(&self.marked);
                #[expect(clippy::disallowed_methods, reason = "the writer, which is tracked, waits for it before it ends")]
                let task = tokio::spawn(async move {
                    let committed = commit(&mut db).await;
                    if let Err(error) = &committed {
                        tracing::error!(error = format!("{error:#}"), rows = rows.len(), "a group could not be committed");
                    }
                    answer(waiting, rows, committed.is_ok());
                    marked.notify_one();
                    committed.is_ok().then_some(db)
                });
                self.committing = Some(Committing { task, new, sightings });
            }
        }
    }

    /// Waits for the COMMIT of the group before.
    async fn settle(&mut self) -> Result<(), PreviousLost> {
        let Some(Committing { task, new, sightings }) = self.committing.take() else { return Ok(()) };
        let Ok(Some(db)) = task.await else { return Err(PreviousLost) };
        self.idle = Some(db);
        self.recent.add(new);
        if self.sighted.len() > SIGHTED {
            self.sighted.clear();
        }
        self.sighted.extend(sightings);
        Ok(())
    }

    /// Writes all rows up to the last COMMIT: repeats what a second try can mend, halves what one bad row spoils.
    async fn write_patiently(&mut self, rows: &mut [Row]) -> anyhow::Result<Written> {
        let started = std::time::Instant::now();
        let mut parts: Vec<std::ops::Range<usize>> = vec![0..rows.len()];
        let mut written: Option<Written> = None;
        while let Some(part) = parts.pop() {
            if let Some(mut before) = written.take() {
                commit(&mut before.db).await.context("committing a part")?;
                self.idle = Some(before.db);
            }
            while let Some(slice) = rows.get_mut(part.clone()) {
                let error = match self.write(slice).await {
                    Ok(done) => {
                        written = Some(done);
                        break;
                    }
                    Err(error) => error,
                };
                let state = sqlstate(&error);
                match state.as_deref() {
                    // One of these events was stored before this run, or by another process: it is found now.
                    Some(UNIQUE_VIOLATION) if started.elapsed() < PATIENCE => self.doubt = DOUBTED,
                    Some(state) if state.starts_with("22") || state.starts_with("23") => {
                        if let [only] = slice {
                            only.prepared.outcome = Err(Reject::RefusedByDatabase(state.to_owned()));
                            continue;
                        }
                        let middle = part.start.midpoint(part.end);
                        parts.extend([middle..part.end, part.start..middle]);
                        break;
                    }
                    _ if error.is::<PreviousLost>() => {}
                    _ if started.elapsed() < PATIENCE => {
                        self.idle = None;
                        self.directory.clear();
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    _ => return Err(error),
                }
            }
        }
        written.context("nothing was to be written")
    }

    /// Writes the rows in a transaction and leaves it open; after an error nothing of it remains.
    async fn write(&mut self, rows: &mut [Row]) -> anyhow::Result<Written> {
        let mut db = match self.idle.take() {
            Some(db) => db,
            None => {
                let mut db = tokio::time::timeout(PATIENCE, self.pool.acquire()).await.context("waiting for a connection")??.detach();
                self.stage.prepare(&mut db).await.context("making the staging tables")?;
                db
            }
        };
        match self.fill(&mut db, rows).await {
            Ok((new, sightings)) => Ok(Written { db, new, sightings }),
            Err(error) => {
                if db.execute("rollback").await.is_ok() {
                    self.idle = Some(db);
                }
                Err(error)
            }
        }
    }

    async fn fill(&mut self, db: &mut PgConnection, rows: &mut [Row]) -> anyhow::Result<(FastSet<EventId>, BTreeSet<Sighting>)> {
        let mut events: Vec<&mut Identified> = rows.iter_mut().flat_map(|r| r.prepared.outcome.iter_mut().flatten()).collect();
        let strangers: Vec<HostKey> = events.iter_mut().filter_map(|event| self.directory.place(event).then(|| event.host.clone())).collect();
        if !strangers.is_empty() {
            self.directory.learn(db, strangers).await.context("naming hosts")?;
            // The directory may have begun anew: those that have a host keep it.
            for event in events.into_iter().filter(|event| event.host_id == HostId(0)) {
                self.directory.place(event);
            }
        }
        group::date_undated(db, rows).await.context("dating undated events")?;

        let now = self.clock.now();
        let mut plan = Plan::of(rows, now);
        db.execute("begin").await?;
        let mut merged = Merged::default();
        let unseen = self.committing.as_ref().map(|before| &before.new);
        let (doubt, recent) = (self.doubt > 0, &self.recent);
        let remembered = |id| recent.contains(id) || unseen.is_some_and(|unseen| unseen.contains(&id));
        // zstd has a processor of its own while the database goes on; what will be new is known well enough to begin now.
        group::settle_outcomes(rows, |id| !doubt && !remembered(id));
        let expected: Vec<bool> = rows.iter().map(|row| row.outcome == Outcome::Accepted).collect();
        let mut packing = plan.pack_segments(rows);
        let mut known = Vec::with_capacity(plan.rounds.len());
        for (table, rows) in &mut plan.rounds {
            known.push(self.stage.add(db, *table, rows, |id| doubt || recent.contains(id), unseen, &mut merged).await?);
        }
        // While events come again that nobody here remembers, all are looked for.
        let forgotten = known.iter().flatten().any(|id| !remembered(*id) && !merged.new.contains(id));
        self.doubt = if forgotten { DOUBTED } else { self.doubt.saturating_sub(1) };
        // From here on everything of the group before is visible, or it is known to be lost.
        self.settle().await?;
        for ((table, rows), known) in plan.rounds.iter().zip(&known) {
            self.stage.complete(db, *table, rows, known, &mut merged).await?;
        }
        group::settle_outcomes(rows, |id| merged.new.contains(&id));
        if rows.iter().zip(expected).any(|(row, expected)| (row.outcome == Outcome::Accepted) != expected) {
            packing = plan.pack_segments(rows);
        }
        self.stage.merge_hits(db, &mut plan.hits, &merged).await.context("storing rule hits")?;
        group::store_quarantine(db, rows, &merged, now).await.context("storing quarantine")?;
        let sightings = group::store_sightings(db, rows, &self.sighted).await.context("storing addresses")?;
        group::store_marks(db, rows, &merged, now).await.context("marking buckets")?;
        group::store_segments(db, packing.await??, now).await.context("storing raw segments")?;
        Ok((merged.new, sightings))
    }
}

async fn commit(db: &mut PgConnection) -> anyhow::Result<()> {
    db.execute("commit").await.context("committing")?;
    Ok(())
}

/// Tells each sender what became of its records.
fn answer(waiting: Vec<Waiting>, rows: Vec<Row>, stored: bool) {
    let mut rows = rows.into_iter();
    for Waiting { records, reply, _budget } in waiting {
        let mine: Vec<Row> = rows.by_ref().take(records).collect();
        let answer = if stored {
            let ids = mine.iter().map(|r| r.prepared.outcome.as_ref().ok().and_then(|e| e.first()).map(|e| e.id)).collect();
            Ok(Receipt { outcomes: mine.into_iter().map(|r| r.outcome).collect(), ids })
        } else {
            Err(Refused::Unavailable)
        };
        // The sender may have gone; what is stored stays stored.
        drop(reply.send(answer));
    }
}

/// What arrived together; `None` after the stop, when nothing is left.
async fn gather(queue: &mut mpsc::Receiver<Job>, stop: &CancellationToken) -> Option<Vec<Job>> {
    let first = tokio::select! {
        biased;
        job = queue.recv() => job?,
        // What was submitted before the stop is still written.
        () = stop.cancelled() => queue.try_recv().ok()?,
    };
    let mut rows = first.batch.records.len();
    let mut jobs = vec![first];
    let linger = tokio::time::sleep(LINGER);
    tokio::pin!(linger);
    while rows < MOST_ROWS {
        tokio::select! {
            biased;
            // What has come is taken first.
            job = queue.recv() => match job {
                Some(job) => { rows = rows.saturating_add(job.batch.records.len()); jobs.push(job); }
                None => break,
            },
            () = std::future::ready(()), if rows >= COMPANY => break,
            () = &mut linger => break,
        }
    }
    Some(jobs)
}

fn sqlstate(error: &anyhow::Error) -> Option<String> {
    let error = error.chain().find_map(|e| e.downcast_ref::<sqlx::Error>())?;
    Some(error.as_database_error()?.code()?.into_owned())
}
