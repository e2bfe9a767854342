//! Elasticsearch as Beats, Fluent Bit, Vector, Logstash, rsyslog and the language clients know it: enough handshake that they
//! connect, `_bulk` and single documents that are stored. At the root and under `/elastic` (wire formats, section 2).
//!
//! The form of the replies is law, not taste: Fluent Bit looks for the literal `"errors":false,"items":[`, Beats count items.

use super::{Ingest, Refusal, Split};
use crate::{
    intake::{Outcome, Receipt},
    model::{
        event::{Defaults, RawRecord, Reject},
        ids::EventId,
    },
};
use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, Method, Request, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use memchr::memchr;
use serde::{
    Deserialize, Serialize, Serializer,
    ser::{SerializeMap as _, SerializeStruct as _},
};
use serde_json::{Value, json, value::RawValue};
use std::{borrow::Cow, collections::HashMap, iter, sync::Arc, time::Instant};

/// The version we claim unless a Beat needs a newer one. Source: wire formats, section 2.
const VERSION: [u16; 3] = [8, 17, 0];
/// Index of documents that name none.
const INDEX: &str = "events";

/// Answers every path that no other protocol claims.
pub(super) async fn any(State(ingest): State<Arc<Ingest>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let mut reply = answer(&ingest, &head, body).await.unwrap_or_else(refused);
    reply.headers_mut().insert("x-elastic-product", HeaderValue::from_static("Elasticsearch"));
    reply
}

async fn answer(ingest: &Ingest, head: &Parts, body: Body) -> Result<Response, Refusal> {
    let forwarder = ingest.admit(head).await?;
    match Route::of(&head.method, head.uri.path()) {
        Route::Bulk { index } => {
            let started = Instant::now();
            let index = index.map(str::to_owned);
            let split = move |body: Bytes, defaults: &Arc<Defaults>| split(&body, index.as_deref(), defaults);
            let (receipt, actions) = ingest.store(&forwarder, "elastic", head, body, split).await?;
            let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            Ok(json_reply(StatusCode::OK, &bulk_reply(took, &actions, &receipt)))
        }
        Route::Document { index, id } => {
            let id = id.map(str::to_owned);
            let split = move |body: Bytes, defaults: &Arc<Defaults>| {
                if body.trim_ascii().is_empty() {
                    return Err(Refusal::Malformed("request body is required"));
                }
                let record = RawRecord { bytes: body, client_id: id, defaults: Arc::clone(defaults) };
                Ok(Split { notes: record.client_id.clone(), records: vec![record], refused: Vec::new() })
            };
            let (receipt, id) = ingest.store(&forwarder, "elastic", head, body, split).await?;
            let (outcome, event) = receipt.outcomes.first().zip(receipt.ids.first()).ok_or(Refusal::Busy)?;
            let id = id.map(Cow::Owned).or_else(|| event.map(printed));
            Ok(match outcome {
                Outcome::Accepted => {
                    json_reply(StatusCode::CREATED, &Document { index, id, result: "created", version: 1 })
                }
                Outcome::Duplicate => json_reply(StatusCode::OK, &Document { index, id, result: "noop", version: 1 }),
                Outcome::Quarantined(reject) => error_reply(StatusCode::BAD_REQUEST, MAPPER, &reject.to_string()),
            })
        }
        Route::Handshake(reply) => Ok(json_reply(StatusCode::OK, &reply.body(head))),
        Route::Unknown => Ok(error_reply(StatusCode::NOT_FOUND, "resource_not_found_exception", "not supported")),
    }
}

const MAPPER: &str = "mapper_parsing_exception";

fn refused(refusal: Refusal) -> Response {
    let kind = match refusal {
        Refusal::Busy => return refusal.plain(),
        // The bulk call of the JavaScript client gives up on a 429 for the whole request (wire formats, section 1.2).
        Refusal::Quota => return Refusal::Busy.plain(),
        Refusal::NoCredentials
        | Refusal::BadCredentials
        | Refusal::TwoCredentials
        | Refusal::TokenInUrl
        | Refusal::UnknownToken
        | Refusal::WrongScope => "security_exception",
        Refusal::Malformed(_) => "parse_exception",
        Refusal::TooLarge(_) => "content_too_long_exception",
        Refusal::UnsupportedEncoding | Refusal::UnsupportedType => "media_type_header_exception",
        Refusal::Slow => "timeout_exception",
    };
    error_reply(refusal.status(), kind, &refusal.to_string())
}

fn json_reply(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => {
            tracing::error!(%error, "a reply could not be written");
            Refusal::Busy.plain()
        }
    }
}

fn error_reply(status: StatusCode, kind: &str, reason: &str) -> Response {
    let body = json!({"error": {"root_cause": [], "type": kind, "reason": reason}, "status": status.as_u16()});
    json_reply(status, &body)
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    Bulk { index: Option<&'a str> },
    Document { index: &'a str, id: Option<&'a str> },
    Handshake(Handshake),
    Unknown,
}

/// Questions that clients ask before they send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handshake {
    Root,
    License,
    Xpack,
    Health,
    CatHealth,
    Nodes,
    /// It exists, whatever it is.
    There,
    /// Done, whatever it was.
    Acknowledged,
}

impl<'a> Route<'a> {
    fn of(method: &Method, path: &'a str) -> Self {
        use Handshake as H;
        let all: smallvec::SmallVec<[&str; 6]> = path.split('/').filter(|s| !s.is_empty()).take(6).collect();
        let path = all.strip_prefix(&["elastic"]).unwrap_or(&all);
        let (reads, puts, posts) =
            (matches!(*method, Method::GET | Method::HEAD), *method == Method::PUT, *method == Method::POST);
        let writes = puts || posts;
        let handshake = |then| if reads { Self::Handshake(then) } else { Self::Unknown };
        match path {
            [] => handshake(H::Root),
            ["_bulk"] if writes => Self::Bulk { index: None },
            // The middle word is the document type of old clients.
            [index, "_bulk"] | [index, _, "_bulk"] if writes && !index.starts_with('_') => {
                Self::Bulk { index: Some(index) }
            }
            [index, "_doc"] if writes => Self::Document { index, id: None },
            [index, "_doc" | "_create", id] if writes => Self::Document { index, id: Some(id) },
            ["_license"] => handshake(H::License),
            ["_xpack"] => handshake(H::Xpack),
            ["_cluster", "health", ..] => handshake(H::Health),
            ["_cat", "health"] => handshake(H::CatHealth),
            ["_nodes", ..] => handshake(H::Nodes),
            ["_index_template" | "_component_template" | "_template" | "_data_stream" | "_alias", ..]
            | ["_ilm", "policy", ..]
            | ["_ingest", "pipeline", ..] => match (reads, writes) {
                (true, _) => Self::Handshake(H::There),
                (_, true) => Self::Handshake(H::Acknowledged),
                _ => Self::Unknown,
            },
            [first, ..] if first.starts_with("_logstash") || *first == "logstash" => Self::Handshake(H::There),
            // POST of something to a name that is no route would lose it: only PUT makes an index.
            [name] if !name.starts_with('_') && puts => Self::Handshake(H::Acknowledged),
            [name] if !name.starts_with('_') => handshake(H::There),
            _ => Self::Unknown,
        }
    }
}

impl Handshake {
    fn body(self, head: &Parts) -> Value {
        match self {
            Self::Root => {
                let agent = head.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
                let [major, minor, patch] = version(agent);
                json!({
                    "name": "coalface", "cluster_name": "coalface", "cluster_uuid": "coalface",
                    "version": {
                        "number": format!("{major}.{minor}.{patch}"), "build_flavor": "default", "build_type": "tar",
                        "build_snapshot": false, "lucene_version": "9.12.0"
                    },
                    "tagline": "You Know, for Search"
                })
            }
            Self::License => {
                json!({"license": {"uid": "coalface", "type": "basic", "status": "active", "expiry_date_in_millis": 4_000_000_000_000_u64}})
            }
            Self::Xpack => json!({"build": {}, "features": {}, "license": {"type": "basic", "status": "active"}}),
            Self::Health => {
                json!({"cluster_name": "coalface", "status": "green", "timed_out": false, "number_of_nodes": 1})
            }
            Self::CatHealth => json!([{"cluster": "coalface", "status": "green"}]),
            Self::Nodes => json!({"nodes": {}}),
            Self::There => json!({}),
            Self::Acknowledged => json!({"acknowledged": true}),
        }
    }
}

/// The version to claim to a client: Beats from 8 on refuse a server older than themselves.
fn version(user_agent: &str) -> [u16; 3] {
    let stated = user_agent.strip_prefix("Elastic-").and_then(|rest| rest.split_once('/')).and_then(|(_, rest)| {
        let mut numbers = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?.splitn(3, '.').map(str::parse);
        Some([numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?])
    });
    stated.map_or(VERSION, |stated| stated.max(VERSION))
}

/// What an action asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Create,
    Index,
    Update,
    Delete,
}

impl Verb {
    const ALL: [(&'static str, Self); 4] =
        [("create", Self::Create), ("index", Self::Index), ("update", Self::Update), ("delete", Self::Delete)];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, verb)| *verb == self).map_or("index", |(name, _)| name)
    }
}

/// One action of a bulk request; there is one record for each.
#[derive(Debug, PartialEq, Eq)]
struct Action {
    verb: Verb,
    index: Option<String>,
    id: Option<String>,
}

impl Action {
    /// Reads an action line. `None` when it is something else.
    fn parse(line: &[u8]) -> Option<Self> {
        #[derive(Default, Deserialize)]
        struct Meta<'a> {
            #[serde(borrow, default, rename = "_index")]
            index: Option<Cow<'a, str>>,
            #[serde(default, rename = "_id")]
            id: Option<Value>,
        }
        // Foreign keys may stand beside the action.
        let keys: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(line).ok()?;
        let (verb, meta) = Verb::ALL.into_iter().find_map(|(name, verb)| Some((verb, *keys.get(name)?)))?;
        let Meta { index, id } = serde_json::from_str::<Option<Meta<'_>>>(meta.get()).ok()?.unwrap_or_default();
        let id = match id {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(other) => Some(other.to_string()),
        };
        Some(Self { verb, index: index.map(Cow::into_owned), id: id.filter(|id| !id.is_empty()) })
    }
}

/// Actions and their sources. A line that is no action where one is due stands as a document of its own: nothing is lost and
/// later lines stay aligned.
fn split(body: &Bytes, index: Option<&str>, defaults: &Arc<Defaults>) -> Result<Split<Vec<Action>>, Refusal> {
    let mut lines = lines(body);
    let mut split = Split { records: Vec::new(), refused: Vec::new(), notes: Vec::new() };
    while let Some(line) = lines.next() {
        let action = Action::parse(&line);
        let is_bare = action.is_none();
        let mut action = action.unwrap_or(Action { verb: Verb::Index, index: None, id: None });
        let source = match action.verb {
            _ if is_bare => line,
            Verb::Delete => line,
            // A source that never came is an empty record, which decoding refuses.
            Verb::Create | Verb::Index | Verb::Update => lines.next().unwrap_or_default(),
        };
        if matches!(action.verb, Verb::Update | Verb::Delete) {
            split.refused.push((split.records.len(), Reject::UnsupportedAction(action.verb.name().to_owned())));
        }
        if action.index.is_none() {
            action.index = index.map(str::to_owned);
        }
        split.records.push(RawRecord { bytes: source, client_id: action.id.clone(), defaults: Arc::clone(defaults) });
        split.notes.push(action);
        if split.records.len() > super::MOST_RECORDS {
            break;
        }
    }
    if split.records.is_empty() {
        return Err(Refusal::Malformed("request body is required"));
    }
    Ok(split)
}

/// The lines that are not blank, without byte order mark and surrounding blanks.
fn lines(body: &Bytes) -> impl Iterator<Item = Bytes> {
    let mut rest = if body.starts_with(b"\xEF\xBB\xBF") { body.slice(3..) } else { body.clone() };
    iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let line = rest.split_to(memchr(b'\n', &rest).map_or(rest.len(), |at| at + 1));
            let text = line.trim_ascii();
            if !text.is_empty() {
                return Some(line.slice_ref(text));
            }
        }
    })
}

#[derive(Serialize)]
struct BulkReply<'a> {
    took: u64,
    errors: bool,
    items: Vec<Item<'a>>,
}

fn bulk_reply<'a>(took: u64, actions: &'a [Action], receipt: &'a Receipt) -> BulkReply<'a> {
    let errors = receipt.outcomes.iter().any(|o| matches!(o, Outcome::Quarantined(_)));
    let results = receipt.outcomes.iter().zip(&receipt.ids);
    BulkReply {
        took,
        errors,
        items: actions
            .iter()
            .zip(results)
            .map(|(action, (outcome, event))| Item { action, outcome, event: *event })
            .collect(),
    }
}

struct Item<'a> {
    action: &'a Action,
    outcome: &'a Outcome,
    event: Option<EventId>,
}

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(1))?;
        map.serialize_entry(self.action.verb.name(), &ItemBody(self))?;
        map.end()
    }
}

struct ItemBody<'a>(&'a Item<'a>);

impl Serialize for ItemBody<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let Item { action, outcome, event } = self.0;
        let mut body = s.serialize_struct("item", 4)?;
        body.serialize_field("_index", action.index.as_deref().unwrap_or(INDEX))?;
        body.serialize_field("_id", &action.id.as_deref().map(Cow::Borrowed).or_else(|| event.map(printed)))?;
        match outcome {
            Outcome::Accepted => body.serialize_field("status", &201)?,
            Outcome::Duplicate => body.serialize_field("status", &200)?,
            Outcome::Quarantined(reject) => {
                body.serialize_field("status", &400)?;
                body.serialize_field("error", &ItemError { kind: MAPPER, reason: reject.to_string() })?;
            }
        }
        body.end()
    }
}

#[derive(Serialize)]
struct ItemError {
    #[serde(rename = "type")]
    kind: &'static str,
    reason: String,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "_index")]
    index: &'a str,
    #[serde(rename = "_id")]
    id: Option<Cow<'static, str>>,
    result: &'static str,
    #[serde(rename = "_version")]
    version: u8,
}

/// An event id as clients see it.
fn printed(id: EventId) -> Cow<'static, str> {
    Cow::Owned(id.0.simple().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn actions(body: &str) -> Vec<(&'static str, Option<String>, String)> {
        let split = split(&Bytes::from(body.to_owned()), Some("path"), &Arc::default()).unwrap();
        assert_eq!(split.records.len(), split.notes.len());
        let records = split.records.iter().map(|r| String::from_utf8_lossy(&r.bytes).into_owned());
        split.notes.iter().zip(records).map(|(action, bytes)| (action.verb.name(), action.id.clone(), bytes)).collect()
    }

    #[test]
    fn actions_and_sources_are_paired_in_every_shape_clients_send() {
        type Expected<'a> = &'a [(&'a str, Option<&'a str>, &'a str)];
        let cases: &[(&str, Expected<'_>)] = &[
            ("{\"create\":{\"_index\":\"x\",\"_id\":\"a1\"}}\n{\"n\":1}\n", &[("create", Some("a1"), "{\"n\":1}")]),
            ("{\"index\" : {\"_index\":\"x\"} }\r\n{\"n\":1}\r\n\r\n", &[("index", None, "{\"n\":1}")]),
            // winston
            (
                "{\"index\":{\"_index\":\"w\",\"pipeline\":null},\"attempts\":0}\n{\"n\":1}",
                &[("index", None, "{\"n\":1}")],
            ),
            // rsyslog
            ("{\"index\": {\"_index\": \"s\",\"_type\": \"t\"}}\n{\"n\":1}\n", &[("index", None, "{\"n\":1}")]),
            (
                "{\"index\":{}}\n{\"n\":1}\n{\"index\":null}\n{\"n\":2}\n",
                &[("index", None, "{\"n\":1}"), ("index", None, "{\"n\":2}")],
            ),
            ("{\"create\":{\"_id\":7}}\n{\"n\":1}\n", &[("create", Some("7"), "{\"n\":1}")]),
            // a delete has no source; an update has one; what follows stays aligned
            (
                "{\"delete\":{\"_id\":\"d\"}}\n{\"update\":{\"_id\":\"u\"}}\n{\"doc\":{}}\n{\"create\":{\"_id\":\"c\"}}\n{\"n\":1}\n",
                &[
                    ("delete", Some("d"), "{\"delete\":{\"_id\":\"d\"}}"),
                    ("update", Some("u"), "{\"doc\":{}}"),
                    ("create", Some("c"), "{\"n\":1}"),
                ],
            ),
            // cut off before the source, and documents without actions
            (
                "{\"create\":{}}\n{\"n\":1}\n{\"create\":{\"_id\":\"z\"}}",
                &[("create", None, "{\"n\":1}"), ("create", Some("z"), "")],
            ),
            ("{\"n\":1}\n{broken\n", &[("index", None, "{\"n\":1}"), ("index", None, "{broken")]),
        ];
        for (body, expected) in cases {
            let expected: Vec<_> =
                expected.iter().map(|(verb, id, bytes)| (*verb, id.map(str::to_owned), (*bytes).to_owned())).collect();
            assert_eq!(actions(body), expected, "{body}");
        }
        assert_eq!(
            split(&Bytes::from_static(b" \n\n"), None, &Arc::default()).unwrap_err(),
            Refusal::Malformed("request body is required")
        );
    }

    #[test]
    fn the_reply_is_compact_in_the_order_clients_look_for() {
        let action = |verb, id: Option<&str>| Action { verb, index: Some("x".to_owned()), id: id.map(str::to_owned) };
        let actions = [action(Verb::Create, Some("a1")), action(Verb::Create, Some("a2")), action(Verb::Index, None)];
        let mut receipt = Receipt {
            outcomes: vec![Outcome::Accepted, Outcome::Duplicate, Outcome::Accepted],
            ids: vec![None, None, Some(EventId(Uuid::from_u128(10)))],
        };
        assert_eq!(
            serde_json::to_string(&bulk_reply(3, &actions, &receipt)).unwrap(),
            r#"{"took":3,"errors":false,"items":[{"create":{"_index":"x","_id":"a1","status":201}},{"create":{"_index":"x","_id":"a2","status":200}},{"index":{"_index":"x","_id":"0000000000000000000000000000000a","status":201}}]}"#
        );
        receipt.outcomes[1] = Outcome::Quarantined(Reject::NoTime);
        let text = serde_json::to_string(&bulk_reply(3, &actions, &receipt)).unwrap();
        assert!(text.starts_with(r#"{"took":3,"errors":true,"items":["#), "{text}");
        assert!(text.contains(r#"{"create":{"_index":"x","_id":"a2","status":400,"error":{"type":"mapper_parsing_exception","reason":"no usable time"}}}"#), "{text}");
    }

    #[test]
    fn every_path_clients_ask_for_is_known_with_and_without_prefix_and_slash() {
        use Handshake as H;
        let cases: &[(&str, &str, Route<'_>)] = &[
            ("GET", "/", Route::Handshake(H::Root)),
            ("HEAD", "/", Route::Handshake(H::Root)),
            ("POST", "/", Route::Unknown),
            ("GET", "/_license", Route::Handshake(H::License)),
            ("GET", "/_xpack", Route::Handshake(H::Xpack)),
            ("PUT", "/_bulk", Route::Bulk { index: None }),
            ("POST", "/win/_bulk", Route::Bulk { index: Some("win") }),
            ("POST", "/win/doc/_bulk", Route::Bulk { index: Some("win") }),
            ("GET", "/_bulk", Route::Unknown),
            ("POST", "/win/_doc", Route::Document { index: "win", id: None }),
            ("PUT", "/win/_doc/7", Route::Document { index: "win", id: Some("7") }),
            ("PUT", "/win/_create/7", Route::Document { index: "win", id: Some("7") }),
            ("GET", "/_cluster/health", Route::Handshake(H::Health)),
            ("GET", "/_cat/health", Route::Handshake(H::CatHealth)),
            ("GET", "/_nodes/http", Route::Handshake(H::Nodes)),
            ("HEAD", "/_index_template/winlogbeat-9", Route::Handshake(H::There)),
            ("PUT", "/_template/x", Route::Handshake(H::Acknowledged)),
            ("GET", "/_ilm/policy/x", Route::Handshake(H::There)),
            ("GET", "/_ingest/pipeline/x", Route::Handshake(H::There)),
            ("PUT", "/_ingest/pipeline/x", Route::Handshake(H::Acknowledged)),
            ("GET", "/_logstash/pipeline", Route::Handshake(H::There)),
            ("HEAD", "/winlogbeat-9", Route::Handshake(H::There)),
            ("PUT", "/winlogbeat-9", Route::Handshake(H::Acknowledged)),
            ("POST", "/winlogbeat-9", Route::Unknown),
            ("POST", "/win/_search", Route::Unknown),
            ("POST", "/win/_update/7", Route::Unknown),
            ("DELETE", "/_template/x", Route::Unknown),
        ];
        for (method, path, expected) in cases {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            for variant in
                [(*path).to_owned(), format!("{path}/"), format!("/elastic{path}"), format!("/elastic{path}/")]
            {
                assert_eq!(Route::of(&method, &variant), *expected, "{method} {variant}");
            }
        }
        assert_eq!(Route::of(&Method::GET, "/elastic"), Route::Handshake(H::Root));
    }

    #[test]
    fn a_newer_beat_meets_a_server_of_its_own_age() {
        for (agent, expected) in [
            ("Elastic-Winlogbeat/9.1.0 (windows; amd64; 0; 2026)", [9, 1, 0]),
            ("Elastic-Metricbeat/8.11.3", VERSION),
            ("Elastic-Winlogbeat/9.10.2-SNAPSHOT", [9, 10, 2]),
            ("Elastic-X/99999999.1.1", VERSION),
            ("Elastic-X/9", VERSION),
            ("elasticsearch-py/9.5", VERSION),
            ("", VERSION),
        ] {
            assert_eq!(version(agent), expected, "{agent}");
        }
    }
}
