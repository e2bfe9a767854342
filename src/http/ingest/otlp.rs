//! OTLP/HTTP: logs and metrics, as protobuf or JSON; traces are taken and dropped (wire formats, section 4).
//!
//! A reply has the encoding of its request. Clients never repeat a 400 or a partial success, so both mean what they say.

use super::{Ingest, Refusal, Split, body};
use crate::intake::{
    Outcome, Receipt,
    split::{self, Signal},
};
use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use memchr::memmem;
use opentelemetry_proto::tonic::collector::{
    logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse},
    metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse},
};
use prost::Message;
use serde_json::json;
use std::sync::Arc;

/// Stores log records.
pub(super) async fn logs(State(ingest): State<Arc<Ingest>>, request: Request<Body>) -> Response {
    answer(&ingest, Some(Signal::Logs), request).await
}

/// Stores metrics.
pub(super) async fn metrics(State(ingest): State<Arc<Ingest>>, request: Request<Body>) -> Response {
    answer(&ingest, Some(Signal::Metrics), request).await
}

/// Reads spans and drops them: nothing is judged by them, and exporters of several signals must not fail.
pub(super) async fn traces(State(ingest): State<Arc<Ingest>>, request: Request<Body>) -> Response {
    answer(&ingest, None, request).await
}

async fn answer(ingest: &Ingest, signal: Option<Signal>, request: Request<Body>) -> Response {
    let Some(encoding) = Encoding::of(request.headers()) else {
        return Refusal::UnsupportedType.plain();
    };
    match store(ingest, signal, encoding, request).await {
        Ok(reply) => reply,
        Err(refusal) if refusal.is_temporary() => refusal.plain(),
        Err(refusal) => encoding.refusal(refusal.status(), &refusal.to_string()),
    }
}

async fn store(
    ingest: &Ingest,
    signal: Option<Signal>,
    encoding: Encoding,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    let forwarder = ingest.admit(&head).await?;
    let (bytes, share) = body::read(&head.headers, body, ingest.budget.share(forwarder.token_id)).await?;
    let Some(signal) = signal else {
        tracing::debug!(bytes = bytes.len(), "dropped a request of spans");
        return Ok(encoding.success());
    };
    let split = move |body: Bytes, defaults: &_| {
        let (records, refused) = match encoding {
            Encoding::Json => (super::collect(json_records(body).into_iter(), defaults), Vec::new()),
            Encoding::Protobuf => {
                let pieces =
                    split::split_protobuf(&body, signal).map_err(|_| Refusal::Malformed("not an OTLP message"))?;
                (super::collect(pieces.records.into_iter(), defaults), pieces.refused)
            }
        };
        let weights = records.iter().map(|record| weight(signal, &record.bytes)).collect::<Vec<_>>();
        Ok(Split { records, refused, notes: weights })
    };
    let (receipt, weights) = ingest.keep(&forwarder, "otlp", bytes, share, split).await?;
    Ok(encoding.reply(signal, &receipt, &weights))
}

fn json_records(body: Bytes) -> Vec<Bytes> {
    let body = super::repaired(body);
    let body = body.slice_ref(body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&body).trim_ascii());
    match split::split_batch(&body) {
        Some(records) => records,
        None if is_empty_request(&body) => Vec::new(),
        // For the decoder to say what is wrong with it.
        None => vec![body],
    }
}

/// Whether this is an object that carries nothing.
fn is_empty_request(body: &[u8]) -> bool {
    body.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).unwrap_or(body).trim_ascii().is_empty()
}

/// How many items of its signal a record stands for: data points are counted one by one.
fn weight(signal: Signal, record: &[u8]) -> i64 {
    match signal {
        Signal::Logs => 1,
        Signal::Metrics => memmem::find_iter(record, b"\"timeUnixNano\"").count().max(1).cast_signed() as i64,
    }
}

/// How a request is written, and its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let named = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        match named.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            "application/x-protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }

    fn with(self, status: StatusCode, message: &impl Message, json: &serde_json::Value) -> Response {
        match self {
            Self::Protobuf => {
                (status, [(header::CONTENT_TYPE, "application/x-protobuf")], message.encode_to_vec()).into_response()
            }
            Self::Json => (status, axum::Json(json)).into_response(),
        }
    }

    fn success(self) -> Response {
        self.with(StatusCode::OK, &ExportLogsServiceResponse::default(), &json!({}))
    }

    fn refusal(self, status: StatusCode, message: &str) -> Response {
        // Numbers of google.rpc.Code.
        let code = match status {
            StatusCode::UNAUTHORIZED => 16,
            StatusCode::FORBIDDEN => 7,
            StatusCode::PAYLOAD_TOO_LARGE => 8,
            StatusCode::REQUEST_TIMEOUT => 4,
            _ => 3,
        };
        let proto = Status { code, message: message.to_owned() };
        self.with(status, &proto, &json!({"code": code, "message": message}))
    }

    fn reply(self, signal: Signal, receipt: &Receipt, weights: &[i64]) -> Response {
        let refused = || {
            receipt.outcomes.iter().zip(weights).filter_map(|(outcome, weight)| match outcome {
                Outcome::Quarantined(reject) => Some((reject, weight)),
                Outcome::Accepted | Outcome::Duplicate => None,
            })
        };
        let Some((first, _)) = refused().next() else { return self.success() };
        let error_message = format!("kept in quarantine; the first because of: {first}");
        if refused().count() == receipt.outcomes.len() {
            return self.refusal(StatusCode::BAD_REQUEST, &error_message);
        }
        let count: i64 = refused().map(|(_, weight)| weight).sum();
        match signal {
            Signal::Logs => {
                let json =
                    json!({"partialSuccess": {"rejectedLogRecords": count.to_string(), "errorMessage": error_message}});
                let partial_success = Some(ExportLogsPartialSuccess { rejected_log_records: count, error_message });
                self.with(StatusCode::OK, &ExportLogsServiceResponse { partial_success }, &json)
            }
            Signal::Metrics => {
                let json =
                    json!({"partialSuccess": {"rejectedDataPoints": count.to_string(), "errorMessage": error_message}});
                let partial_success = Some(ExportMetricsPartialSuccess { rejected_data_points: count, error_message });
                self.with(StatusCode::OK, &ExportMetricsServiceResponse { partial_success }, &json)
            }
        }
    }
}
