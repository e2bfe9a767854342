//! The rows of one group commit: where they go, and the statements that are not facts: segments, quarantine, sightings, marks.

use super::{
    FastMap, FastSet, Identified, Origin, Outcome, Prepared,
    segment,
    stage::{Merged, Rows},
};
use crate::{
    model::{
        event::Reject,
        fact::Fact,
        ids::{EventId, HostId, SegmentId},
    },
    time::bucket,
};
use bytes::Bytes;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use sqlx::PgConnection;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};
use tokio::task::JoinHandle;

/// Which address a host showed in which hour.
pub(super) type Sighting = (IpAddr, DateTime<Utc>, HostId);

/// One record of a group on its way.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) origin: Arc<Origin>,
    pub(super) received_at: DateTime<Utc>,
    pub(super) prepared: Prepared,
    pub(super) outcome: Outcome,
}

/// An event without a time of its own keeps the arrival of its first copy, else a re-send would land under another key.
pub(super) async fn date_undated(db: &mut PgConnection, rows: &mut [Row]) -> sqlx::Result<()> {
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
        "-- intake::group::date_undated
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

/// Says of each row what became of it. A group may hold an event twice: the first copy is the new one.
pub(super) fn settle_outcomes(rows: &mut [Row], is_new: impl Fn(EventId) -> bool) {
    let mut stored = FastSet::default();
    for row in rows {
        row.outcome = match &row.prepared.outcome {
            Err(reject) => Outcome::Quarantined(reject.clone()),
            Ok(events) => {
                let new = events.iter().filter(|e| is_new(e.id) && stored.insert(e.id)).count();
                if new > 0 { Outcome::Accepted } else { Outcome::Duplicate }
            }
        };
    }
}

/// Where everything goes, settled before the transaction begins.
#[derive(Debug)]
pub(super) struct Plan {
    /// Table and rows; an id that the group holds twice is in a later round of its table, so that both copies are compared.
    pub(super) rounds: Vec<(usize, Rows)>,
    pub(super) hits: Rows,
    segments: Vec<(SegmentId, std::ops::Range<usize>)>,
}

impl Plan {
    pub(super) fn of(rows: &[Row], now: DateTime<Utc>) -> Self {
        let segments = cut_segments(rows, now);
        let mut rounds: BTreeMap<(usize, usize), Rows> = BTreeMap::new();
        let mut hits = Rows::default();
        let mut copies: FastMap<EventId, usize> = FastMap::default();
        let mut by_segment = segments.iter().flat_map(|(id, range)| range.clone().map(|n| (*id, n.saturating_sub(range.start))));
        for row in rows {
            let Some((segment, ordinal)) = by_segment.next() else { break };
            for event in row.prepared.outcome.iter().flatten() {
                let copy = copies.entry(event.id).and_modify(|n| *n = n.saturating_add(1)).or_insert(0);
                let stamp = event.stamp.unwrap_or(row.received_at);
                let host = event.host_id;
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
    pub(super) fn pack_segments(&self, rows: &[Row]) -> JoinHandle<anyhow::Result<Vec<Packed>>> {
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
pub(super) struct Packed {
    id: SegmentId,
    origin: Arc<Origin>,
    records: i32,
    raw_bytes: i32,
    body: Vec<u8>,
}

pub(super) async fn store_segments(db: &mut PgConnection, segments: Vec<Packed>, now: DateTime<Utc>) -> sqlx::Result<()> {
    for s in segments {
        sqlx::query!(
            "-- intake::group::store_segments
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

fn write_hits(out: &mut Rows, event: &Identified, host: HostId, stamp: DateTime<Utc>) {
    for hit in &event.hits {
        out.push(host, stamp, event.id, |out| {
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
        });
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

pub(super) async fn store_quarantine(db: &mut PgConnection, rows: &[Row], merged: &Merged, now: DateTime<Utc>) -> sqlx::Result<()> {
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
            "-- intake::group::store_quarantine
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
pub(super) async fn store_sightings(
    db: &mut PgConnection,
    rows: &[Row],
    known: &FastSet<Sighting>,
) -> sqlx::Result<BTreeSet<Sighting>> {
    let mut fresh = BTreeSet::new();
    for event in rows.iter().flat_map(|r| r.prepared.outcome.iter().flatten()) {
        let (Some(at), host) = (event.stamp, event.host_id) else { continue };
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
        "-- intake::group::store_sightings
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
pub(super) async fn store_marks(
    db: &mut PgConnection,
    rows: &[Row],
    merged: &Merged,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let mut marks = BTreeSet::new();
    for event in rows.iter().flat_map(|r| r.prepared.outcome.iter().flatten()) {
        if let Some(at) = event.stamp
            && (merged.new.contains(&event.id) || merged.completed.contains(&event.id))
        {
            marks.insert((event.host_id.0, bucket(at)));
        }
    }
    if marks.is_empty() {
        return Ok(());
    }
    let (hosts, buckets): (Vec<_>, Vec<_>) = marks.into_iter().unzip();
    sqlx::query!(
        "-- intake::group::store_marks
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
    use crate::model::fact::CopyText;

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
