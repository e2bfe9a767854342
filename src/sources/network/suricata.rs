//! Suricata EVE: flow, tls, dns (three generations), alert.

use super::flow::{self, Flow};
use crate::model::{
    event::Reject,
    fact::{DnsQuery, SecurityAlert},
};
use crate::sources::{Events, draft::Decoder, json::Json, scalar, shape::Context};
use chrono::{DateTime, Utc};
use smallvec::{SmallVec, smallvec};
use std::net::IpAddr;

pub(in crate::sources) fn decode(
    decoder: &Decoder<'_>,
    doc: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let time = |path: &str| doc.at(path).and_then(scalar::time).and_then(scalar::Stamp::utc);
    let number = |path: &str| doc.at(path).and_then(|v| scalar::number(v).ok().flatten());
    let address = |path: &str| doc.at(path).and_then(|v| scalar::ip(v).ok().flatten());
    let at = time("timestamp");
    let application = doc.str_at("app_proto").and_then(flow::application);
    let base = Flow {
        kind: "flow",
        origin: address("src_ip"),
        origin_port: number("src_port"),
        responder: address("dest_ip"),
        responder_port: number("dest_port"),
        protocol: doc.str_at("proto"),
        origin_bytes: number("flow.bytes_toserver"),
        responder_bytes: number("flow.bytes_toclient"),
        started_at: time("flow.start").or(at),
        ended_at: time("flow.end"),
        application,
        ..Flow::default()
    };
    match doc.str_at("event_type").unwrap_or_default() {
        "flow" => {
            let (start, internal) = (base.started_at.or(at), base.internal());
            flow::finish(decoder, start, internal, smallvec![base.connection().into()], None)
        }
        "tls" => {
            let flow = Flow {
                kind: "name",
                started_at: at,
                application: Some("ssl".to_owned()),
                server_name: doc.str_at("tls.sni").map(str::to_owned),
                ..base
            };
            let internal = flow.internal();
            flow::finish(decoder, at, internal, smallvec![flow.connection().into()], None)
        }
        "dns" => dns(decoder, doc, &base, at).unwrap_or_else(|| decoder.other(doc, context)),
        "alert" => alert(decoder, doc, base, at),
        _ => decoder.other(doc, context),
    }
}

/// The asking end: the one that does not sit on port 53, whichever way the packet went.
fn client(flow: &Flow<'_>) -> Option<IpAddr> {
    if flow.origin_port == Some(53) { flow.responder } else { flow.origin }
}

/// Version 1: `rrname`, `rdata`; 2: `answers[]`; 3: `queries[]`, `answers[]`.
fn dns(
    decoder: &Decoder<'_>,
    doc: &Json<'_>,
    flow: &Flow<'_>,
    at: Option<DateTime<Utc>>,
) -> Option<Result<Events, Reject>> {
    let dns = doc.at("dns")?;
    let listed = ["queries", "query"].iter().find_map(|key| dns.get(key)?.elements().first()?.str_at("rrname"));
    let query = dns.str_at("rrname").or(listed)?;
    let answers = dns.get("answers").map(Json::elements).unwrap_or_default();
    let data = || answers.iter().filter_map(|answer| answer.str_at("rdata")).chain(dns.str_at("rdata"));
    let fact = DnsQuery {
        query: Some(scalar::dns_name(query)),
        status: dns.str_at("rcode").map(|code| if code == "NOERROR" { "0" } else { code }.to_owned()),
        addresses: Some(data().filter_map(scalar::ip_text).collect()),
        aliases: Some(data().filter(|d| !d.is_empty() && scalar::ip_text(d).is_none()).map(scalar::dns_name).collect()),
        ..DnsQuery::default()
    };
    Some(flow::finish(decoder, at, client(flow), smallvec![fact.into()], None))
}

/// The connection the alert is about, and the alert. The sensor gives the packet's direction: the lower port answered.
fn alert(decoder: &Decoder<'_>, doc: &Json<'_>, flow: Flow<'_>, at: Option<DateTime<Utc>>) -> Result<Events, Reject> {
    let signature = doc.str_at("alert.signature").unwrap_or_default();
    let turned = matches!((flow.origin_port, flow.responder_port), (Some(a), Some(b)) if a < b);
    let mut flow = if turned {
        Flow {
            origin: flow.responder,
            origin_port: flow.responder_port,
            responder: flow.origin,
            responder_port: flow.origin_port,
            ..flow
        }
    } else {
        flow
    };
    // DNS alerts name a pool, they show no conversation with it.
    if flow.application.as_deref() != Some("dns") && flow::means_mining(signature) {
        flow.application = Some("stratum".to_owned());
    }
    let action = doc.str_at("alert.action").map(str::to_owned);
    flow.allowed = action.as_deref().map(|action| action != "blocked");
    flow.server_name = ["tls.sni", "http.hostname"].iter().find_map(|path| doc.str_at(path)).map(str::to_owned);
    let internal = flow.internal();
    let fact = SecurityAlert {
        detection_id: doc.at("flow_id").and_then(scalar::text).map(std::borrow::Cow::into_owned),
        threat: Some(signature.to_owned()),
        severity: doc.at("alert.severity").and_then(scalar::text).map(std::borrow::Cow::into_owned),
        category: doc.str_at("alert.category").map(str::to_owned),
        action,
        ..SecurityAlert::default()
    };
    let facts: SmallVec<_> = smallvec![flow.connection().into(), fact.into()];
    flow::finish(decoder, at, internal, facts, None)
}
