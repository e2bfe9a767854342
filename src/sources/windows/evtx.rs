//! The `evtx` crate's JSON, and event XML brought into the same form: `Event.System`, `EventData` or `UserData.<Element>`.

use super::{Record, event_id, logging_pid, record_id, text_of};
use crate::model::event::Reject;
use crate::sources::{
    Events,
    draft::Decoder,
    json::Json,
    scalar,
    shape::Context,
    values::{Layer, Values},
};

pub(in crate::sources) fn decode(
    decoder: &Decoder<'_>,
    doc: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let event = doc.get("Event").unwrap_or(doc);
    let system = event.get("System").unwrap_or(&Json::Null);
    let attribute = |element: &str, name: &str| system.get(element)?.get("#attributes")?.get(name);
    let record = Record {
        created: attribute("TimeCreated", "SystemTime").and_then(scalar::time),
        computer: text_of(system.get("Computer")),
        provider: text_of(attribute("Provider", "Name").or_else(|| attribute("Provider", "EventSourceName")))
            .unwrap_or_default(),
        channel: text_of(system.get("Channel")).unwrap_or_default(),
        event_id: event_id(system.get("EventID")),
        number: record_id(system.get("EventRecordID")),
        logging_pid: logging_pid(attribute("Execution", "ProcessID")),
        logging_user: attribute("Security", "UserID").and_then(|sid| scalar::account(sid.as_str()?)),
        values: values(event),
        ..Record::default()
    };
    record.decode(decoder, context)
}

fn values<'a>(event: &'a Json<'a>) -> Values<'a> {
    let mut values = Values::default();
    if let Some(data @ Json::Object(members)) = event.get("EventData") {
        values.layers.push(Layer::Borrowed(members));
        // Classic events: one element without names, holding one text or many.
        let nameless = data.get("Data").map(|d| d.get("#text").unwrap_or(d));
        match nameless {
            Some(Json::Array(texts)) => values.texts.extend(texts.iter().filter_map(scalar::text)),
            Some(text) => values.texts.extend(scalar::text(text)),
            None => {}
        }
    }
    let user_data = event.get("UserData").map(Json::members).unwrap_or_default();
    if let Some((_, Json::Object(members))) = user_data.iter().find(|(key, _)| !key.starts_with('#')) {
        values.layers.push(Layer::Borrowed(members));
    }
    values
}
