//! One transport connection as a sensor saw it, turned to the point of view of its internal end.

use crate::model::{
    event::{Reject, TimeQuality},
    fact::{Connection, Fact},
};
use crate::sources::{
    Events,
    draft::{self, Decoder, Draft, When},
    scalar::{self, Stamp},
};
use chrono::{DateTime, TimeDelta, Utc};
use smallvec::SmallVec;
use std::net::IpAddr;

/// Both ends; `origin` opened the connection.
#[derive(Debug, Default, Clone)]
pub(super) struct Flow<'a> {
    pub(super) kind: &'static str,
    pub(super) origin: Option<IpAddr>,
    pub(super) origin_port: Option<i64>,
    pub(super) responder: Option<IpAddr>,
    pub(super) responder_port: Option<i64>,
    pub(super) protocol: Option<&'a str>,
    pub(super) origin_bytes: Option<i64>,
    pub(super) responder_bytes: Option<i64>,
    pub(super) started_at: Option<DateTime<Utc>>,
    pub(super) ended_at: Option<DateTime<Utc>>,
    pub(super) application: Option<String>,
    pub(super) server_name: Option<String>,
    pub(super) allowed: Option<bool>,
}

impl Flow<'_> {
    /// Whether the opening end is the one the record belongs to: the internal one, with two internal ends the opener.
    fn is_outbound(&self) -> bool {
        let inside = |end: Option<IpAddr>| end.is_some_and(scalar::is_internal);
        inside(self.origin) || !inside(self.responder)
    }

    /// The end the record belongs to.
    pub(super) fn internal(&self) -> Option<IpAddr> {
        if self.is_outbound() { self.origin } else { self.responder }
    }

    /// The fact, seen from the internal end.
    pub(super) fn connection(self) -> Connection {
        let outbound = self.is_outbound();
        let origin = (self.origin, self.origin_port, self.origin_bytes);
        let responder = (self.responder, self.responder_port, self.responder_bytes);
        let (local, remote) = if outbound { (origin, responder) } else { (responder, origin) };
        Connection {
            kind: Some(self.kind.to_owned()),
            protocol: self.protocol.and_then(scalar::protocol).map(str::to_owned),
            direction: Some(if outbound { "outbound" } else { "inbound" }.to_owned()),
            local_ip: local.0,
            local_port: local.1,
            remote_ip: remote.0,
            remote_port: remote.1,
            bytes_out: local.2,
            bytes_in: remote.2,
            remote_host: self
                .server_name
                .map(|name| scalar::dns_name(&name))
                .filter(|name| outbound && !name.is_empty()),
            started_at: self.started_at,
            ended_at: self.ended_at,
            application: self.application,
            allowed: self.allowed,
            ..Connection::default()
        }
    }
}

/// A time as a firewall writes it: its own zone, else the token's, else UTC.
pub(super) fn placed(decoder: &Decoder<'_>, stamp: Stamp) -> When {
    if stamp.has_zone() {
        return draft::record_time([Some(stamp)]);
    }
    let (minutes, quality) = match decoder.defaults.utc_offset_minutes {
        Some(minutes) => (minutes, TimeQuality::AssumedZone),
        None => (0, TimeQuality::AssumedUtc),
    };
    draft::in_range(stamp.east(minutes.saturating_mul(60)).ok_or(Reject::NoTime)?, quality)
}

/// Words in what a sensor recognised that mean a mining conversation was seen.
const MINING: &[&str] =
    &["stratum", "coinminer", "cryptominer", "cryptocurrency miner", "crypto miner", "xmrig", "mining pool", "monero"];

/// Whether a signature or application name means that a mining conversation was seen.
pub(super) fn means_mining(name: &str) -> bool {
    let plain = name.to_lowercase().replace(['.', '-', '_'], " ");
    MINING.iter().any(|word| plain.contains(word))
}

/// Events of a sensor's record about `internal`, at `at`: the start of what it saw, so that all records of a connection are neighbours.
pub(super) fn finish(
    decoder: &Decoder<'_>,
    at: Option<DateTime<Utc>>,
    internal: Option<IpAddr>,
    facts: SmallVec<[Fact; 1]>,
    content: Option<Vec<u8>>,
) -> Result<Events, Reject> {
    let time = match at {
        Some(at) => draft::in_range(at, TimeQuality::Exact),
        None => Err(Reject::NoTime),
    };
    decoder.finish(Draft { time, internal, content, facts, ..Draft::default() })
}

/// `start` plus seconds with decimals.
pub(super) fn after(start: DateTime<Utc>, seconds: f64) -> Option<DateTime<Utc>> {
    (seconds.is_finite() && (0.0..1.0e9).contains(&seconds))
        .then(|| start.checked_add_signed(TimeDelta::microseconds((seconds * 1.0e6).round() as i64)))
        .flatten()
}

/// `end` minus seconds with decimals.
pub(super) fn before(end: DateTime<Utc>, seconds: f64) -> Option<DateTime<Utc>> {
    (seconds.is_finite() && (0.0..1.0e9).contains(&seconds))
        .then(|| end.checked_sub_signed(TimeDelta::microseconds((seconds * 1.0e6).round() as i64)))
        .flatten()
}

/// What a sensor recognised, under one name for each.
pub(super) fn application(name: &str) -> Option<String> {
    let first = name.split(',').next().unwrap_or_default().trim().to_ascii_lowercase();
    match first.as_str() {
        "" | "-" | "failed" | "unknown" => None,
        "tls" => Some("ssl".to_owned()),
        _ => Some(first),
    }
}
