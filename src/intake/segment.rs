//! Raw records of one commit, kept byte for byte: little-endian u32 length and bytes, one after another, zstd.
//!
//! `(segment_id, ordinal)` of a fact points here. A duplicate keeps its place with length 0, so that ordinals stay true.

use crate::model::ids::SegmentId;
use chrono::{DateTime, Utc};

/// Largest segment before compression, in bytes; a single larger record gets one of its own.
pub(super) const LARGEST: usize = 1 << 20;

/// zstd level: 3 halves what 1 leaves for a third more time (measured on Sysmon JSON); chosen.
const LEVEL: i32 = 3;

/// A new id: time-ordered, unique enough across processes (20 random bits within a millisecond).
pub(super) fn fresh_id(now: DateTime<Utc>) -> SegmentId {
    SegmentId(now.timestamp_millis() << 20 | i64::from(rand::random::<u32>() >> 12))
}

/// Packs records in order.
///
/// # Errors
/// Only if zstd cannot allocate.
pub(super) fn pack<'a>(records: impl Iterator<Item = &'a [u8]>) -> std::io::Result<(Vec<u8>, usize)> {
    let mut plain = Vec::new();
    for record in records {
        let length = u32::try_from(record.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
        plain.extend_from_slice(&length.to_le_bytes());
        plain.extend_from_slice(record);
    }
    Ok((zstd::bulk::compress(&plain, LEVEL)?, plain.len()))
}

/// The record at `ordinal` of a packed segment; `None` if there is none or it was not kept.
///
/// # Errors
/// If the segment is damaged.
pub fn unpack(body: &[u8], ordinal: usize) -> std::io::Result<Option<Vec<u8>>> {
    let plain = zstd::stream::decode_all(body)?;
    let mut rest = plain.as_slice();
    for n in 0.. {
        let Some((length, after)) = rest.split_first_chunk::<4>() else { break };
        let length = u32::from_le_bytes(*length) as usize;
        let (record, after) = after.split_at_checked(length).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        if n == ordinal {
            return Ok((!record.is_empty()).then(|| record.to_vec()));
        }
        rest = after;
    }
    Ok(None)
}

/// All records that a packed segment kept, in order.
///
/// # Errors
/// If the segment is damaged.
pub(super) fn records(body: &[u8]) -> std::io::Result<Vec<Vec<u8>>> {
    let plain = zstd::stream::decode_all(body)?;
    let mut rest = plain.as_slice();
    let mut records = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let (record, after) = after.split_at_checked(length).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        if !record.is_empty() {
            records.push(record.to_vec());
        }
        rest = after;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_back_as_they_went_in(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..20)) {
            let (body, _) = pack(records.iter().map(Vec::as_slice)).unwrap();
            for (n, record) in records.iter().enumerate() {
                let got = unpack(&body, n).unwrap();
                prop_assert_eq!(got.as_ref(), Some(record));
            }
            prop_assert_eq!(unpack(&body, records.len()).unwrap(), None);
        }
    }
}
