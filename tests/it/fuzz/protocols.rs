//! Each protocol of the ingest port, through its router and into a database: whatever comes is answered, and never with a fault of
//! ours; a good event sent afterwards is stored.

use super::{Seeds, fuzz};
use crate::{
    harness::{Answer, TestApp},
    wire::process_start,
};
use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use bytes::Bytes;
use coalface::{import, model::permission::Scope};
use indicatif::ProgressBar;
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point::Value as Number},
    resource::v1::Resource,
};
use prost::Message as _;
use rand::{Rng, rngs::StdRng};
use serde_json::json;
use std::{fs, path::Path};

/// Content types that some client sends, to the right place or not.
const TYPES: &[&str] = &[
    "application/json",
    "application/x-ndjson",
    "application/vnd.elasticsearch+x-ndjson; compatible-with=8",
    "application/x-protobuf",
    "application/vnd.kafka.json.v2+json",
    "multipart/form-data; boundary=b",
    "text/plain",
    "",
];

/// Sends mutated bodies to these paths for as long as the target runs.
fn protocol(name: &str, paths: &[&str], more: Vec<Vec<u8>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let app = runtime.block_on(TestApp::new());
    let token = runtime.block_on(app.token(Scope::Ingest));
    let mut seeds = Seeds::of(&["samples"]);
    // half of the inputs begin as the protocol has them
    let own = more.len().max(1);
    let copies = seeds.base.len().div_ceil(own);
    seeds.base.extend(std::iter::repeat_n(more, copies).flatten());
    let request = |path: &str, kind: &str, body: Bytes| {
        let request = Request::post(path).header(header::AUTHORIZATION, format!("Bearer {token}")).header(header::CONTENT_TYPE, kind);
        request.body(Body::from(body)).unwrap()
    };
    fuzz(name, &seeds, |input, rng| {
        let answer = runtime.block_on(app.ingest(request(pick(rng, paths), pick(rng, TYPES), input.clone())));
        assert!(answer.status.as_u16() < 500, "{} {}", answer.status, answer.text());
    });
    let stored = runtime.block_on(async {
        let before = app.count("select count(*) from process_start").await;
        let body = Bytes::from(process_start(u64::from(u32::MAX)).to_string());
        let answer: Answer = app.ingest(request("/api/v1/events", "application/json", body)).await;
        answer.expect(StatusCode::OK);
        app.count("select count(*) from process_start").await - before
    });
    assert_eq!(stored, 1);
}

fn pick<'l>(rng: &mut StdRng, list: &[&'l str]) -> &'l str {
    list[rng.random_range(0..list.len())]
}

fn start() -> String {
    process_start(1).to_string()
}

#[test]
fn fuzz_native() {
    protocol("native", &["/api/v1/events"], vec![
        start().into_bytes(),
        format!("[{},{}]", start(), start()).into_bytes(),
        format!("--b\r\n\r\n{}\r\n--b--\r\n", start()).into_bytes(),
        format!("{{\"records\":[{{\"value\":{}}}]}}", start()).into_bytes(),
    ]);
}

#[test]
fn fuzz_elastic() {
    let action = |action: &str| format!("{{\"{action}\":{{\"_index\":\"w\",\"_id\":\"1\"}}}}\n{}\n", start()).into_bytes();
    protocol(
        "elastic",
        &["/_bulk", "/winlogbeat/_bulk", "/w/_doc", "/w/_doc/1", "/w/_create/1", "/_license", "/_ilm/policy/x", "/_index_template/x"],
        vec![action("create"), action("index"), b"{\"delete\":{\"_id\":\"1\"}}\n{\"update\":{\"_id\":\"1\"}}\n{\"doc\":{}}\n".to_vec()],
    );
}

#[test]
fn fuzz_hec() {
    let event = json!({"time": "1772442845.123", "host": "ws-1", "sourcetype": "XmlWinEventLog", "event": start(), "fields": {"a": "b"}});
    protocol(
        "hec",
        &["/services/collector", "/services/collector/event", "/services/collector/raw", "/services/collector/ack?channel=0"],
        vec![format!("{event}{event}").into_bytes(), format!("[{event}]").into_bytes(), b"{\"acks\":[0,1,2]}".to_vec()],
    );
}

fn text(value: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Any::StringValue(value.to_owned())) })
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: text(value), ..KeyValue::default() }
}

#[test]
fn fuzz_otlp_logs() {
    let resource = Some(Resource { attributes: vec![attribute("host.name", "ws-1")], ..Resource::default() });
    let record = LogRecord { time_unix_nano: 1_772_442_845_000_000_000, body: text(&start()), ..LogRecord::default() };
    let scope = ScopeLogs { scope: Some(InstrumentationScope::default()), log_records: vec![record], ..ScopeLogs::default() };
    let export = ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { resource, scope_logs: vec![scope], ..ResourceLogs::default() }] };
    let json = json!({"resourceLogs": [{"resource": {"attributes": [{"key": "host.name", "value": {"stringValue": "ws-1"}}]},
        "scopeLogs": [{"logRecords": [{"timeUnixNano": "1772442845000000000", "body": {"stringValue": start()}}]}]}]});
    protocol("otlp logs", &["/v1/logs", "/v1/traces"], vec![export.encode_to_vec(), json.to_string().into_bytes()]);
}

#[test]
fn fuzz_otlp_metrics() {
    let resource = Some(Resource { attributes: vec![attribute("host.name", "ws-1"), attribute("process.pid", "4")], ..Resource::default() });
    let point = NumberDataPoint {
        attributes: vec![attribute("state", "user")],
        time_unix_nano: 1_772_442_845_000_000_000,
        value: Some(Number::AsDouble(0.9)),
        ..NumberDataPoint::default()
    };
    let metric = Metric {
        name: "process.cpu.utilization".to_owned(),
        unit: "1".to_owned(),
        data: Some(Data::Gauge(Gauge { data_points: vec![point] })),
        ..Metric::default()
    };
    let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
    let export =
        ExportMetricsServiceRequest { resource_metrics: vec![ResourceMetrics { resource, scope_metrics: vec![scope], ..ResourceMetrics::default() }] };
    protocol("otlp metrics", &["/v1/metrics"], vec![export.encode_to_vec()]);
}

#[test]
fn fuzz_telegraf() {
    let metrics = json!({"metrics": [{"name": "procstat", "tags": {"host": "ws-1", "process_name": "x.exe"}, "fields": {"pid": 4, "cpu_usage": 97.2}, "timestamp": 1_772_443_145}]});
    protocol("telegraf", &["/telegraf"], vec![
        metrics.to_string().into_bytes(),
        b"procstat,host=ws-1,process_name=x.exe pid=4i,cpu_usage=97.2 1772443145000000000\nwin_cpu,host=ws-1,instance=_Total Percent_Processor_Time=97 1772443145000000000\n".to_vec(),
    ]);
}

#[test]
fn fuzz_osquery() {
    let log = json!({"node_key": "k", "log_type": "result", "data": [{"name": "processes", "hostIdentifier": "ws-1", "unixTime": 1_772_443_145, "action": "added", "columns": {"pid": "4"}}]});
    protocol("osquery", &["/osquery/enroll", "/osquery/config", "/osquery/log"], vec![
        log.to_string().into_bytes(),
        json!({"enroll_secret": "s", "host_identifier": "ws-1", "host_details": {}}).to_string().into_bytes(),
    ]);
}

/// Event log files as they lie on disks: what can be read is kept, the rest is reported.
#[test]
fn fuzz_evtx_file() {
    let mut files = Vec::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/telemetry");
    super::files(&folder, &mut files);
    let base: Vec<Vec<u8>> =
        files.iter().filter(|path| path.extension().is_some_and(|e| e == "evtx")).filter_map(|path| fs::read(path).ok()).collect();
    if base.is_empty() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let app = runtime.block_on(TestApp::new());
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("x.evtx");
    fuzz("evtx file", &Seeds { all: base.clone(), base }, |input, _| {
        fs::write(&path, input).unwrap();
        let reports = runtime.block_on(import::import(&app.app, vec![path.clone()], &ProgressBar::hidden())).unwrap();
        assert_eq!(reports.len(), 1);
    });
}
