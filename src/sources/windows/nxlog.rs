//! NXLog `im_msvistalog`: flat, texts XML-escaped once, times without a zone, some values only in `Message`.

use super::{Record, Zone, event_id, logging_pid, record_id, text_of};
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
    let stamp = |name: &str| scalar::time(doc.get(name)?);
    let provider = text_of(doc.get("SourceName")).unwrap_or_default();
    let event_id = event_id(doc.get("EventID"));
    // Only these texts are in English on every machine.
    let readable =
        matches!(provider.as_ref(), "Microsoft-Windows-Sysmon" | "Microsoft-Windows-WMI-Activity") || event_id == 129;
    let name = text_of(doc.get("AccountName"));
    let record = Record {
        created: stamp("EventTime").or_else(|| stamp("@timestamp")),
        zone: Some(Zone { received: stamp("EventReceivedTime"), relayed: stamp("@timestamp") }),
        // `host` is the relay.
        computer: text_of(doc.get("Hostname")),
        channel: text_of(doc.get("Channel")).unwrap_or_default(),
        event_id,
        number: record_id(doc.get("RecordNumber")),
        logging_pid: logging_pid(doc.get("ExecutionProcessID")),
        logging_user: name
            .and_then(|name| scalar::domain_account(text_of(doc.get("Domain")).as_deref(), &name))
            .or_else(|| scalar::account(doc.str_at("UserID")?)),
        nxlog: true,
        values: Values {
            spelling: Spelling::Escaped,
            message: doc.get("Message").and_then(Json::as_str).filter(|_| readable),
            ..Values::of(doc.members())
        },
        provider,
        ..Record::default()
    };
    record.decode(decoder, context)
}
