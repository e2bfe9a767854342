//! What a sensor saw after Elastic's ingest pipelines: ECS without a process (Filebeat's Zeek, Suricata, firewall modules).

use super::flow::{self, Flow};
use crate::model::{event::Reject, fact::DnsQuery};
use crate::sources::{
    Events,
    draft::{self, Decoder, Draft},
    json::Json,
    scalar::{self, Stamp},
    shape::Context,
    windows,
};
use smallvec::smallvec;

pub(in crate::sources) fn decode(
    decoder: &Decoder<'_>,
    doc: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let text = |path: &str| doc.at(path).and_then(scalar::text).map(std::borrow::Cow::into_owned);
    let time = |path: &str| doc.at(path).and_then(scalar::time).and_then(Stamp::utc);
    let number = |path: &str| doc.at(path).and_then(|v| scalar::number(v).ok().flatten());
    let address = |path: &str| doc.at(path).and_then(|v| scalar::ip(v).ok().flatten());
    let (started_at, ended_at) = (time("event.start"), time("event.end"));
    let (origin_bytes, responder_bytes) = (number("source.bytes"), number("destination.bytes"));
    let protocol = text("network.transport");
    let denied =
        doc.at("event.type").map(Json::elements).unwrap_or_default().iter().any(|t| t.as_str() == Some("denied"));
    let record_time = doc.at("@timestamp").and_then(scalar::time).or(context.time);
    let seen = Flow {
        // Without an end there is a name at most.
        kind: if ended_at.is_some() { "flow" } else { "name" },
        origin: address("source.ip"),
        origin_port: number("source.port"),
        responder: address("destination.ip"),
        responder_port: number("destination.port"),
        protocol: protocol.as_deref(),
        origin_bytes,
        responder_bytes,
        started_at: started_at.or_else(|| record_time.and_then(Stamp::utc)),
        ended_at,
        application: text("network.application")
            .or_else(|| text("network.protocol"))
            .and_then(|name| flow::application(&name)),
        server_name: ["tls.client.server_name", "url.domain", "destination.domain"].iter().find_map(|path| text(path)),
        allowed: Some(!denied),
    };
    let internal = seen.internal();
    let fact = match doc.at("dns.question.name").and_then(scalar::text) {
        Some(query) => {
            let (addresses, aliases) = windows::ecs_answers(doc);
            let query = Some(scalar::dns_name(&query));
            DnsQuery { query, addresses: Some(addresses), aliases: Some(aliases), ..DnsQuery::default() }.into()
        }
        None => seen.connection().into(),
    };
    let time =
        draft::record_time([doc.at("event.start").and_then(scalar::time).filter(|_| ended_at.is_some()), record_time]);
    decoder.finish(Draft { time, internal, facts: smallvec![fact], ..Draft::default() })
}
