//! What a reader found, before it is an event: time, host and identity are settled here, once for all shapes.

use super::{
    Events,
    json::{Json, Notes},
    scalar::{self, Stamp},
};
use crate::model::{
    event::{Defaults, Event, HostKey, Identity, RawRecord, Reject, TimeQuality},
    fact::{Fact, OtherEvent},
};
use chrono::{DateTime, Datelike, Utc};
use sha2::{Digest, Sha256};
use smallvec::{SmallVec, smallvec};
use std::net::IpAddr;

/// When, and how far that can be trusted.
pub(super) type When = Result<(DateTime<Utc>, TimeQuality), Reject>;

/// The first time that is there; a zone that is not stated is UTC.
pub(super) fn record_time(stamps: impl IntoIterator<Item = Option<Stamp>>) -> When {
    let Some(stamp) = stamps.into_iter().flatten().next() else {
        return Err(Reject::NoTime);
    };
    match stamp.utc() {
        Some(at) if stamp.coarse => in_range(at, TimeQuality::Second),
        Some(at) => in_range(at, TimeQuality::Exact),
        None => in_range(stamp.east(0).ok_or(Reject::NoTime)?, TimeQuality::AssumedUtc),
    }
}

/// The time, unless it is outside 1990 to 2100 (wire formats, section 10.1).
pub(super) fn in_range(at: DateTime<Utc>, quality: TimeQuality) -> When {
    if (1990..2100).contains(&at.year()) {
        Ok((at, quality))
    } else {
        Err(Reject::TimeOutOfRange(at.format("%Y-%m-%dT%H:%M:%SZ").to_string()))
    }
}

/// Where a Windows record stands in its log.
#[derive(Debug, Clone)]
pub(super) struct Position {
    pub(super) channel: String,
    pub(super) provider: String,
    pub(super) event_id: u32,
    pub(super) record_id: u64,
}

/// An event in the making.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) time: When,
    /// Computer or host name as stated.
    pub(super) name: Option<String>,
    /// Id of host or agent that may be trusted to mean this host.
    pub(super) agent: Option<String>,
    /// A sensor's record: the internal end.
    pub(super) internal: Option<IpAddr>,
    pub(super) addresses: SmallVec<[IpAddr; 1]>,
    /// Set for records of a Windows event log.
    pub(super) position: Option<Position>,
    /// What identifies the record where its wrapping must not (a log line); else the record as received does.
    pub(super) content: Option<Vec<u8>>,
    pub(super) facts: SmallVec<[Fact; 1]>,
    pub(super) errors: Vec<String>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            time: Err(Reject::NoTime),
            name: None,
            agent: None,
            internal: None,
            addresses: SmallVec::new(),
            position: None,
            content: None,
            facts: SmallVec::new(),
            errors: Vec::new(),
        }
    }
}

enum Content<'r> {
    /// The document, or the parts of a batch that make one record.
    Trees(SmallVec<[&'r Json<'r>; 2]>),
    Text(&'r [u8]),
}

/// Everything around a record that decoding needs.
pub(super) struct Decoder<'r> {
    pub(super) defaults: &'r Defaults,
    client_id: Option<&'r str>,
    content: Content<'r>,
    repaired: Vec<&'static str>,
}

impl<'r> Decoder<'r> {
    /// For a JSON document.
    pub(super) fn of_tree(record: &'r RawRecord, tree: &'r Json<'r>, notes: &Notes) -> Self {
        Self { repaired: notes.names().collect(), ..Self::new(record, Content::Trees(smallvec![tree])) }
    }

    /// For XML or a line.
    pub(super) fn of_text(record: &'r RawRecord, text: &'r [u8]) -> Self {
        Self::new(record, Content::Text(text))
    }

    /// For one record of a batch, identified by these parts of it alone.
    pub(super) fn of_parts<'p>(&self, parts: SmallVec<[&'p Json<'p>; 2]>) -> Decoder<'p>
    where
        'r: 'p,
    {
        let Self { defaults, client_id, repaired, .. } = self;
        Decoder { defaults, client_id: *client_id, content: Content::Trees(parts), repaired: repaired.clone() }
    }

    fn new(record: &'r RawRecord, content: Content<'r>) -> Self {
        Self { defaults: &record.defaults, client_id: record.client_id.as_deref(), content, repaired: Vec::new() }
    }

    /// Events of all records of a batch. A lone record that is refused is refused as a whole; among others it is kept raw and
    /// says why.
    pub(super) fn batch(&self, mut records: Vec<Result<Events, Reject>>) -> Result<Events, Reject> {
        if records.len() == 1 {
            return records.pop().unwrap_or(Err(Reject::NoTime));
        }
        let mut all = Events::new();
        for record in records {
            match record {
                Ok(events) => all.extend(events),
                Err(reject) => {
                    let content = Some(format!("{} {reject}", all.len()).into_bytes());
                    let errors = vec![reject.reason().to_owned()];
                    let facts = smallvec![OtherEvent::default().into()];
                    all.extend(self.finish(Draft { content, facts, errors, ..Draft::default() })?);
                }
            }
        }
        if all.is_empty() {
            return Err(Reject::BadJson("a batch without records".to_owned()));
        }
        Ok(all)
    }

    /// Settles time, host and identity.
    pub(super) fn finish(&self, draft: Draft) -> Result<Events, Reject> {
        let judged = draft.facts.iter().any(|fact| !matches!(fact, Fact::OtherEvent(_)));
        let (at, time_quality) = match draft.time {
            Ok((at, quality)) => (Some(at), quality),
            Err(reject) if judged => return Err(reject),
            Err(_) => (None, TimeQuality::Received),
        };
        let stated = draft.name.as_deref().and_then(host_name);
        let stated_text = match (&stated, draft.internal) {
            (_, Some(address)) => Some(address.to_string()),
            (name, None) => name.clone(),
        };
        let host = self.host(stated, draft.agent, draft.internal)?;
        if judged && host == HostKey::None {
            return Err(Reject::NoHost);
        }
        let identity_host =
            stated_text.clone().or_else(|| self.defaults.host.as_deref().and_then(host_name)).unwrap_or_default();
        let windows = draft.position.filter(|p| p.record_id > 0 && !p.channel.is_empty()).zip(stated_text);
        let mut field_errors = draft.errors;
        field_errors.extend(self.repaired.iter().map(|name| (*name).to_owned()));
        let mut identity = match windows {
            Some((position, computer)) => Identity::Windows {
                computer,
                channel: position.channel,
                provider: position.provider,
                event_id: position.event_id,
                record_id: position.record_id,
            },
            None => Identity::Content { host: identity_host, digest: self.digest(draft.content) },
        };
        let mut events = Events::new();
        for (n, fact) in draft.facts.into_iter().enumerate() {
            if n > 0 {
                identity = next_identity(&identity, n);
            }
            events.push(Event {
                at,
                time_quality,
                host: host.clone(),
                addresses: draft.addresses.clone(),
                identity: identity.clone(),
                field_errors: field_errors.clone(),
                fact,
            });
        }
        Ok(events)
    }

    fn host(&self, stated: Option<String>, agent: Option<String>, internal: Option<IpAddr>) -> Result<HostKey, Reject> {
        let bound = !self.defaults.allowed_hosts.is_empty();
        let name = match internal {
            Some(address) => Some(address.to_string()),
            None => stated.or_else(|| self.defaults.host.as_deref().and_then(host_name)),
        };
        let Some(name) = name else {
            // A bound token does not get to name a host by an id alone.
            return Ok(agent.filter(|_| !bound).map_or(HostKey::None, |id| HostKey::Agent { id, name: None }));
        };
        if bound && !self.defaults.allowed_hosts.iter().any(|allowed| same_host(&allowed.to_lowercase(), &name)) {
            return Err(Reject::HostNotAllowed(name));
        }
        Ok(match (internal, agent) {
            (Some(address), _) => HostKey::Address(address),
            (None, Some(id)) if !bound => HostKey::Agent { id, name: Some(name) },
            (None, _) => HostKey::Name(name),
        })
    }

    /// SHA-256 of the canonical record and the client's own id.
    fn digest(&self, own: Option<Vec<u8>>) -> [u8; 32] {
        let client_id = self.client_id.filter(|_| own.is_none()).unwrap_or_default();
        let bytes = own.unwrap_or_else(|| {
            let mut bytes = Vec::with_capacity(1_024);
            match &self.content {
                Content::Trees(trees) => trees.iter().for_each(|tree| tree.canonical(&mut bytes)),
                Content::Text(text) => bytes.extend_from_slice(text),
            }
            bytes
        });
        let mut hash = Sha256::new();
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(&bytes);
        hash.update(client_id);
        hash.finalize().into()
    }
}

/// Identity of a further fact of the same record.
fn next_identity(first: &Identity, n: usize) -> Identity {
    let mut next = first.clone();
    match &mut next {
        Identity::Windows { channel, .. } => {
            channel.push('#');
            channel.push_str(&n.to_string());
        }
        Identity::Content { digest, .. } => {
            *digest = Sha256::new().chain_update(*digest).chain_update(n.to_be_bytes()).finalize().into();
        }
    }
    next
}

/// A host name for comparison: lower case, no blanks, no last dot.
pub(super) fn host_name(name: &str) -> Option<String> {
    let name = name.trim().trim_end_matches('.');
    (!scalar::is_null(name)).then(|| name.to_lowercase())
}

/// First label of a name.
pub(super) fn first_label(name: &str) -> &str {
    name.split_once('.').map_or(name, |(label, _)| label)
}

/// Whether two names can mean one machine: equal, or one is the other without its domain.
pub(super) fn same_host(a: &str, b: &str) -> bool {
    let short = |n: &str| !n.contains('.');
    a.eq_ignore_ascii_case(b) || ((short(a) || short(b)) && first_label(a).eq_ignore_ascii_case(first_label(b)))
}
