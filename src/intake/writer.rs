//! Group commit: requests that arrive together share a transaction, and all are acknowledged after its COMMIT.
//!
//! Bounded in bytes; one connection: two would meet at every event that is sent twice (measured: most groups had to be repeated).
//! Order of work inside the transaction: facts, rule hits, quarantine, address sightings, marks, segments. No NOTIFY and no
//! counters here (measured: NOTIFY cut 1,879 to 486 commits/s).

use super::{
    Batch, Identified, Origin, Outcome, Prepared, Receipt, Refused,
    directory::Directory,
    segment,
    stage::{Merged, Rows, Stage},
};
use crate::{
    model::{
        event::Reject,
        fact::{CopyText, Fact},
        ids::{EventId, HostId, SegmentId},
    },
    time::{Clock, bucket},
};
use anyhow::Context as _;
use bytes::Bytes;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use sqlx::{Connection as _, PgConnection, PgPool};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
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
/// How long the writer waits for company.
const LINGER: Duration = Duration::from_millis(5);
/// How long deadlocks and lost connections are tried again before the sender is told to come back.
const PATIENCE: Duration = Duration::from_secs(2);
/// Kilobytes of records that may wait or be written at once. Source: trust design, section 9 (process stays below 256 MiB).
const BUDGET_KIB: usize = 64 * 1024;

/// SQLSTATE of a key that exists.
const UNIQUE_VIOLATION: &str = "23505";

struct Job {
    batch: Batch,
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
        let task = Task { pool, clock, marked, directory: Directory::default(), stage: Stage::new(), sighted: HashSet::new() };
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

/// One record of a group on its way.
#[derive(Debug)]
struct Row {
    origin: Arc<Origin>,
    received_at: DateTime<Utc>,
    prepared: Prepared,
    outcome: Outcome,
}

struct Task {
    pool: PgPool,
    clock: Arc<dyn Clock>,
    marked: Arc<Notify>,
    directory: Directory,
    stage: Stage,
    /// Sightings already stored, so that a quiet address costs nothing.
    sighted: HashSet<(IpAddr, DateTime<Utc>, HostId)>,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>, stop: CancellationToken) {
        let mut connection: Option<PgConnection> = None;
        while let Some(jobs) = gather(&mut queue, &stop).await {
            self.group(&mut connection, jobs).await;
        }
    }

    /// Writes the jobs and answers each.
    async fn group(&mut self, connection: &mut Option<PgConnection>, jobs: Vec<Job>) {
        let mut rows = Vec::new();
        let mut waiting = Vec::with_capacity(jobs.len());
        for Job { batch, reply, _budget } in jobs {
            let origin = Arc::new(batch.origin);
            waiting.push((batch.records.len(), reply, _budget));
            rows.extend(batch.records.into_iter().map(|prepared| Row {
                origin: Arc::clone(&origin),
                received_at: batch.received_at,
                outcome: Outcome::Duplicate,
                prepared,
            }));
        }
        let stored = self.commit_patiently(connection, &mut rows).await;
        if let Err(error) = &stored {
            tracing::error!(error = format!("{error:#}"), rows = rows.len(), "a group could not be committed");
        }
        let mut rows = rows.into_iter();
        for (count, reply, _budget) in waiting {
            let mine: Vec<Row> = rows.by_ref().take(count).collect();
            let answer = if stored.is_ok() {
                let ids = mine.iter().map(|r| r.prepared.outcome.as_ref().ok().and_then(|e| e.first()).map(|e| e.id)).collect();
                Ok(Receipt { outcomes: mine.into_iter().map(|r| r.outcome).collect(), ids })
            } else {
                Err(Refused::Unavailable)
            };
            // The sender may have gone; what is stored stays stored.
            drop(reply.send(answer));
        }
        if stored.is_ok() {
            self.marked.notify_one();
        }
    }

    /// Commits all rows: repeats what a second try can mend, halves what one bad row spoils.
    async fn commit_patiently(&mut self, connection: &mut Option<PgConnection>, rows: &mut [Row]) -> anyhow::Result<()> {
        let started = std::time::Instant::now();
        let mut parts: Vec<std::ops::Range<usize>> = vec![0..rows.len()];
        while let Some(part) = parts.pop() {
            loop {
                let Some(slice) = rows.get_mut(part.clone()) else { break };
                let error = match self.commit(connection, slice).await {
                    Ok(()) => break,
                    Err(error) => error,
                };
                let state = sqlstate(&error);
                match state.as_deref() {
                    // Another process stored one of these events meanwhile: it is found now.
                    Some(UNIQUE_VIOLATION) if started.elapsed() < PATIENCE => {}
                    Some(state) if state.starts_with("22") || state.starts_with("23") => {
                        if let [only] = slice {
                            only.prepared.outcome = Err(Reject::RefusedByDatabase(state.to_owned()));
                            continue;
                        }
                        let middle = part.start.midpoint(part.end);
                        parts.extend([middle..part.end, part.start..middle]);
                        break;
                    }
                    _ if started.elapsed() < PATIENCE => {
                        *connection = None;
                        self.directory.clear();
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    _ => {
                        *connection = None;
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    async fn commit(&mut self, connection: &mut Option<PgConnection>, rows: &mut [Row]) -> anyhow::Result<()> {
        let db = match connection {
            Some(db) => db,
            none => {
                let mut db = tokio::time::timeout(PATIENCE, self.pool.acquire()).await.context("waiting for a connection")??.detach();
                self.stage.prepare(&mut db).await.context("making the staging tables")?;
                none.insert(db)
            }
        };
        let keys = rows.iter().flat_map(|r| r.prepared.outcome.iter().flatten()).map(|e| &e.host);
        self.directory.learn(db, keys).await.context("naming hosts")?;
        date_undated(db, rows).await.context("dating undated events")?;

        let now = self.clock.now();
        let mut plan = Plan::of(rows, &self.directory, now);
        let mut tx = db.begin().await?;
        let mut merged = Merged::default();
        for (table, rows) in &mut plan.rounds {
            self.stage.merge(&mut tx, *table, rows, &mut merged).await?;
        }
        // A group may hold an event twice: the first copy is the new one.
        let mut stored = HashSet::new();
        for row in &mut *rows {
            row.outcome = match &row.prepared.outcome {
                Err(reject) => Outcome::Quarantined(reject.clone()),
                Ok(events) => {
                    let new = events.iter().filter(|e| merged.new.contains(&e.id) && stored.insert(e.id)).count();
                    if new > 0 { Outcome::Accepted } else { Outcome::Duplicate }
                }
            };
        }
        // zstd has a processor of its own while the database goes on.
        let packing = plan.pack_segments(rows);
        if !plan.hits.is_empty() {
            self.stage.merge_hits(&mut tx, &plan.hits).await.context("storing rule hits")?;
        }
        store_quarantine(&mut tx, rows, &merged, now).await.context("storing quarantine")?;
        let sightings = store_sightings(&mut tx, rows, &self.directory, &self.sighted).await.context("storing addresses")?;
        store_marks(&mut tx, rows, &self.directory, &merged, now).await.context("marking buckets")?;
        store_segments(&mut tx, packing.await??, now).await.context("storing raw segments")?;
        tx.commit().await.context("committing")?;
        if self.sighted.len() > 100_000 {
            self.sighted.clear();
        }
        self.sighted.extend(sightings);
        Ok(())
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
            job = queue.recv() => match job {
                Some(job) => { rows = rows.saturating_add(job.batch.records.len()); jobs.push(job); }
                None => break,
            },
            () = &mut linger => break,
        }
    }
    Some(jobs)
}

fn sqlstate(error: &anyhow::Error) -> Option<String> {
    let error = error.chain().find_map(|e| e.downcast_ref::<sqlx::Error>())?;
    Some(error.as_database_error()?.code()?.into_owned())
}

/// An event without a time of its own keeps the arrival of its first copy, else a re-send would land under another key.
async fn date_undated(db: &mut PgConnection, rows: &mut [Row]) -> sqlx::Result<()> {
    let mut undated: BTreeMap<EventId, DateTime<Utc>> = BTreeMap::new();
    for row in &*rows {
        for event in row.prepared.outcome.iter().flatten().filter(|e| e.stamp.is_none()) {
            undated.entry(event.id).or_insert(row.received_at);
        }
    }
    if undated.is_empty() {
        return Ok(());
    }
    let (ids, times): (Vec<_>, Vec<_>) = undated.into_iter().map(|(id, at)| (id.0, at)).unzip();
    sqlx::query!(
        "-- intake::writer::date_undated
        insert into undated (event_id, occurred_at) select * from unnest($1::uuid[], $2::timestamptz[]) on conflict do nothing",
        &ids,
        &times
    )
    .execute(&mut *db)
    .await?;
    let dated: HashMap<EventId, DateTime<Utc>> =
        sqlx::query!("select event_id, occurred_at from undated where event_id = any($1)", &ids)
            .fetch_all(db)
            .await?
            .into_iter()
            .map(|r| (EventId(r.event_id), r.occurred_at))
            .collect();
    for event in rows.iter_mut().flat_map(|r| r.prepared.outcome.iter_mut().flatten()) {
        if event.stamp.is_none() {
            event.stamp = dated.get(&event.id).copied();
        }
    }
    Ok(())
}

/// Where everything goes, settled before the transaction begins.
#[derive(Debug)]
struct Plan {
    /// Table and rows; an id that the group holds twice is in a later round of its table, so that both copies are compared.
    rounds: Vec<(usize, Rows)>,
    hits: CopyText,
    segments: Vec<(SegmentId, std::ops::Range<usize>)>,
}

impl Plan {
    fn of(rows: &[Row], directory: &Directory, now: DateTime<Utc>) -> Self {
        let segments = cut_segments(rows, now);
        let mut rounds: BTreeMap<(usize, usize), Rows> = BTreeMap::new();
        let mut hits = CopyText::default();
        let mut copies: HashMap<EventId, usize> = HashMap::new();
        let mut by_segment = segments.iter().flat_map(|(id, range)| range.clone().map(|n| (*id, n.saturating_sub(range.start))));
        for row in rows {
            let Some((segment, ordinal)) = by_segment.next() else { break };
            for event in row.prepared.outcome.iter().flatten() {
                let copy = copies.entry(event.id).and_modify(|n| *n = n.saturating_add(1)).or_insert(0);
                let stamp = event.stamp.unwrap_or(row.received_at);
                let host = directory.host(&event.host);
                rounds.entry((*copy, event.table)).or_default().push(host, stamp, event.id, |out| {
                    out.value(Some(&segment));
                    out.value(Some(&i32::try_from(ordinal).unwrap_or(i32::MAX)));
                    out.value(Some(&(event.time_quality as i16)));
                    out.value(Some(&event.field_errors).filter(|e| !e.is_empty()));
                    out.columns(&event.columns);
                });
                if *copy == 0 {
                    write_hits(&mut hits, event, host, stamp);
                }
            }
        }
        let rounds = rounds.into_iter().map(|((_, table), rows)| (table, rows)).collect();
        Self { rounds, hits, segments }
    }

    /// Packs the raw bytes of what is new; a segment without anything new is not kept.
    fn pack_segments(&self, rows: &[Row]) -> JoinHandle<anyhow::Result<Vec<Packed>>> {
        let segments: Vec<_> = self
            .segments
            .iter()
            .filter_map(|(id, range)| {
                let slice = rows.get(range.clone())?;
                let kept = slice.iter().filter(|r| r.outcome == Outcome::Accepted).count();
                let origin = slice.first().filter(|_| kept > 0).map(|first| Arc::clone(&first.origin))?;
                let records: Vec<Bytes> = slice
                    .iter()
                    .map(|r| match r.outcome {
                        Outcome::Accepted => r.prepared.record.bytes.clone(),
                        Outcome::Duplicate | Outcome::Quarantined(_) => Bytes::new(),
                    })
                    .collect();
                Some((*id, origin, kept, records))
            })
            .collect();
        tokio::task::spawn_blocking(move || {
            let pack = |(id, origin, kept, records): (_, _, _, Vec<Bytes>)| {
                let (body, raw_bytes) = segment::pack(records.iter().map(Bytes::as_ref))?;
                Ok(Packed { id, origin, records: i32::try_from(kept)?, raw_bytes: i32::try_from(raw_bytes)?, body })
            };
            segments.into_iter().map(pack).collect()
        })
    }
}

/// A segment ready to be stored.
struct Packed {
    id: SegmentId,
    origin: Arc<Origin>,
    records: i32,
    raw_bytes: i32,
    body: Vec<u8>,
}

async fn store_segments(db: &mut PgConnection, segments: Vec<Packed>, now: DateTime<Utc>) -> sqlx::Result<()> {
    for s in segments {
        sqlx::query!(
            "-- intake::writer::store_segments
            insert into segment (segment_id, received_at, token, protocol, records, raw_bytes, body) values ($1, $2, $3, $4, $5, $6, $7)",
            s.id.0,
            now,
            s.origin.token,
            s.origin.protocol,
            s.records,
            s.raw_bytes,
            s.body
        )
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// Neighbours of one origin share a segment until it is full.
fn cut_segments(rows: &[Row], now: DateTime<Utc>) -> Vec<(SegmentId, std::ops::Range<usize>)> {
    let mut segments = Vec::new();
    let (mut start, mut size) = (0usize, 0usize);
    for (n, row) in rows.iter().enumerate() {
        let other = rows.get(start).is_some_and(|first| first.origin.token != row.origin.token || first.origin.protocol != row.origin.protocol);
        let length = row.prepared.record.bytes.len();
        if n > start && (other || size.saturating_add(length) > segment::LARGEST) {
            segments.push((segment::fresh_id(now), start..n));
            (start, size) = (n, 0);
        }
        size = size.saturating_add(length);
    }
    if start < rows.len() {
        segments.push((segment::fresh_id(now), start..rows.len()));
    }
    segments
}

fn write_hits(out: &mut CopyText, event: &Identified, host: HostId, stamp: DateTime<Utc>) {
    for hit in &event.hits {
        out.value(Some(&host));
        out.value(Some(&stamp));
        out.value(Some(&event.id));
        out.value(Some(hit.rule_id.as_str()));
        out.value(Some(&hex_bytea(&hit.rule_hash)));
        out.value(Some(hit.code.name()));
        out.value(Some(&hit.points));
        out.value(Some(hit.force.as_str()));
        out.value(Fact::TABLES.get(event.table).map(|(name, _)| *name));
        out.value(Some(hit.excerpt.as_str()));
        out.value(event.subject.guid.as_ref());
        out.value(event.subject.pid.as_ref());
        out.value(event.subject.image.as_ref());
        out.end_row();
    }
}

fn hex_bytea(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::from("\\x");
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ok = write!(out, "{byte:02x}");
    }
    out
}

/// Largest quarantined record, in bytes.
const QUARANTINED: usize = 1 << 20;

async fn store_quarantine(db: &mut PgConnection, rows: &[Row], merged: &Merged, now: DateTime<Utc>) -> sqlx::Result<()> {
    for row in rows {
        let conflict = row.prepared.outcome.iter().flatten().any(|e| merged.conflicting.contains(&e.id));
        let reject = match (&row.outcome, conflict) {
            (Outcome::Quarantined(reject), _) => reject,
            (_, true) => &Reject::IdentityConflict,
            _ => continue,
        };
        let bytes = &row.prepared.record.bytes;
        let raw = bytes.get(..bytes.len().min(QUARANTINED)).unwrap_or_default();
        let digest = EventId::of_parts([reject.reason().as_bytes(), bytes.as_ref()]);
        sqlx::query!(
            "-- intake::writer::store_quarantine
            insert into quarantine (digest, received_at, reason, detail, protocol, token, request_id, raw)
            values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (digest) do nothing",
            digest.0,
            now,
            reject.reason(),
            reject.to_string().replace('\0', "\u{fffd}"),
            row.origin.protocol,
            row.origin.token,
            row.origin.request_id,
            raw
        )
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// Remembers which host showed which address in which hour; answers what was not known to be stored.
async fn store_sightings(
    db: &mut PgConnection,
    rows: &[Row],
    directory: &Directory,
    known: &HashSet<(IpAddr, DateTime<Utc>, HostId)>,
) -> sqlx::Result<BTreeSet<(IpAddr, DateTime<Utc>, HostId)>> {
    let mut fresh = BTreeSet::new();
    for event in rows.iter().flat_map(|r| r.prepared.outcome.iter().flatten()) {
        let (Some(at), host) = (event.stamp, directory.host(&event.host)) else { continue };
        let hour = at.duration_trunc(TimeDelta::hours(1)).unwrap_or(at);
        fresh.extend(event.addresses.iter().map(|ip| (*ip, hour, host)).filter(|s| !known.contains(s)));
    }
    if fresh.is_empty() {
        return Ok(fresh);
    }
    let addresses: Vec<sqlx::types::ipnetwork::IpNetwork> = fresh.iter().map(|s| s.0.into()).collect();
    let hours: Vec<_> = fresh.iter().map(|s| s.1).collect();
    let hosts: Vec<_> = fresh.iter().map(|s| s.2.0).collect();
    sqlx::query!(
        "-- intake::writer::store_sightings
        insert into address_sighting (address, hour, host_id) select * from unnest($1::inet[], $2::timestamptz[], $3::bigint[])
        on conflict do nothing",
        &addresses,
        &hours,
        &hosts
    )
    .execute(db)
    .await?;
    Ok(fresh)
}

/// Tells the worker which buckets of which hosts have something new.
async fn store_marks(
    db: &mut PgConnection,
    rows: &[Row],
    directory: &Directory,
    merged: &Merged,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let mut marks = BTreeSet::new();
    for event in rows.iter().flat_map(|r| r.prepared.outcome.iter().flatten()) {
        if let Some(at) = event.stamp
            && (merged.new.contains(&event.id) || merged.completed.contains(&event.id))
        {
            marks.insert((directory.host(&event.host).0, bucket(at)));
        }
    }
    if marks.is_empty() {
        return Ok(());
    }
    let (hosts, buckets): (Vec<_>, Vec<_>) = marks.into_iter().unzip();
    sqlx::query!(
        "-- intake::writer::store_marks
        insert into mark (host_id, bucket, batch_id, marked_at) select h, b, $3, $4 from unnest($1::bigint[], $2::timestamptz[]) as m (h, b)",
        &hosts,
        &buckets,
        segment::fresh_id(now).0,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(token: &str, size: usize) -> Row {
        Row {
            origin: Arc::new(Origin { token: token.into(), protocol: "native", request_id: String::new() }),
            received_at: DateTime::UNIX_EPOCH,
            prepared: Prepared {
                record: crate::model::event::RawRecord {
                    bytes: Bytes::from(vec![b'x'; size]),
                    client_id: None,
                    defaults: Arc::default(),
                },
                outcome: Ok(Vec::new()),
            },
            outcome: Outcome::Duplicate,
        }
    }

    #[test]
    fn segments_split_by_size_and_origin_and_hold_every_row_once() {
        let rows = [row("a", 600_000), row("a", 600_000), row("a", 10), row("b", 10), row("b", 2_000_000)];
        let cut: Vec<_> = cut_segments(&rows, DateTime::UNIX_EPOCH).into_iter().map(|(_, range)| range).collect();
        assert_eq!(cut, vec![0..1, 1..3, 3..4, 4..5]);
    }

    #[test]
    fn copy_text_of_columns_continues_the_row() {
        let mut columns = CopyText::default();
        columns.value(Some("x"));
        let mut row = CopyText::default();
        row.value(Some(&1i64));
        row.columns(&columns);
        row.end_row();
        assert_eq!(row.as_bytes(), b"1\tx\n");
    }
}
