//! `POST /api/v1/events`: JSON in any framing, `<Event>` elements, multipart parts, Kafka REST records (wire formats, section 5).

use super::{Ingest, Refusal, Split, Tally};
use crate::{
    intake::{Outcome, Receipt, split},
    model::event::{Defaults, RawRecord},
};
use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{Request, header, request::Parts},
    response::{IntoResponse, Response},
};
use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;

/// Most errors named in a reply. Source: contract, section 2.
const MOST_ERRORS: usize = 100;

/// Stores what came and counts what became of it.
pub(super) async fn events(State(ingest): State<Arc<Ingest>>, request: Request<Body>) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let framing = Framing::of(content_type);
    answer(&ingest, "native", request, move |body, defaults| records(body, &framing, defaults)).await
}

/// The reply of this route and of Telegraf's.
pub(super) async fn answer(
    ingest: &Ingest,
    protocol: &'static str,
    request: Request<Body>,
    records: impl FnOnce(&Bytes, &Arc<Defaults>) -> Vec<RawRecord> + Send + 'static,
) -> Response {
    let (head, body) = request.into_parts();
    match store(ingest, protocol, &head, body, records).await {
        Ok(reply) => Json(reply).into_response(),
        Err(refusal) if refusal.is_temporary() => refusal.plain(),
        Err(refusal) => (refusal.status(), Json(Refused { error: refusal.to_string() })).into_response(),
    }
}

async fn store(
    ingest: &Ingest,
    protocol: &'static str,
    head: &Parts,
    body: Body,
    records: impl FnOnce(&Bytes, &Arc<Defaults>) -> Vec<RawRecord> + Send + 'static,
) -> Result<Reply, Refusal> {
    let forwarder = ingest.admit(head).await?;
    let split = move |body: Bytes, defaults: &Arc<Defaults>| {
        Ok(Split { records: records(&body, defaults), refused: Vec::new(), notes: () })
    };
    let (receipt, ()) = ingest.store(&forwarder, protocol, head, body, split).await?;
    Ok(Reply::of(&receipt))
}

#[derive(Debug, Serialize)]
struct Refused {
    error: String,
}

#[derive(Debug, Serialize)]
struct Reply {
    accepted: usize,
    duplicate: usize,
    quarantined: usize,
    errors: Vec<ItemError>,
}

#[derive(Debug, Serialize)]
struct ItemError {
    index: usize,
    reason: &'static str,
}

impl Reply {
    fn of(receipt: &Receipt) -> Self {
        let Tally { accepted, duplicate, quarantined } = Tally::of(&receipt.outcomes);
        let errors = receipt.outcomes.iter().enumerate().filter_map(|(index, outcome)| match outcome {
            Outcome::Quarantined(reject) => Some(ItemError { index, reason: reject.reason() }),
            Outcome::Accepted | Outcome::Duplicate => None,
        });
        Self { accepted, duplicate, quarantined, errors: errors.take(MOST_ERRORS).collect() }
    }
}

/// What surrounds the records, as far as `Content-Type` must say it.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    /// Seen in the bytes.
    Plain,
    /// NXLog: parts between `--boundary` lines.
    Multipart(String),
    /// rsyslog `kafkarest`: `{"records":[{"value":..}]}`.
    Kafka,
}

impl Framing {
    fn of(content_type: &str) -> Self {
        let mut words = content_type.split(';').map(str::trim);
        let kind = words.next().unwrap_or_default().to_ascii_lowercase();
        let boundary = words.filter_map(|w| w.split_once('=')).find(|(name, _)| name.eq_ignore_ascii_case("boundary"));
        match boundary {
            Some((_, boundary)) if kind.starts_with("multipart/") && !boundary.trim_matches('"').is_empty() => {
                Self::Multipart(format!("--{}", boundary.trim_matches('"')))
            }
            _ if kind.starts_with("application/vnd.kafka") => Self::Kafka,
            _ => Self::Plain,
        }
    }
}

/// The records of a body in this framing.
fn records(body: &Bytes, framing: &Framing, defaults: &Arc<Defaults>) -> Vec<RawRecord> {
    match framing {
        Framing::Plain => super::collect(split::documents(body), defaults),
        Framing::Multipart(boundary) => {
            super::collect(parts(body, boundary).iter().flat_map(split::documents), defaults)
        }
        Framing::Kafka => super::collect(split::records(body).flat_map(|piece| kafka_values(&piece)), defaults),
    }
}

/// The bodies of the parts, without their headers.
fn parts(body: &Bytes, boundary: &str) -> Vec<Bytes> {
    let mut edges: Vec<usize> = memmem::find_iter(body, boundary.as_bytes()).collect();
    edges.push(body.len());
    let between = edges.windows(2).map(|edge| body.slice(edge[0] + boundary.len()..edge[1]));
    let contents = between.map(|part| {
        let head =
            memmem::find(&part, b"\r\n\r\n").map(|at| at + 4).or_else(|| memmem::find(&part, b"\n\n").map(|at| at + 2));
        // Without a blank line there is only the rest of the boundary's line.
        part.slice(head.unwrap_or_else(|| memchr::memchr(b'\n', &part).map_or(part.len(), |at| at + 1))..)
    });
    contents.collect()
}

/// `records[].value`; what is not of that form stays as it is.
fn kafka_values(piece: &Bytes) -> Vec<Bytes> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        records: Vec<Entry<'a>>,
    }
    #[derive(Deserialize)]
    struct Entry<'a> {
        #[serde(borrow)]
        value: &'a RawValue,
    }
    match serde_json::from_slice::<Envelope<'_>>(piece) {
        Ok(envelope) => envelope.records.iter().map(|entry| piece.slice_ref(entry.value.get().as_bytes())).collect(),
        Err(_) => vec![piece.clone()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Reject;

    fn split_as(content_type: &str, body: &str) -> Vec<String> {
        let body = Bytes::from(body.to_owned());
        let records = records(&body, &Framing::of(content_type), &Arc::default());
        records.iter().map(|r| String::from_utf8_lossy(&r.bytes).into_owned()).collect()
    }

    #[test]
    fn the_framing_is_seen_in_the_bytes_whatever_the_content_type_says() {
        for content_type in
            ["", "application/json", "text/plain", "application/x-ndjson; charset=utf-8", "multipart/mixed"]
        {
            assert_eq!(split_as(content_type, "[{\"a\":1},{\"b\":2}]"), ["{\"a\":1}", "{\"b\":2}"]);
            assert_eq!(split_as(content_type, "{\"a\":1}\n{\"b\":2}\n"), ["{\"a\":1}", "{\"b\":2}"]);
        }
    }

    #[test]
    fn multipart_and_kafka_envelopes_are_opened() {
        let parts = "--b1\r\nContent-Type: application/json\r\n\r\n{\"a\":1}\r\n--b1\r\n\r\n{\"b\":2}\r\n--b1--\r\n";
        assert_eq!(split_as("multipart/mixed; boundary=\"b1\"", parts), ["{\"a\":1}", "{\"b\":2}"]);
        let kafka = "{\"records\": [ {\"value\": {\"a\": 1}}, {\"value\": \"x\"} ]}";
        assert_eq!(split_as("application/vnd.kafka.json.v2+json", kafka), ["{\"a\": 1}", "\"x\""]);
        assert_eq!(split_as("application/vnd.kafka.json.v2+json", "{\"a\":1}"), ["{\"a\":1}"]);
    }

    #[test]
    fn the_reply_names_at_most_a_hundred_errors() {
        let mut outcomes = vec![Outcome::Accepted, Outcome::Duplicate];
        outcomes.extend(std::iter::repeat_n(Outcome::Quarantined(Reject::NoTime), 150));
        let reply = Reply::of(&Receipt { ids: vec![None; outcomes.len()], outcomes });
        assert_eq!((reply.accepted, reply.duplicate, reply.quarantined, reply.errors.len()), (1, 1, 150, 100));
        let one = Receipt { outcomes: vec![Outcome::Quarantined(Reject::NoHost)], ids: vec![None] };
        assert_eq!(
            serde_json::to_string(&Reply::of(&one)).unwrap(),
            r#"{"accepted":0,"duplicate":0,"quarantined":1,"errors":[{"index":0,"reason":"no_host"}]}"#
        );
    }
}
