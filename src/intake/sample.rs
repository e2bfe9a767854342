//! What the newest records of a source decode to today: kinds, hosts, fields that could not be used. Nothing is stored.
//!
//! Counters would cost every commit; a look at a few kept records costs only the page that asks, and follows the decoders.

use crate::{
    model::{
        event::{Defaults, HostKey, RawRecord},
        fact::Fact,
    },
    sources,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Counts over some records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// Records looked at.
    pub records: usize,
    /// Events by table of their kind.
    pub kinds: BTreeMap<&'static str, usize>,
    /// Events that no rule judges: provider, channel, event id.
    pub unknown: BTreeMap<[String; 3], usize>,
    /// Records that hold nothing usable, by reason.
    pub rejected: BTreeMap<&'static str, usize>,
    /// Fields whose value could not be used or was repaired.
    pub field_errors: BTreeMap<String, usize>,
    /// Names and addresses of the hosts.
    pub hosts: BTreeSet<String>,
    /// Earliest event time.
    pub first: Option<DateTime<Utc>>,
    /// Latest event time.
    pub last: Option<DateTime<Utc>>,
}

impl Sample {
    /// Adds the last `most` records of a packed segment.
    ///
    /// # Errors
    /// If the segment is damaged.
    pub fn add(&mut self, body: &[u8], defaults: &Arc<Defaults>, most: usize) -> std::io::Result<()> {
        let records = super::segment::records(body)?;
        for bytes in records.into_iter().rev().take(most) {
            self.record(&RawRecord { bytes: Bytes::from(bytes), client_id: None, defaults: Arc::clone(defaults) });
        }
        Ok(())
    }

    /// Adds what another sample counted.
    pub fn merge(&mut self, other: Self) {
        fn add<K: Ord>(to: &mut BTreeMap<K, usize>, from: BTreeMap<K, usize>) {
            for (key, n) in from {
                let sum = to.entry(key).or_default();
                *sum = sum.saturating_add(n);
            }
        }
        self.records = self.records.saturating_add(other.records);
        add(&mut self.kinds, other.kinds);
        add(&mut self.unknown, other.unknown);
        add(&mut self.rejected, other.rejected);
        add(&mut self.field_errors, other.field_errors);
        self.hosts.extend(other.hosts);
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = self.last.max(other.last);
    }

    fn record(&mut self, record: &RawRecord) {
        self.records = self.records.saturating_add(1);
        let events = match sources::decode(record) {
            Ok(events) => events,
            Err(reject) => return count(&mut self.rejected, reject.reason()),
        };
        for event in events {
            count(&mut self.kinds, event.fact.table());
            if let Fact::OtherEvent(other) = &event.fact {
                let text = |value: &Option<String>| value.clone().unwrap_or_default();
                count(&mut self.unknown, [text(&other.provider), text(&other.channel), text(&other.code)]);
            }
            for field in event.field_errors {
                count(&mut self.field_errors, field);
            }
            self.hosts.extend(match event.host {
                HostKey::Agent { name: Some(name), .. } | HostKey::Name(name) => Some(name),
                HostKey::Agent { id, name: None } => Some(id),
                HostKey::Address(address) => Some(address.to_string()),
                HostKey::None => None,
            });
            self.first = [self.first, event.at].into_iter().flatten().min();
            self.last = self.last.max(event.at);
        }
    }
}

fn count<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    counts.entry(key).and_modify(|n| *n = n.saturating_add(1)).or_insert(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_says_what_the_newest_records_decode_to() {
        let records: [&[u8]; 4] = [
            br#"{"kind":"process_start","occurred_at":"2026-03-02T09:00:00Z","host":{"name":"ws-1"},"process":{"pid":1,"image":"C:\\a.exe"}}"#,
            br#"{"kind":"process_start","occurred_at":"2026-03-02T10:00:00Z","host":{"name":"ws-2"},"process":{"pid":1,"image":"C:\\a.exe"}}"#,
            br#"{"@timestamp":"2026-03-02T10:00:01Z","host":{"name":"ws-2"},"event":{"provider":"Kernel","code":"7"}}"#,
            b"not a record",
        ];
        let (body, _) = crate::intake::segment::pack(records.into_iter()).unwrap();
        let mut sample = Sample::default();
        sample.add(&body, &Arc::default(), 3).unwrap();
        assert_eq!(sample.records, 3);
        assert_eq!(sample.kinds, BTreeMap::from([("other_event", 1), ("process_start", 1)]));
        assert_eq!(sample.unknown, BTreeMap::from([(["Kernel".to_owned(), String::new(), "7".to_owned()], 1)]));
        assert_eq!(sample.rejected, BTreeMap::from([("bad_json", 1)]));
        assert_eq!(sample.hosts, BTreeSet::from(["ws-2".to_owned()]));
        assert_eq!(sample.last, "2026-03-02T10:00:01Z".parse().ok());
    }
}
