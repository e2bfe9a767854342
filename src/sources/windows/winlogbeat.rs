//! Winlogbeat: `winlog.event_data`, `winlog.user_data`; values that an ingest pipeline moved to ECS fields are read there.

use super::{Record, event_id, logging_pid, record_id, text_of};
use crate::model::event::Reject;
use crate::sources::{
    Events,
    draft::{Decoder, first_label},
    json::Json,
    scalar,
    shape::Context,
    values::{Layer, Values},
};
use smallvec::SmallVec;
use std::{borrow::Cow, net::IpAddr};

pub(in crate::sources) fn decode(
    decoder: &Decoder<'_>,
    doc: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let at = |path: &str| doc.at(path);
    let computer = text_of(at("winlog.computer_name")).or_else(|| text_of(at("host.name")));
    let mut values = Values { ecs: Some(doc), ..Values::default() };
    for path in ["winlog.event_data", "winlog.user_data"] {
        if let Some(Json::Object(members)) = at(path) {
            values.layers.push(Layer::Borrowed(members));
            values
                .texts
                .extend(members.iter().filter(|(key, _)| is_positional(key)).filter_map(|(_, v)| scalar::text(v)));
        }
    }
    let stamp = ["winlog.time_created", "@timestamp"].iter().find_map(|path| scalar::time(at(path)?));
    let user = doc.at("winlog.user");
    let record = Record {
        created: stamp,
        provider: text_of(at("winlog.provider_name").or_else(|| at("event.provider"))).unwrap_or_default(),
        channel: text_of(at("winlog.channel")).unwrap_or_default(),
        event_id: event_id(at("winlog.event_id").or_else(|| at("event.code"))),
        number: record_id(at("winlog.record_id")),
        logging_pid: logging_pid(at("winlog.process.pid")),
        logging_user: user.and_then(|user| {
            let name = user.str_at("name").map(|name| scalar::domain_account(user.str_at("domain"), name));
            name.unwrap_or_else(|| scalar::account(user.str_at("identifier")?))
        }),
        agent: agent_of(doc, computer.as_deref()),
        addresses: own_addresses(doc, computer.as_deref()),
        computer,
        values,
        ..Record::default()
    };
    record.decode(decoder, context)
}

/// `param1`, `Data`, `Binary` ..: values without a name of their own.
fn is_positional(key: &str) -> bool {
    key.strip_prefix("param")
        .or_else(|| key.strip_prefix("Data"))
        .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

/// `host.id`, else `agent.id`, where the agent runs on the host the record is about: a collector must not lend its id.
pub(in crate::sources) fn agent_of<'a>(doc: &'a Json<'_>, computer: Option<&str>) -> Option<&'a str> {
    let computer = first_label(computer?);
    let runs_here = |paths: &[&str]| {
        paths
            .iter()
            .find_map(|path| doc.str_at(path))
            .is_some_and(|name| first_label(name).eq_ignore_ascii_case(computer))
    };
    let given = |path: &str| doc.str_at(path).filter(|id| !scalar::is_null(id));
    given("host.id")
        .filter(|_| runs_here(&["host.name", "host.hostname"]))
        .or_else(|| given("agent.id").filter(|_| runs_here(&["agent.name", "agent.hostname", "host.name"])))
}

/// `host.ip` of the host the record is about.
pub(in crate::sources) fn own_addresses(doc: &Json<'_>, computer: Option<&str>) -> SmallVec<[IpAddr; 1]> {
    let here =
        computer.zip(doc.str_at("host.name")).is_some_and(|(a, b)| first_label(a).eq_ignore_ascii_case(first_label(b)));
    let texts: SmallVec<[Cow<'_, str>; 4]> = match doc.at("host.ip") {
        Some(Json::Array(elements)) if here => elements.iter().filter_map(scalar::text).collect(),
        Some(single) if here => scalar::text(single).into_iter().collect(),
        _ => SmallVec::new(),
    };
    texts
        .iter()
        .filter_map(|text| scalar::ip_text(text))
        .filter(|address| scalar::identifies_a_host(*address))
        .collect()
}
