//! Wazuh alerts: `data.win.system` and `data.win.eventdata`, first letters lower case, backslashes doubled.

use super::{Record, event_id, logging_pid, record_id, text_of};
use crate::model::event::Reject;
use crate::sources::{
    Events,
    draft::Decoder,
    json::Json,
    scalar,
    shape::Context,
    values::{Spelling, Values},
};

pub(in crate::sources) fn decode(
    decoder: &Decoder<'_>,
    doc: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let Some(system) = doc.at("data.win.system") else {
        return decoder.other(doc, context);
    };
    let eventdata = doc.at("data.win.eventdata").map(Json::members).unwrap_or_default();
    let record = Record {
        created: system.get("systemTime").or_else(|| doc.get("timestamp")).and_then(scalar::time),
        computer: text_of(system.get("computer")),
        provider: text_of(system.get("providerName")).unwrap_or_default(),
        channel: text_of(system.get("channel")).unwrap_or_default(),
        event_id: event_id(system.get("eventID")),
        number: record_id(system.get("eventRecordID")),
        logging_pid: logging_pid(system.get("processID")),
        values: Values { spelling: Spelling::Wazuh, ..Values::of(eventdata) },
        ..Record::default()
    };
    record.decode(decoder, context)
}
