//! Flat documents: `SourceName` or `ProviderName`, `Channel`, `EventID`, all values beside them.

use super::{Record, event_id, logging_pid, record_id, text_of};
use crate::model::event::Reject;
use crate::sources::{Events, draft::Decoder, json::Json, scalar, shape::Context, values::Values};

pub(in crate::sources) fn decode(decoder: &Decoder<'_>, doc: &Json<'_>, context: &Context<'_>) -> Result<Events, Reject> {
    let first = |names: &[&str]| names.iter().find_map(|name| text_of(doc.get(name)));
    let record = Record {
        created: ["TimeCreated", "EventTime", "@timestamp"].iter().find_map(|name| scalar::time(doc.get(name)?)),
        computer: first(&["Hostname", "Computer", "ComputerName", "MachineName"]),
        provider: first(&["SourceName", "ProviderName"]).unwrap_or_default(),
        channel: text_of(doc.get("Channel")).unwrap_or_default(),
        event_id: event_id(doc.get("EventID")),
        record_id: record_id(doc.get("EventRecordID").or_else(|| doc.get("RecordNumber"))),
        logging_pid: logging_pid(doc.get("ExecutionProcessID")),
        values: Values::of(doc.members()),
        ..Record::default()
    };
    record.decode(decoder, context)
}
