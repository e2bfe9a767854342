//! OTLP/HTTP.

use super::{facts, process_start, quarantined, send, send_as};
use crate::harness::{Answer, TestApp};
use axum::{
    body::{Body, Bytes},
    http::StatusCode,
};
use flate2::{Compression, write::GzEncoder};
use futures_util::stream;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse},
        metrics::v1::ExportMetricsServiceRequest,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point::Value as Number,
    },
    resource::v1::Resource,
};
use prost::Message as _;
use serde_json::{Value, json};
use std::io::Write as _;

const PROTOBUF: &[(&str, &str)] = &[("content-type", "application/x-protobuf")];
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const LOGS: &str = "/v1/logs";
const METRICS: &str = "/v1/metrics";

fn any(value: Any) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(any(value)), ..KeyValue::default() }
}

fn resource(attributes: Vec<KeyValue>) -> Resource {
    Resource { attributes, ..Resource::default() }
}

fn record(body: &str) -> LogRecord {
    LogRecord {
        time_unix_nano: 1_772_442_845_100_000_000,
        body: Some(any(Any::StringValue(body.to_owned()))),
        ..LogRecord::default()
    }
}

fn logs(log_records: Vec<LogRecord>) -> Vec<u8> {
    let resource = resource(vec![attribute("host.name", Any::StringValue("ws-0412.corp.example".to_owned()))]);
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource: Some(resource), scope_logs, ..ResourceLogs::default() }],
    }
    .encode_to_vec()
}

fn json_logs(bodies: &[String]) -> Value {
    let records: Vec<Value> = bodies
        .iter()
        .map(|body| json!({"timeUnixNano": 1_772_442_845_100_000_000_u64, "body": {"stringValue": body}}))
        .collect();
    json!({"resourceLogs": [{"resource": {}, "scopeLogs": [{"scope": {"name": "s"}, "logRecords": records}]}]})
}

/// Seconds of user and system time of a process, and its memory.
fn metrics() -> Vec<u8> {
    let point = |value, state: &str| NumberDataPoint {
        time_unix_nano: 1_772_443_145_000_000_000,
        start_time_unix_nano: 1_772_442_845_000_000_000,
        attributes: vec![attribute("state", Any::StringValue(state.to_owned()))],
        value: Some(Number::AsDouble(value)),
        ..NumberDataPoint::default()
    };
    let data = Sum { data_points: vec![point(1140.2, "user"), point(3.1, "system")], ..Sum::default() };
    let metric = Metric { name: "process.cpu.time".to_owned(), data: Some(Data::Sum(data)), ..Metric::default() };
    let resource = resource(vec![
        attribute("host.name", Any::StringValue("ws-0412.corp.example".to_owned())),
        attribute("process.pid", Any::IntValue(4120)),
    ]);
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    let group = ResourceMetrics { resource: Some(resource), scope_metrics, ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![group] }.encode_to_vec()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

async fn post(app: &TestApp, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    send(app, "POST", path, headers, body).await
}

#[tokio::test]
async fn protobuf_and_json_of_one_windows_record_are_one_event() {
    let app = TestApp::new().await;
    let body = logs(vec![record(&process_start(1).to_string()), record(&process_start(2).to_string())]);
    let compressed = [PROTOBUF, &[("content-encoding", "gzip")]].concat();
    let reply = post(&app, LOGS, &compressed, gzip(&body)).await.expect(StatusCode::OK);
    assert_eq!((reply.header("content-type"), reply.body.len()), ("application/x-protobuf", 0));
    post(&app, LOGS, PROTOBUF, body).await.expect(StatusCode::OK);

    let text = json_logs(&[process_start(1).to_string(), process_start(2).to_string()]).to_string();
    // without Content-Length, as the JavaScript SDK sends it
    let pieces: Vec<_> =
        text.as_bytes().chunks(100).map(|c| Ok::<_, std::io::Error>(Bytes::copy_from_slice(c))).collect();
    let reply = post(&app, LOGS, JSON, Body::from_stream(stream::iter(pieces))).await.expect(StatusCode::OK);
    assert_eq!((reply.header("content-type"), reply.text()), ("application/json", "{}"));
    assert_eq!((facts(&app).await, quarantined(&app).await), (2, 0));
}

#[tokio::test]
async fn metrics_in_both_encodings_are_one_sample() {
    let app = TestApp::new().await;
    post(&app, METRICS, PROTOBUF, metrics()).await.expect(StatusCode::OK);
    let point = |value: f64, state: &str, time: Value| json!({"timeUnixNano": time, "startTimeUnixNano": "1772442845000000000", "asDouble": value, "attributes": [{"key": "state", "value": {"stringValue": state}}]});
    let points = json!([
        point(1140.2, "user", json!("1772443145000000000")),
        point(3.1, "system", json!(1_772_443_145_000_000_000_u64))
    ]);
    let attributes = json!([
        {"key": "host.name", "value": {"stringValue": "ws-0412.corp.example"}}, {"key": "process.pid", "value": {"intValue": 4120}}
    ]);
    let body = json!({"unknown": 1, "resourceMetrics": [{"resource": {"attributes": attributes}, "scopeMetrics": [{"metrics": [{"name": "process.cpu.time", "sum": {"dataPoints": points}}]}]}]});
    post(&app, METRICS, JSON, body.to_string()).await.expect(StatusCode::OK);
    assert_eq!(
        app.count("select count(*) from cpu_sample where pid = 4120 and abs(cpu_seconds - 1143.3) < 0.001").await,
        1
    );
    assert_eq!(app.count("select count(*) from cpu_sample").await, 1);
}

#[tokio::test]
async fn what_could_not_be_read_is_counted_and_not_asked_for_again() {
    let app = TestApp::new().await;
    let good = record(&process_start(1).to_string());
    let reply = post(&app, LOGS, PROTOBUF, logs(vec![good, record("y"), record("x")])).await.expect(StatusCode::OK);
    assert!(reply.body.is_empty(), "texts of no known form are kept");

    let mut body = logs(vec![record("first"), record("second")]);
    let at = memchr::memmem::find(&body, b"second").unwrap();
    body[at] = 0xFF;
    let reply = post(&app, LOGS, PROTOBUF, body.clone()).await.expect(StatusCode::OK);
    let partial = ExportLogsServiceResponse::decode(reply.body).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_log_records, 1);
    assert_eq!(quarantined(&app).await, 1);

    let large = "x".repeat(2 << 20);
    let text = json_logs(&[process_start(2).to_string(), large.clone()]).to_string();
    let reply = post(&app, LOGS, JSON, text).await.expect(StatusCode::OK);
    assert_eq!(reply.json()["partialSuccess"]["rejectedLogRecords"], "1");
    let reply = post(&app, LOGS, JSON, json_logs(&[large]).to_string()).await.expect(StatusCode::BAD_REQUEST);
    assert_eq!(reply.json()["code"], 3);
}

#[tokio::test]
async fn of_refused_metrics_the_points_are_counted() {
    let app = TestApp::new().await;
    let point = json!({"timeUnixNano": "1772443145000000000", "asDouble": 1.5});
    let group = |host: &str| {
        let attributes =
            json!([{"key": host, "value": {"stringValue": "ws-1"}}, {"key": "process.pid", "value": {"intValue": 4}}]);
        let metric = json!({"name": "process.cpu.time", "sum": {"dataPoints": [point, point, point]}});
        json!({"resource": {"attributes": attributes}, "scopeMetrics": [{"metrics": [metric]}]})
    };
    let body = json!({"resourceMetrics": [group("host.name"), group("no.host")]}).to_string();
    let reply = post(&app, METRICS, JSON, body).await.expect(StatusCode::OK);
    assert_eq!(reply.json()["partialSuccess"]["rejectedDataPoints"], "3");
    assert!(reply.json()["partialSuccess"]["errorMessage"].as_str().unwrap().contains("no host name"));
    assert_eq!(app.count("select count(*) from cpu_sample").await, 1);
}

#[tokio::test]
async fn refusals_are_a_status_in_the_encoding_of_the_request() {
    let app = TestApp::new().await;
    for path in [LOGS, METRICS] {
        for (headers, body) in [(PROTOBUF, "\u{1}\u{2}certainly not"), (JSON, "{\"resourceLogs\": [")] {
            let reply = post(&app, path, headers, body).await.expect(StatusCode::BAD_REQUEST);
            assert_eq!(reply.header("content-type"), headers[0].1);
            // field 1 of google.rpc.Status: INVALID_ARGUMENT
            assert!(if headers == PROTOBUF { reply.body.starts_with(&[8, 3]) } else { reply.json()["code"] == 3 });
        }
        let reply = send_as(&app, "POST", path, JSON, "{}").await.expect(StatusCode::UNAUTHORIZED);
        assert_eq!(reply.json()["code"], 16);
        for content_type in ["text/plain", "application/msgpack", ""] {
            post(&app, path, &[("content-type", content_type)], "{}").await.expect(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        for (headers, empty) in [(PROTOBUF, ""), (JSON, "{}"), (JSON, ""), (JSON, "{\"resourceLogs\":[]}")] {
            post(&app, path, headers, empty).await.expect(StatusCode::OK);
        }
    }
    assert_eq!(app.count("select count(*) from other_event").await, 0);
}

#[tokio::test]
async fn spans_are_taken_and_dropped() {
    let app = TestApp::new().await;
    post(&app, "/v1/traces", PROTOBUF, b"\x0a\x00".to_vec()).await.expect(StatusCode::OK);
    post(&app, "/v1/traces", JSON, "{\"resourceSpans\":[]}").await.expect(StatusCode::OK);
    send_as(&app, "POST", "/v1/traces", JSON, "{}").await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(app.count("select count(*) from other_event").await, 0);
}
