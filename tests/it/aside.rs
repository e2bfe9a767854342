//! A host that cannot be evaluated is set aside and does not keep the others waiting.

use crate::{
    harness::{TestApp, Who},
    story,
};
use axum::http::StatusCode;
use chrono::TimeDelta;
use coalface::{model::permission::Scope, worker};
use serde_json::json;

#[tokio::test]
async fn one_host_that_cannot_be_evaluated_does_not_keep_the_others_waiting() {
    let app = TestApp::new().await;
    app.send(&story::renamed_miner()).await;
    app.send(&[json!({
        "@timestamp": story::START, "host": {"name": "ws-0999", "id": "h-0999"}, "agent": {"type": "winlogbeat", "version": "8.17.0"},
        "winlog": {"provider_name": "Microsoft-Windows-Sysmon", "channel": "Microsoft-Windows-Sysmon/Operational", "event_id": "5", "record_id": 1,
            "computer_name": "ws-0999", "event_data": {"UtcTime": "2026-03-02 04:00:00.000", "ProcessId": "77", "Image": r"C:\x\a.exe"}}
    })])
    .await;
    // A detection that nobody can read any more, as a damaged row would be.
    let damage = "insert into detection (host_id, detection_id, group_key, groups, verdict, severity, severity_rank, score, analytics, title, first_seen,
          last_seen, content, detected_at, updated_at)
        select host_id, 1, 0, '{}', 'alert', 'low', 1, 0, '{}', '', now(), now(), '{}', now(), now() from host where name = 'ws-0999'";
    sqlx::raw_sql(damage).execute(app.db().pool()).await.unwrap();

    while worker::pass(&app.app, TimeDelta::zero()).await.unwrap().marks > 0 {}

    let found = app.get(Who::Program(Scope::Read), "/api/v1/detections?host=ws-0412").await.expect(StatusCode::OK).json();
    assert_eq!(found["items"].as_array().unwrap().len(), 1, "{found:#}");
    let aside = "select count(*) from lease where attempts = 1 and owner = '' and error like '%missing field%'";
    assert_eq!(app.count(aside).await, 1);
    let status = app.get(Who::Program(Scope::Read), "/api/v1/status").await.expect(StatusCode::OK).json();
    assert!(status["worker"]["pending"].as_i64().unwrap() > 0, "what was not evaluated still counts: {status:#}");

    // Mended, and its time has come.
    sqlx::raw_sql("delete from detection where detection_id = 1; update lease set until = now()").execute(app.db().pool()).await.unwrap();
    app.settle().await;
    assert_eq!(app.count("select count(*) from lease").await, 0);
}
