//! What forwarders send and must hear back (wire formats, section 15), through the routers of the real program.

mod elastic;
mod hec;
mod native;
mod osquery;
mod otlp;
mod telegraf;

use crate::harness::{Answer, TestApp};
use axum::{
    body::Body,
    http::{Request, header},
};
use coalface::model::permission::Scope;
use serde_json::{Value, json};

/// A Sysmon process start as Winlogbeat sends it; the record id makes it one of its own.
pub(crate) fn process_start(record: u64) -> Value {
    json!({
        "@timestamp": "2026-03-02T09:00:00.100Z",
        "winlog": {
            "computer_name": "WS-0412.corp.example",
            "channel": "Microsoft-Windows-Sysmon/Operational",
            "provider_name": "Microsoft-Windows-Sysmon",
            "event_id": "1",
            "record_id": record,
            "event_data": {
                "UtcTime": "2026-03-02 09:00:00.095",
                "ProcessGuid": format!("{{5770385F-C22A-43E0-BF4C-{record:012X}}}"),
                "ProcessId": "4120",
                "Image": "C:\\Windows\\System32\\svchost.exe",
                "CommandLine": "svchost.exe -k netsvcs",
                "ParentProcessId": "700",
                "ParentImage": "C:\\Windows\\System32\\services.exe"
            }
        }
    })
}

/// Sends a body with a good token.
async fn send(app: &TestApp, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let authorization = format!("Bearer {}", app.token(Scope::Ingest).await);
    send_as(app, method, path, &[headers, &[(header::AUTHORIZATION.as_str(), &authorization)]].concat(), body).await
}

/// Sends a body with these headers only.
async fn send_as(app: &TestApp, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let request = headers
        .iter()
        .fold(Request::builder().method(method).uri(path), |request, (name, value)| request.header(*name, *value));
    app.ingest(request.body(body.into()).unwrap()).await
}

async fn facts(app: &TestApp) -> i64 {
    app.count("select count(*) from process_start").await
}

async fn quarantined(app: &TestApp) -> i64 {
    app.count("select count(*) from quarantine").await
}
