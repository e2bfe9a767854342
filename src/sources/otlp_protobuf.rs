//! OTLP as protobuf: cut into records and written as OTLP JSON, the form that is decoded, shown and kept.
//!
//! The outer messages are walked, not decoded: an empty record costs two bytes on the wire and hundreds in memory. A record is
//! decoded alone, so that one that is broken costs only itself.

use super::{
    LARGEST_RECORD,
    batch::{ROOM, log_record, resource_metrics},
};
use crate::model::event::Reject;
use bytes::Bytes;
use opentelemetry_proto::tonic::{
    common::v1::InstrumentationScope, logs::v1::LogRecord, metrics::v1::ResourceMetrics, resource::v1::Resource,
};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use serde::Serialize;
use std::iter;

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `ExportLogsServiceRequest`: one record for each log record.
    Logs,
    /// `ExportMetricsServiceRequest`: one record for each resource, whose points belong together.
    Metrics,
}

/// The outer messages are not what they should be; nothing in them can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an OTLP message")]
pub struct NotOtlp;

impl From<DecodeError> for NotOtlp {
    fn from(_: DecodeError) -> Self {
        Self
    }
}

/// Field numbers of `opentelemetry/proto/{logs,metrics}/v1`: the groups of a request, the context of a group, its parts.
const GROUPS: u32 = 1;
const CONTEXT: u32 = 1;
const PARTS: u32 = 2;

/// The records of a request.
#[derive(Debug, Default)]
pub struct Pieces {
    /// As JSON; what could not be read stands as it came.
    pub records: Vec<Bytes>,
    /// Places of those that could not be read, and why.
    pub refused: Vec<(usize, Reject)>,
    bytes: usize,
}

impl Pieces {
    fn add(&mut self, came: &Bytes, read: Result<Bytes, Reject>) {
        let record = read.unwrap_or_else(|reject| {
            self.refused.push((self.records.len(), reject));
            came.clone()
        });
        self.bytes = self.bytes.saturating_add(record.len());
        self.records.push(record);
    }

    /// Whether the caller will refuse it all for its size.
    fn is_over(&self) -> bool {
        self.bytes > ROOM
    }
}

/// Cuts a request into its records.
///
/// # Errors
/// The outer messages are not protobuf.
pub fn split_protobuf(body: &Bytes, signal: Signal) -> Result<Pieces, NotOtlp> {
    let mut pieces = Pieces::default();
    for group in fields(body, GROUPS) {
        let group = group?;
        match signal {
            Signal::Metrics => {
                pieces.add(&group, json::<ResourceMetrics>(&group).map(|text| resource_metrics(&text)));
            }
            Signal::Logs => add_logs(&mut pieces, &group)?,
        }
        if pieces.is_over() {
            break;
        }
    }
    Ok(pieces)
}

fn add_logs(pieces: &mut Pieces, group: &Bytes) -> Result<(), NotOtlp> {
    let resource = context::<Resource>(group)?;
    for scope in fields(group, PARTS) {
        let scope = scope?;
        let name = context::<InstrumentationScope>(&scope)?;
        for record in fields(&scope, PARTS) {
            let record = record?;
            pieces.add(&record, json::<LogRecord>(&record).map(|text| log_record(&resource, &name, &text)));
            if pieces.is_over() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Resource or scope of a group.
fn context<M: Message + Default + Serialize>(group: &Bytes) -> Result<String, NotOtlp> {
    match fields(group, CONTEXT).last() {
        Some(found) => json::<M>(&found?).map_err(|_| NotOtlp),
        None => Ok("{}".to_owned()),
    }
}

fn json<M: Message + Default + Serialize>(bytes: &Bytes) -> Result<String, Reject> {
    if bytes.len() > LARGEST_RECORD {
        return Err(Reject::TooLarge { bytes: bytes.len(), limit: LARGEST_RECORD });
    }
    let message = M::decode(bytes.clone()).map_err(|error| Reject::BadJson(error.to_string()))?;
    serde_json::to_string(&message).map_err(|error| Reject::BadJson(error.to_string()))
}

/// The values of one field of a message that hold bytes, in order.
fn fields(message: &Bytes, number: u32) -> impl Iterator<Item = Result<Bytes, NotOtlp>> {
    let mut rest = message.clone();
    iter::from_fn(move || {
        while !rest.is_empty() {
            match field(&mut rest) {
                Ok(Some((found, value))) if found == number => return Some(Ok(value)),
                Ok(_) => {}
                Err(error) => {
                    rest.clear();
                    return Some(Err(error));
                }
            }
        }
        None
    })
}

/// Takes one field off the front; `None` for a number.
fn field(rest: &mut Bytes) -> Result<Option<(u32, Bytes)>, NotOtlp> {
    let (number, kind) = decode_key(rest)?;
    if kind != WireType::LengthDelimited {
        skip_field(kind, number, rest, DecodeContext::default())?;
        return Ok(None);
    }
    let length = usize::try_from(decode_varint(rest)?).map_err(|_| NotOtlp)?;
    if length > rest.len() {
        return Err(NotOtlp);
    }
    Ok(Some((number, rest.split_to(length))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::{
        collector::logs::v1::ExportLogsServiceRequest,
        common::v1::{AnyValue, KeyValue, any_value::Value},
        logs::v1::{ResourceLogs, ScopeLogs},
    };
    use proptest::prelude::*;

    fn text(value: &str) -> AnyValue {
        AnyValue { value: Some(Value::StringValue(value.to_owned())) }
    }

    fn request(records: Vec<LogRecord>) -> Bytes {
        let host = KeyValue { key: "host.name".to_owned(), value: Some(text("ws-1")), ..KeyValue::default() };
        let resource = Some(Resource { attributes: vec![host], ..Resource::default() });
        let scope_logs = vec![ScopeLogs { log_records: records, ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
        ExportLogsServiceRequest { resource_logs }.encode_to_vec().into()
    }

    #[test]
    fn a_record_has_the_form_of_otlp_json() {
        let record =
            LogRecord { time_unix_nano: 1_772_442_845_123_456_700, body: Some(text("x")), ..LogRecord::default() };
        let pieces = split_protobuf(&request(vec![record]), Signal::Logs).unwrap();
        assert_eq!(pieces.refused, []);
        let json: serde_json::Value = serde_json::from_slice(&pieces.records[0]).unwrap();
        let group = &json["resourceLogs"][0];
        assert_eq!(group["resource"]["attributes"][0]["value"]["stringValue"], "ws-1");
        let record = &group["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["timeUnixNano"], "1772442845123456700");
        assert_eq!(record["body"]["stringValue"], "x");
    }

    #[test]
    fn a_broken_record_costs_only_itself() {
        let mut body = request(vec![LogRecord { body: Some(text("one")), ..LogRecord::default() }; 3]).to_vec();
        // the second text becomes invalid UTF-8
        let at = memchr::memmem::find_iter(&body, b"one").nth(1).unwrap();
        body[at] = 0xFF;
        let pieces = split_protobuf(&body.into(), Signal::Logs).unwrap();
        assert_eq!(pieces.records.len(), 3);
        assert_eq!(
            pieces.refused.iter().map(|(at, reject)| (*at, reject.reason())).collect::<Vec<_>>(),
            [(1, "bad_json")]
        );
    }

    #[test]
    fn lying_lengths_and_other_bytes_are_no_message() {
        for bytes in [b"\x0a\xff\xff\xff\xff\x0f".as_slice(), b"\x0a\x05abc", b"{\"resourceLogs\":[]}", b"\xff\xff"] {
            assert_eq!(split_protobuf(&Bytes::from_static(bytes), Signal::Logs).err(), Some(NotOtlp), "{bytes:?}");
        }
        assert_eq!(split_protobuf(&Bytes::new(), Signal::Metrics).unwrap().records.len(), 0);
    }

    /// Two bytes on the wire each; decoded whole they would be gigabytes.
    #[test]
    fn empty_records_without_end_stop_at_the_limit() {
        let records = b"\x12\x00".repeat(4 << 20);
        let mut scope = Vec::new();
        prost::encoding::bytes::encode(PARTS, &records, &mut scope);
        let mut body = Vec::new();
        prost::encoding::bytes::encode(GROUPS, &scope, &mut body);
        let pieces = split_protobuf(&body.into(), Signal::Logs).unwrap();
        assert!(pieces.is_over() && pieces.records.len() < 1_000_000, "{}", pieces.records.len());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for signal in [Signal::Logs, Signal::Metrics] {
                let _pieces = split_protobuf(&Bytes::from(bytes.clone()), signal);
            }
        }
    }
}
