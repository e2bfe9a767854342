//! A record as it arrived and the event it decodes to.

use crate::model::{fact::Fact, ids::EventId};
use bytes::Bytes;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use std::{net::IpAddr, sync::Arc};

/// What a token says about the records it carries, for what they do not say themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Host of records without one; with a host-bound token also the only one allowed.
    pub host: Option<String>,
    /// Minutes east of UTC, for times without a zone (NXLog).
    pub utc_offset_minutes: Option<i32>,
    /// Hosts this token may report for; empty = any.
    pub allowed_hosts: Vec<String>,
    /// Name of the token, for coverage and quarantine.
    pub token: String,
}

/// The bytes of one event as a forwarder sent them.
#[derive(Debug, Clone)]
pub struct RawRecord {
    /// One document, without its framing.
    pub bytes: Bytes,
    /// `_id` that an Elasticsearch client chose.
    pub client_id: Option<String>,
    /// Shared by all records of a request.
    pub defaults: Arc<Defaults>,
}

/// How a source names the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostKey {
    /// An agent's or host's own id, and the computer name it reports (lower case).
    Agent {
        /// `host.id`, else `agent.id`.
        id: String,
        /// Computer name.
        name: Option<String>,
    },
    /// Computer name, lower case.
    Name(String),
    /// A network sensor knows the internal end by its address only.
    Address(IpAddr),
    /// Raw-only events may come without one.
    None,
}

/// How far the event's time can be trusted (wire formats, section 10.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i16)]
pub enum TimeQuality {
    /// As the source stamped it.
    #[default]
    Exact = 0,
    /// Whole seconds only.
    Second = 1,
    /// Zone taken from the token or the forwarder's own stamps.
    AssumedZone = 2,
    /// No zone to be had: read as UTC.
    AssumedUtc = 3,
    /// The forwarder mislabelled its zone; Sysmon's `UtcTime` was used.
    ZoneSuspect = 4,
    /// `UtcTime` ran behind; the record's time was used.
    Lagged = 5,
    /// Arrival time (raw-only events).
    Received = 6,
}

/// What makes two copies of an event the same (wire formats, section 1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A Windows record: the same by whatever way it came.
    Windows {
        /// Lower-cased computer name.
        computer: String,
        /// Event log channel.
        channel: String,
        /// Provider name.
        provider: String,
        /// Event id.
        event_id: u32,
        /// Record id, > 0.
        record_id: u64,
    },
    /// Everything else: host name as stated and SHA-256 of the canonical JSON of the record.
    Content {
        /// As the record states it, or the token's default.
        host: String,
        /// Digest of the canonical form (sorted keys), plus the client's `_id` if sent.
        digest: [u8; 32],
    },
}

/// A decoded record: typed, canonical, not yet tied to a host row.
#[derive(Debug, Clone)]
pub struct Event {
    /// When it happened. `None` only for raw-only events, which take their arrival time.
    pub at: Option<DateTime<Utc>>,
    /// How good that time is.
    pub time_quality: TimeQuality,
    /// Whose event it is.
    pub host: HostKey,
    /// Addresses that the record shows to be the host's own.
    pub addresses: smallvec::SmallVec<[IpAddr; 1]>,
    /// What makes it the same event.
    pub identity: Identity,
    /// Names of fields whose value could not be used or was repaired.
    pub field_errors: Vec<String>,
    /// What it says.
    pub fact: Fact,
}

impl EventId {
    /// Identity by content; `stamp` is the time in the fact's key.
    pub fn of(event: &Event, stamp: DateTime<Utc>) -> Self {
        match &event.identity {
            Identity::Windows { computer, channel, provider, event_id, record_id } => Self::of_parts([
                b"win".as_slice(),
                computer.as_bytes(),
                channel.as_bytes(),
                provider.as_bytes(),
                &event_id.to_be_bytes(),
                &record_id.to_be_bytes(),
                &stamp.timestamp().to_be_bytes(),
            ]),
            Identity::Content { host, digest } => Self::of_parts([b"raw".as_slice(), host.as_bytes(), digest]),
        }
    }
}

impl Event {
    /// The time in the fact's key: whole seconds for Windows records (some forwarders give no more), else microseconds.
    pub fn stamp(&self, received_at: DateTime<Utc>) -> DateTime<Utc> {
        let at = self.at.unwrap_or(received_at);
        let step = match self.identity {
            Identity::Windows { .. } => TimeDelta::seconds(1),
            Identity::Content { .. } => TimeDelta::microseconds(1),
        };
        at.duration_trunc(step).unwrap_or(at)
    }
}

/// Why a record could not become an event. The text is what a forwarder's operator reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// Not JSON, even after repair.
    #[error("not JSON: {0}")]
    BadJson(String),
    /// Not XML.
    #[error("not XML: {0}")]
    BadXml(String),
    /// Beyond the limit for one record.
    #[error("record of {bytes} bytes is larger than {limit}")]
    TooLarge {
        /// Size as sent.
        bytes: usize,
        /// Largest allowed.
        limit: usize,
    },
    /// A kind we judge, without a usable time.
    #[error("no usable time")]
    NoTime,
    /// A kind we judge, without a host.
    #[error("no host name")]
    NoHost,
    /// Outside 1990 to 2100.
    #[error("time {0} is outside 1990 to 2100")]
    TimeOutOfRange(String),
    /// `update` or `delete` of an Elasticsearch bulk request.
    #[error("action `{0}` is not supported: send create or index")]
    UnsupportedAction(String),
    /// The token is bound to other hosts.
    #[error("this token may not report for host `{0}`")]
    HostNotAllowed(String),
    /// Same identity as a stored event, but a field present in both differs.
    #[error("another event with the same identity was stored first")]
    IdentityConflict,
    /// PostgreSQL refused the row.
    #[error("refused by the database: SQLSTATE {0}")]
    RefusedByDatabase(String),
}

impl Reject {
    /// The machine-readable reason (wire formats, section 1.4).
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadJson(_) => "bad_json",
            Self::BadXml(_) => "bad_xml",
            Self::TooLarge { .. } => "too_large",
            Self::NoTime => "no_time",
            Self::NoHost => "no_host",
            Self::TimeOutOfRange(_) => "time_out_of_range",
            Self::UnsupportedAction(_) => "unsupported_action",
            Self::HostNotAllowed(_) => "host_not_allowed",
            Self::IdentityConflict => "identity_conflict",
            Self::RefusedByDatabase(_) => "refused_by_database",
        }
    }
}
