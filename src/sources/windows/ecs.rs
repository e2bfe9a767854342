//! ECS events without a Windows record behind them: kind by `event.category` and `event.type`.

use super::{Facts, one, own_address, sysmon, winlogbeat};
use crate::model::event::Reject;
use crate::sources::{
    Events,
    draft::{self, Decoder, Draft},
    json::Json,
    network, scalar,
    shape::Context,
    values::Values,
};

pub(in crate::sources) fn decode(
    decoder: &Decoder<'_>,
    doc: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let says = |path: &str, word: &str| match doc.at(path) {
        Some(Json::Array(words)) => words.iter().any(|w| w.as_str() == Some(word)),
        Some(Json::Str(text)) => text == word,
        _ => false,
    };
    let has_process =
        ["process.entity_id", "process.pid", "process.executable"].iter().any(|path| doc.at(path).is_some());
    let sensed = doc.at("source.ip").is_some() && doc.at("destination.ip").is_some() && !has_process;
    if sensed && says("event.category", "network") {
        return network::ecs::decode(decoder, doc, context);
    }
    let stamp = doc.at("@timestamp").and_then(scalar::time).or(context.time);
    let when = draft::record_time([stamp]);
    let at = when.as_ref().ok().map(|(at, _)| *at);
    let name = doc.str_at("host.name").or_else(|| doc.str_at("host.hostname"));
    let mut addresses = winlogbeat::own_addresses(doc, name);
    let values = Values::of_ecs(doc);
    let facts: Facts = if says("event.category", "process") && says("event.type", "start") {
        one(sysmon::process_start(&values, at))
    } else if says("event.category", "process") && says("event.type", "end") {
        one(sysmon::process_stop(&values, at))
    } else if doc.at("dns.question.name").is_some() {
        one(sysmon::dns_query(&values))
    } else if says("event.category", "network") && doc.at("destination.ip").is_some() && has_process {
        let connection = sysmon::ecs_connection(&values, at, &addresses);
        addresses.extend(own_address(&connection).filter(|a| !addresses.contains(a)));
        one(connection)
    } else {
        return decoder.other(doc, context);
    };
    decoder.finish(Draft {
        time: when,
        name: name.or(context.host).map(str::to_owned),
        agent: winlogbeat::agent_of(doc, name).map(str::to_owned),
        addresses,
        facts,
        errors: values.take_errors(),
        ..Draft::default()
    })
}
