//! Flat documents: `SourceName` or `ProviderName`, `Channel`, `EventID`, all values beside them.

use super::{Record, event_id, logging_pid, record_id, text_of};
use crate::model::event::Reject;
use crate::sources::{
    Events,
    draft::Decoder,
    json::{self, Json},
    scalar,
    shape::Context,
    values::{Layer, Values},
};
use std::borrow::Cow;

pub(in crate::sources) fn decode(
    decoder: &Decoder<'_>,
    doc: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let first = |names: &[&str]| names.iter().find_map(|name| text_of(doc.get(name)));
    let record = Record {
        created: ["TimeCreated", "EventTime", "@timestamp"].iter().find_map(|name| scalar::time(doc.get(name)?)),
        computer: first(&["Hostname", "Computer", "ComputerName", "MachineName"]),
        provider: first(&["SourceName", "ProviderName"]).unwrap_or_default(),
        channel: text_of(doc.get("Channel")).unwrap_or_default(),
        event_id: event_id(doc.get("EventID")),
        number: record_id(doc.get("EventRecordID").or_else(|| doc.get("RecordNumber"))),
        logging_pid: logging_pid(doc.get("ExecutionProcessID")),
        values: Values::of(doc.members()),
        ..Record::default()
    };
    record.decode(decoder, context)
}

/// Telegraf's `win_eventlog`: tags name the record, fields hold `Data_<name>` and `<Element>_<name>` of `UserData`.
pub(in crate::sources) fn telegraf(
    decoder: &Decoder<'_>,
    metric: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let empty = Json::Null;
    let (tags, fields) = (metric.get("tags").unwrap_or(&empty), metric.get("fields").unwrap_or(&empty));
    let given = |name: &str| fields.get(name).or_else(|| tags.get(name));
    let values = fields.members().iter().filter_map(|(key, value)| {
        let name = key.strip_prefix("Data_").or_else(|| Some(key.split_once('_')?.1))?;
        Some((Cow::Borrowed(name), value.clone()))
    });
    let record = Record {
        created: given("TimeCreated").or_else(|| metric.get("timestamp")).and_then(scalar::time),
        computer: text_of(given("Computer").or_else(|| given("host"))),
        provider: text_of(given("Source")).unwrap_or_default(),
        channel: text_of(given("Channel")).unwrap_or_default(),
        event_id: event_id(given("EventID")),
        number: record_id(given("EventRecordID")),
        logging_pid: logging_pid(given("ProcessID")),
        values: Values { layers: smallvec::smallvec![Layer::Owned(values.collect())], ..Values::default() },
        ..Record::default()
    };
    record.decode(decoder, context)
}

/// osquery's `windows_events`: `data` is JSON text with `EventData`.
pub(in crate::sources) fn osquery(
    decoder: &Decoder<'_>,
    columns: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let data = columns.str_at("data").unwrap_or("{}");
    let events = json::read(data.as_bytes(), |tree, _| {
        let values = ["EventData", "UserData"].iter().find_map(|key| tree.get(key)).unwrap_or(tree);
        let record = Record {
            created: ["datetime", "time"].iter().find_map(|name| scalar::time(columns.get(name)?)),
            computer: text_of(columns.get("computer_name")).or(context.host.map(Cow::Borrowed)),
            provider: text_of(columns.get("provider_name")).unwrap_or_default(),
            channel: text_of(columns.get("source")).unwrap_or_default(),
            event_id: event_id(columns.get("eventid")),
            logging_pid: logging_pid(columns.get("pid")),
            values: Values::of(values.members()),
            ..Record::default()
        };
        record.decode(decoder, context)
    });
    events.map_err(Reject::BadJson)?
}
