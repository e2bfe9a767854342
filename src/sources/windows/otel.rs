//! OpenTelemetry `windowseventlog` receiver: the log body as plain JSON, in HEC or as the OTLP part hands it on.
//!
//! `event_data` is a flat map, or (October 2023 to early 2026) `{"data": [{"Name": "value"}, ..]}`.

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
use std::borrow::Cow;

pub(in crate::sources) fn decode(
    decoder: &Decoder<'_>,
    doc: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let mut values = Values::default();
    match doc.get("event_data") {
        Some(data) if matches!(data.get("data"), Some(Json::Array(_))) => {
            let elements = data.get("data").map(Json::elements).unwrap_or_default();
            let pairs: Vec<(Cow<'_, str>, Json<'_>)> = elements
                .iter()
                .flat_map(|pair| pair.members().iter().cloned())
                .filter(|(name, _)| !name.is_empty())
                .collect();
            let nameless = elements.iter().flat_map(Json::members).filter(|(name, _)| name.is_empty());
            values.texts.extend(nameless.filter_map(|(_, value)| scalar::text(value)));
            values.layers.push(Layer::Owned(pairs));
        }
        Some(Json::Object(members)) => {
            values.layers.push(Layer::Borrowed(members));
            let nameless = members
                .iter()
                .filter(|(name, _)| name.starts_with("Data") && name.bytes().skip(4).all(|b| b.is_ascii_digit()));
            values.texts.extend(nameless.filter_map(|(_, value)| scalar::text(value)));
        }
        _ => {}
    }
    let record = Record {
        created: scalar::time(doc.get("system_time").unwrap_or(&Json::Null)),
        computer: text_of(doc.get("computer")),
        provider: text_of(doc.at("provider.name")).unwrap_or_default(),
        channel: text_of(doc.get("channel")).unwrap_or_default(),
        event_id: event_id(doc.at("event_id.id")),
        number: record_id(doc.get("record_id")),
        logging_pid: logging_pid(doc.at("execution.process_id")),
        logging_user: doc.str_at("security.user_id").and_then(scalar::account),
        values,
        ..Record::default()
    };
    record.decode(decoder, context)
}
