//! The line from records to COMMIT, used by `http::ingest` and `import`: decode, identify, evaluate rules, write as a group.
//!
//! [`prepare`] is CPU work on one request; [`Writer`] merges requests into transactions. Nothing is acknowledged before COMMIT.
#![warn(clippy::indexing_slicing, clippy::string_slice, clippy::arithmetic_side_effects, clippy::expect_used, clippy::panic)]

mod directory;
mod group;
mod sample;
mod segment;
mod stage;
mod writer;

pub use sample::Sample;
pub use segment::unpack;
pub use writer::Writer;

pub mod split;

use crate::{
    model::{
        event::{Event, HostKey, RawRecord, Reject, TimeQuality},
        fact::CopyText,
        ids::{EventId, HostId, ProcessGuid},
    },
    rules::{Hit, Ruleset},
    sources,
};
use chrono::{DateTime, Utc};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

/// Sets and maps on the way of every event: seeded like the standard ones, several times as fast.
type FastSet<T> = HashSet<T, foldhash::fast::RandomState>;
type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Where a batch came from, for segments and quarantine.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Name of the token (or `import`).
    pub token: String,
    /// `native`, `elastic`, `import` ..
    pub protocol: &'static str,
    /// Request id.
    pub request_id: String,
}

/// An event ready to be written: its key and its row, rendered once.
#[derive(Debug)]
pub struct Identified {
    /// Identity by content.
    pub id: EventId,
    /// Time in the key; `None` = undated, takes the arrival of its first copy.
    pub stamp: Option<DateTime<Utc>>,
    host: HostKey,
    /// Set by the writer, which knows the hosts.
    host_id: HostId,
    table: usize,
    columns: CopyText,
    time_quality: TimeQuality,
    field_errors: Vec<String>,
    addresses: smallvec::SmallVec<[IpAddr; 1]>,
    hits: Vec<Hit>,
    subject: Subject,
}

/// The process that rule hits belong to.
#[derive(Debug, Default)]
struct Subject {
    guid: Option<ProcessGuid>,
    pid: Option<i64>,
    image: Option<String>,
}

/// One record with what became of it.
#[derive(Debug)]
pub struct Prepared {
    /// As it came.
    pub record: RawRecord,
    /// Its events, or why there are none.
    pub outcome: Result<Vec<Identified>, Reject>,
}

/// Decoded records of one request.
#[derive(Debug)]
pub struct Batch {
    /// Where they came from.
    pub origin: Origin,
    /// In the order of the request.
    pub records: Vec<Prepared>,
    /// Wall clock of arrival.
    pub received_at: DateTime<Utc>,
    /// Bytes of the records.
    pub bytes: usize,
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Stored now.
    Accepted,
    /// Stored before; changes nothing.
    Duplicate,
    /// Could not be used; kept with its reason.
    Quarantined(Reject),
}

/// One outcome per record, in order; exists only after COMMIT.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// In the order of the request.
    pub outcomes: Vec<Outcome>,
    /// Event id of each record, for clients that ask for one.
    pub ids: Vec<Option<EventId>>,
}

/// Why nothing was stored. Both mean: send it again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too much in flight.
    #[error("too much in flight")]
    Overloaded,
    /// The database is away.
    #[error("the database is not available")]
    Unavailable,
}

/// Decodes, identifies and evaluates rules. CPU only: call it off the async threads.
pub fn prepare(records: Vec<RawRecord>, rules: &Ruleset, origin: Origin, received_at: DateTime<Utc>) -> Batch {
    let bytes = records.iter().map(|r| r.bytes.len()).sum();
    let records = records
        .into_iter()
        .map(|record| {
            let outcome = sources::decode(&record).map(|events| events.into_iter().map(|e| identify(e, rules)).collect());
            Prepared { record, outcome }
        })
        .collect();
    Batch { origin, records, received_at, bytes }
}

fn identify(event: Event, rules: &Ruleset) -> Identified {
    let mut hits = Vec::new();
    rules.hits(&event, &mut hits);
    let subject = if hits.is_empty() {
        Subject::default()
    } else {
        let (guid, pid, image) = event.fact.subject();
        Subject { guid, pid, image: image.map(str::to_owned) }
    };
    let stamp = event.at.map(|at| event.stamp(at));
    let mut columns = CopyText::with_capacity(1_024);
    event.fact.copy(&mut columns);
    Identified {
        id: EventId::of(&event, stamp.unwrap_or(DateTime::UNIX_EPOCH)),
        stamp,
        table: event.fact.table_index(),
        columns,
        host: event.host,
        host_id: HostId(0),
        time_quality: event.time_quality,
        field_errors: event.field_errors,
        addresses: event.addresses,
        hits,
        subject,
    }
}
