//! Telegraf's HTTP output.

use super::{quarantined, send};
use crate::harness::TestApp;
use axum::http::StatusCode;
use serde_json::{Value, json};

const TEXT: &[(&str, &str)] = &[("content-type", "text/plain; charset=utf-8")];

fn procstat(pid: u32) -> Value {
    json!({
        "name": "procstat", "timestamp": 1_772_443_145,
        "tags": {"host": "WS-0412", "process_name": "svchost.exe", "pattern": ".*"},
        "fields": {"pid": pid, "cpu_usage": 380.4, "cpu_time_user": 1140.2, "cpu_time_system": 3.1, "created_at": 1_772_442_845_000_000_000_u64},
    })
}

#[tokio::test]
async fn a_batch_single_metrics_and_lines_are_stored() {
    let app = TestApp::new().await;
    let cpu = json!({"name": "cpu", "timestamp": 1_772_443_145, "tags": {"host": "WS-0412", "cpu": "cpu-total"}, "fields": {"usage_idle": 3.9}});
    let batch = json!({"metrics": [procstat(1), procstat(2), cpu]}).to_string();
    for expected in [[3, 0], [0, 3]] {
        let reply = send(&app, "POST", "/telegraf", TEXT, batch.clone()).await.expect(StatusCode::OK);
        assert_eq!([&reply.json()["accepted"], &reply.json()["duplicate"]], expected);
    }
    let single = send(&app, "POST", "/telegraf", TEXT, procstat(3).to_string()).await.expect(StatusCode::OK);
    assert_eq!(single.text(), r#"{"accepted":1,"duplicate":0,"quarantined":0,"errors":[]}"#);

    let lines = "# a comment\n\
        procstat,host=WS-0412,process_name=svchost.exe pid=4i,cpu_time_user=1140.2,cpu_time_system=3.1 1772443145000000000\n\
        this is no metric\n\
        system,host=WS-0412 n_cpus=4i,uptime=86400i 1772443145000000000\n\
        win_eventlog,host=WS-0412 Message=\"two\nlines\" 1772443145000000000\n";
    let reply = send(&app, "POST", "/telegraf", TEXT, lines).await.expect(StatusCode::OK);
    assert_eq!(
        reply.json(),
        json!({"accepted": 3, "duplicate": 0, "quarantined": 1, "errors": [{"index": 1, "reason": "bad_json"}]})
    );

    assert_eq!(app.count("select count(*) from cpu_sample where pid between 1 and 4").await, 4);
    assert_eq!(app.count("select count(*) from host_sample").await, 2);
    assert_eq!(
        app.count("select count(*) from quarantine where raw = 'this is no metric' and protocol = 'telegraf'").await,
        1
    );
    assert_eq!(quarantined(&app).await, 1);
    assert_eq!(send(&app, "POST", "/telegraf", TEXT, "").await.expect(StatusCode::OK).json()["accepted"], 0);
}

#[tokio::test]
async fn batches_are_opened_on_the_native_route_too() {
    let app = TestApp::new().await;
    let batch = json!({"metrics": [procstat(1), procstat(2)]});
    let reply = send(&app, "POST", "/api/v1/events", &[], format!("[{batch}]")).await.expect(StatusCode::OK);
    assert_eq!(reply.json()["accepted"], 2);
}
