//! One stored event: its fact row and the raw record behind it. For people who want to see what was sent.

use crate::model::{fact::Fact, ids::EventRef};
use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, Postgres, QueryBuilder};

/// An event as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Table of its kind.
    pub table: String,
    /// Its row.
    pub fact: Value,
    /// When its first copy arrived; absent when the segment is past retention.
    pub received_at: Option<DateTime<Utc>>,
    /// How it came.
    pub protocol: Option<String>,
    /// Name of the token it came with.
    pub token: Option<String>,
    /// The record, byte for byte.
    pub raw: Option<Vec<u8>>,
}

/// The event of a reference. Looks at the primary key of every kind of fact: the reference does not say which.
pub async fn find(conn: &mut PgConnection, event: EventRef) -> anyhow::Result<Option<Stored>> {
    let mut sql = QueryBuilder::<Postgres>::new("-- events::find\n");
    for (n, (table, _)) in Fact::TABLES.iter().enumerate() {
        sql.push(if n == 0 { "" } else { " union all " });
        sql.push(format!("select '{table}' as kind, segment_id, ordinal, to_jsonb(t) - 'segment_id' - 'ordinal' as fact from {table} t where host_id = "));
        sql.push_bind(event.host.0).push(" and occurred_at = ").push_bind(event.at).push(" and event_id = ").push_bind(event.id.0);
    }
    let Some((table, segment_id, ordinal, fact)) =
        sql.build_query_as::<(String, i64, i32, Value)>().fetch_optional(&mut *conn).await?
    else {
        return Ok(None);
    };
    let segment = sqlx::query!("select received_at, protocol, token, body from segment where segment_id = $1", segment_id)
        .fetch_optional(conn)
        .await?;
    let mut stored = Stored { table, fact, received_at: None, protocol: None, token: None, raw: None };
    if let Some(segment) = segment {
        stored.raw = record(&segment.body, usize::try_from(ordinal)?).context("reading a raw segment")?;
        stored.received_at = Some(segment.received_at);
        stored.protocol = Some(segment.protocol);
        stored.token = Some(segment.token);
    }
    Ok(Some(stored))
}

/// The record at a place of a segment: zstd of repeated little-endian u32 length and bytes; length 0 = not kept.
fn record(body: &[u8], ordinal: usize) -> std::io::Result<Option<Vec<u8>>> {
    let plain = zstd::stream::decode_all(body)?;
    let mut rest = plain.as_slice();
    let mut at = 0;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (bytes, after) =
            after.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        if at == ordinal {
            return Ok((!bytes.is_empty()).then(|| bytes.to_vec()));
        }
        at += 1;
        rest = after;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_by_its_place() {
        let plain: Vec<u8> = [b"one".as_slice(), b"", b"three"]
            .iter()
            .flat_map(|r| u32::try_from(r.len()).unwrap().to_le_bytes().into_iter().chain(r.iter().copied()))
            .collect();
        let body = zstd::bulk::compress(&plain, 1).unwrap();
        assert_eq!(record(&body, 0).unwrap().as_deref(), Some(b"one".as_slice()));
        assert_eq!(record(&body, 1).unwrap(), None);
        assert_eq!(record(&body, 2).unwrap().as_deref(), Some(b"three".as_slice()));
        assert_eq!(record(&body, 3).unwrap(), None);
        assert!(record(&body[..body.len() - 3], 0).is_err());
    }
}
