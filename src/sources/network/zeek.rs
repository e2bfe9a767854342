//! Zeek JSON: conn, `conn_long`, dns, ssl; keys dotted, with `_`, or nested.

use super::flow::{self, Flow};
use crate::model::{event::Reject, fact::DnsQuery};
use crate::sources::{Events, draft::Decoder, json::Json, scalar, shape::Context};
use smallvec::smallvec;

/// A value under `id.orig_h`, `id{orig_h}` or `id_orig_h`.
fn end<'d, 'a>(doc: &'d Json<'a>, name: &str) -> Option<&'d Json<'a>> {
    doc.at(&format!("id.{name}")).or_else(|| doc.at(&format!("id_{name}")))
}

pub(in crate::sources) fn decode(
    decoder: &Decoder<'_>,
    doc: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let log = doc.str_at("_path").or_else(|| doc.str_at("@stream"));
    let has = |key: &str| doc.get(key).is_some();
    // Without a log type the keys tell.
    let log = log.unwrap_or(if has("conn_state") {
        "conn"
    } else if has("query") && has("qtype") {
        "dns"
    } else if has("server_name") || has("cipher") {
        "ssl"
    } else {
        ""
    });
    let started =
        ["ts", "_ts", "@timestamp"].iter().find_map(|key| scalar::time(doc.at(key)?)).and_then(scalar::Stamp::utc);
    let address = |name: &str| end(doc, name).and_then(|v| scalar::ip(v).ok().flatten());
    let port = |name: &str| end(doc, name).and_then(|v| scalar::pid(v).ok().flatten());
    let number = |key: &str| doc.get(key).and_then(|v| scalar::number(v).ok().flatten());
    let text = |key: &str| doc.get(key).and_then(Json::as_str).filter(|text| !scalar::is_null(text));
    let base = Flow {
        origin: address("orig_h"),
        origin_port: port("orig_p"),
        responder: address("resp_h"),
        responder_port: port("resp_p"),
        protocol: text("proto"),
        started_at: started,
        ..Flow::default()
    };
    let internal = base.internal();
    match log {
        "conn" | "conn_long" => {
            let duration = doc.get("duration").and_then(|v| scalar::float(v).ok().flatten());
            let ended_at = started.and_then(|started| flow::after(started, duration?));
            let flow = Flow {
                kind: "flow",
                ended_at,
                origin_bytes: number("orig_bytes"),
                responder_bytes: number("resp_bytes"),
                application: text("service").and_then(flow::application),
                ..base
            };
            flow::finish(decoder, started.or(ended_at), internal, smallvec![flow.connection().into()], None)
        }
        "ssl" => {
            let protocol = base.protocol.or(Some("tcp"));
            let flow = Flow {
                kind: "name",
                protocol,
                server_name: text("server_name").map(str::to_owned),
                application: Some("ssl".to_owned()),
                ..base
            };
            flow::finish(decoder, started, internal, smallvec![flow.connection().into()], None)
        }
        "dns" if text("query").is_some() => {
            let answers = doc.get("answers").map(Json::elements).unwrap_or_default();
            let answers = || answers.iter().filter_map(Json::as_str);
            let fact = DnsQuery {
                query: text("query").map(scalar::dns_name),
                status: text("rcode_name").map(|code| if code == "NOERROR" { "0" } else { code }.to_owned()),
                addresses: Some(answers().filter_map(scalar::ip_text).collect()),
                aliases: Some(answers().filter(|a| scalar::ip_text(a).is_none()).map(scalar::dns_name).collect()),
                ..DnsQuery::default()
            };
            flow::finish(decoder, started, internal, smallvec![fact.into()], None)
        }
        _ => decoder.other(doc, context),
    }
}
