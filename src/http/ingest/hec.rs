//! Splunk HTTP Event Collector: events with metadata, raw lines, health and acknowledgements (wire formats, section 3).
//!
//! Every event is durable when the reply is sent, so there is no `ackId` and every id that is asked for counts as acknowledged.
//! A channel is taken and means nothing.

use super::{Ingest, Refusal, Split, Tally, demand_text};
use crate::{
    intake::{Outcome, Receipt, split},
    model::event::{Defaults, Reject},
};
use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{Request, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{json, value::RawValue};
use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};
use tokio::time::timeout;

/// What an object may leave to those before it in the request.
const METADATA: [&str; 5] = ["time", "host", "source", "sourcetype", "index"];

/// Most bytes of ids that are asked for at once. Source: trust design, section 9 (JSON bodies).
const MOST_ASKED: usize = 1 << 20;

/// A reply in Splunk's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Code(u16, &'static str, StatusCode);

const SUCCESS: Code = Code(0, "Success", StatusCode::OK);
const TOKEN_REQUIRED: Code = Code(2, "Token is required", StatusCode::UNAUTHORIZED);
const INVALID_AUTHORIZATION: Code = Code(3, "Invalid authorization", StatusCode::UNAUTHORIZED);
const INVALID_TOKEN: Code = Code(4, "Invalid token", StatusCode::FORBIDDEN);
const NO_DATA: Code = Code(5, "No data", StatusCode::BAD_REQUEST);
const INVALID_FORMAT: Code = Code(6, "Invalid data format", StatusCode::BAD_REQUEST);
const EVENT_REQUIRED: Code = Code(12, "Event field is required", StatusCode::BAD_REQUEST);
const EVENT_BLANK: Code = Code(13, "Event field cannot be blank", StatusCode::BAD_REQUEST);
const BAD_FIELDS: Code = Code(15, "Error in handling indexed fields", StatusCode::BAD_REQUEST);
const TOKEN_IN_URL: Code = Code(16, "Query string authorization is not enabled", StatusCode::BAD_REQUEST);
const HEALTHY: Code = Code(17, "HEC is healthy", StatusCode::OK);
const UNHEALTHY: Code = Code(18, "HEC is unhealthy", StatusCode::SERVICE_UNAVAILABLE);

/// In the order of keys that Splunk has.
#[derive(Serialize)]
struct Reply {
    text: &'static str,
    code: u16,
    #[serde(rename = "invalid-event-number", skip_serializing_if = "Option::is_none")]
    number: Option<usize>,
}

impl Code {
    fn with(self, number: Option<usize>) -> Response {
        let Self(code, text, status) = self;
        (status, Json(Reply { text, code, number })).into_response()
    }
}

impl IntoResponse for Code {
    fn into_response(self) -> Response {
        self.with(None)
    }
}

impl From<Refusal> for Code {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoCredentials => TOKEN_REQUIRED,
            Refusal::BadCredentials => INVALID_AUTHORIZATION,
            Refusal::UnknownToken | Refusal::WrongScope => INVALID_TOKEN,
            Refusal::TokenInUrl => TOKEN_IN_URL,
            Refusal::TwoCredentials => Self(INVALID_AUTHORIZATION.0, INVALID_AUTHORIZATION.1, refusal.status()),
            _ => Self(INVALID_FORMAT.0, INVALID_FORMAT.1, refusal.status()),
        }
    }
}

/// A reply, or a refusal: text when it may succeed later.
fn reply(answer: Result<Response, Refusal>) -> Response {
    match answer {
        Ok(reply) => reply,
        Err(refusal) if refusal.is_temporary() => refusal.plain(),
        Err(refusal) => Code::from(refusal).into_response(),
    }
}

/// Stores objects that stand one after another or in an array.
pub(super) async fn event(State(ingest): State<Arc<Ingest>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    reply(store(&ingest, &head, body, |body, defaults| Ok(objects(&body, defaults))).await)
}

/// Stores lines and `<Event>` elements; what the query says of them is their metadata.
pub(super) async fn raw(State(ingest): State<Arc<Ingest>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let envelope = envelope(head.uri.query().unwrap_or_default());
    let split = move |body: Bytes, defaults: &Arc<Defaults>| {
        let records = super::collect(raw_events(&body).map(|text| enclosed(&envelope, &text)), defaults);
        Ok(Split { records, refused: Vec::new(), notes: None })
    };
    reply(store(&ingest, &head, body, split).await)
}

async fn store(
    ingest: &Ingest,
    head: &Parts,
    body: Body,
    split: impl FnOnce(Bytes, &Arc<Defaults>) -> Result<Split<Option<Code>>, Refusal> + Send + 'static,
) -> Result<Response, Refusal> {
    let forwarder = ingest.admit(head).await?;
    let (receipt, fault) = ingest.store(&forwarder, "hec", head, body, split).await?;
    Ok(answer(&receipt, fault))
}

fn answer(receipt: &Receipt, fault: Option<Code>) -> Response {
    if receipt.outcomes.is_empty() {
        return NO_DATA.into_response();
    }
    if Tally::of(&receipt.outcomes).quarantined < receipt.outcomes.len() {
        return SUCCESS.into_response();
    }
    let first = receipt.outcomes.iter().position(|outcome| matches!(outcome, Outcome::Quarantined(_)));
    fault.unwrap_or(INVALID_FORMAT).with(first)
}

/// Says of every id that it is stored: it was, before its request was answered.
pub(super) async fn ack(State(ingest): State<Arc<Ingest>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    reply(acknowledged(&ingest, &head, body).await)
}

async fn acknowledged(ingest: &Ingest, head: &Parts, body: Body) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    struct Asked {
        acks: Vec<u64>,
    }
    let forwarder = ingest.admit(head).await?;
    demand_text(&head.headers)?;
    let (bytes, _held) = super::body::read(&head.headers, body, ingest.budget.share(forwarder.token_id)).await?;
    if bytes.len() > MOST_ASKED {
        return Err(Refusal::TooLarge("more than 1 MiB of ids"));
    }
    let Asked { acks } = serde_json::from_slice(&bytes).map_err(|_| Refusal::Malformed("expected {\"acks\":[..]}"))?;
    let acks: BTreeMap<String, bool> = acks.into_iter().map(|id| (id.to_string(), true)).collect();
    Ok(Json(json!({ "acks": acks })).into_response())
}

/// Whether events would be taken now. The one 503 that is JSON: load balancers read it.
pub(super) async fn health(State(ingest): State<Arc<Ingest>>) -> Response {
    match timeout(super::ASKING, ingest.app.db.ingest.acquire()).await {
        Ok(Ok(_)) => HEALTHY.into_response(),
        _ => UNHEALTHY.into_response(),
    }
}

/// One object of a request, as far as the envelope goes.
struct Envelope<'a> {
    metadata: [Option<&'a RawValue>; METADATA.len()],
    event: Option<&'a RawValue>,
    fields: Option<&'a RawValue>,
}

/// Of a key that is given twice the first counts.
impl<'de: 'a, 'a> Deserialize<'de> for Envelope<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = Envelope { metadata: [None; METADATA.len()], event: None, fields: None };
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let place = match key.as_ref() {
                        "event" => &mut found.event,
                        "fields" => &mut found.fields,
                        key => {
                            let mut places = METADATA.iter().zip(&mut found.metadata);
                            let Some((_, place)) = places.find(|(name, _)| **name == key) else {
                                map.next_value::<IgnoredAny>()?;
                                continue;
                            };
                            place
                        }
                    };
                    let value = map.next_value::<&'de RawValue>()?;
                    place.get_or_insert(value);
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl Envelope<'_> {
    /// What is wrong with it, in Splunk's words.
    fn fault(&self) -> Option<Code> {
        let is = |value: &RawValue, text: &str| value.get() == text;
        match self.event {
            None => return Some(EVENT_REQUIRED),
            Some(event) if is(event, "null") => return Some(EVENT_REQUIRED),
            Some(event) if is(event, "\"\"") => return Some(EVENT_BLANK),
            Some(_) => {}
        }
        let fields = self.fields.filter(|fields| !is(fields, "null"))?;
        let flat = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(fields.get())
            .is_ok_and(|fields| fields.values().all(|value| !value.get().starts_with('{')));
        (!flat).then_some(BAD_FIELDS)
    }
}

/// The objects of a body with the metadata they inherit; the fault of the first that has one.
fn objects(body: &Bytes, defaults: &Arc<Defaults>) -> Split<Option<Code>> {
    let mut inherited: [Option<String>; METADATA.len()] = Default::default();
    let mut split = Split { records: Vec::new(), refused: Vec::new(), notes: None };
    let pieces = pieces(body).enumerate().map(|(place, piece)| {
        if piece.len() > split::LARGEST_RECORD {
            // Refused by the decoder; what is in it is not looked at.
            return piece;
        }
        let text = String::from_utf8_lossy(&piece);
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(&text) else { return piece.clone() };
        if let Some(fault) = envelope.fault() {
            split.notes.get_or_insert(fault);
            split.refused.push((place, Reject::BadJson(format!("HEC: {}", fault.1))));
        }
        let mut missing = String::new();
        for ((name, own), inherited) in METADATA.iter().zip(envelope.metadata).zip(&mut inherited) {
            match own.map(RawValue::get).filter(|own| *own != "null") {
                Some(own) => *inherited = Some(own.to_owned()),
                None => missing.extend(inherited.as_deref().map(|value| format!("\"{name}\":{value},"))),
            }
        }
        // An event is inside, so the object is not empty; a null of its own comes after and does not count.
        if missing.is_empty() { piece.clone() } else { Bytes::from(format!("{{{missing}{}", &text[1..])) }
    });
    split.records = super::collect(pieces, defaults);
    split
}

/// Whole objects, and between them whatever is not one as a single piece up to the next.
fn pieces(body: &Bytes) -> impl Iterator<Item = Bytes> {
    let whole = |piece: &[u8]| piece.starts_with(b"{") && piece.ends_with(b"}");
    let mut all = split::records(body).peekable();
    let body = body.clone();
    std::iter::from_fn(move || {
        let first = all.next()?;
        if whole(&first) {
            return Some(first);
        }
        let start = first.as_ptr().addr() - body.as_ptr().addr();
        let mut end = start + first.len();
        while let Some(next) = all.next_if(|next| !whole(next)) {
            end = next.as_ptr().addr() - body.as_ptr().addr() + next.len();
        }
        Some(body.slice(start..end))
    })
}

/// Members of the object around raw events, from the query.
fn envelope(query: &str) -> String {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let wanted = pairs.filter(|(name, value)| METADATA.contains(&name.as_ref()) && !value.is_empty());
    let mut members = String::new();
    members.extend(wanted.map(|(name, value)| format!("\"{name}\":{},", json!(value))));
    members
}

fn enclosed(envelope: &str, text: &[u8]) -> Bytes {
    Bytes::from(format!("{{{envelope}\"event\":{}}}", json!(String::from_utf8_lossy(text))))
}

/// Lines; when the body begins with a tag, also elements over several lines.
fn raw_events(body: &Bytes) -> Box<dyn Iterator<Item = Bytes> + '_> {
    let text = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii();
    if text.starts_with(b"<") {
        return Box::new(split::records(body));
    }
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    Box::new(lines.map(|line| body.slice_ref(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_of(body: &str) -> (Vec<String>, Option<Code>) {
        let split = objects(&Bytes::from(body.to_owned()), &Arc::default());
        (split.records.iter().map(text).collect(), split.notes)
    }

    fn text(record: &crate::model::event::RawRecord) -> String {
        String::from_utf8_lossy(&record.bytes).into_owned()
    }

    #[test]
    fn later_objects_inherit_what_they_lack() {
        let (records, fault) = split_of(
            r#"{"host":"a","time":1,"event":"x"}{"event":"y","time":null}[{"host":"b","event":"z"},{"event":"é"}]"#,
        );
        assert_eq!(fault, None);
        assert_eq!(
            records,
            [
                r#"{"host":"a","time":1,"event":"x"}"#,
                r#"{"time":1,"host":"a","event":"y","time":null}"#,
                r#"{"time":1,"host":"b","event":"z"}"#,
                r#"{"time":1,"host":"b","event":"é"}"#,
            ]
        );
    }

    #[test]
    fn what_stands_between_objects_is_one_piece() {
        let (records, _) = split_of("{\"event\":1}\nrubbish\nmore of it\n{\"event\":2}\n{\"event\":\n{\"event\":3}");
        assert_eq!(records, ["{\"event\":1}", "rubbish\nmore of it", "{\"event\":2}", "{\"event\":", "{\"event\":3}"]);
    }

    #[test]
    fn an_envelope_without_an_event_is_named() {
        for (body, fault) in [
            (r#"{"time":1}"#, Some(EVENT_REQUIRED)),
            ("{}", Some(EVENT_REQUIRED)),
            (r#"{"event":null}"#, Some(EVENT_REQUIRED)),
            (r#"{"event":""}"#, Some(EVENT_BLANK)),
            (r#"{"event":"x","fields":{"a":{"b":1}}}"#, Some(BAD_FIELDS)),
            (r#"{"event":"x","fields":[1]}"#, Some(BAD_FIELDS)),
            (r#"{"event":"x","fields":{"a":"b","c":["d"]}}"#, None),
            (r#"{"event":{"a":1}}"#, None),
        ] {
            assert_eq!(split_of(body).1, fault, "{body}");
        }
    }

    #[test]
    fn raw_lines_are_put_into_an_envelope() {
        let envelope = envelope("host=ws-1&source=a%22b&channel=7&time=1");
        let raw = |body: &'static [u8]| -> Vec<String> {
            let body = Bytes::from_static(body);
            raw_events(&body).map(|t| String::from_utf8_lossy(&enclosed(&envelope, &t)).into_owned()).collect()
        };
        assert_eq!(
            raw(b"one\r\n\r\n[two]\n"),
            [
                r#"{"host":"ws-1","source":"a\"b","time":"1","event":"one"}"#,
                r#"{"host":"ws-1","source":"a\"b","time":"1","event":"[two]"}"#
            ]
        );
        assert_eq!(raw(b"<Event a='1'>\n</Event><Event b='2'/>\n").len(), 2);
    }
}
