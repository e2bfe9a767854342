//! osquery's TLS plugins.

use super::send_as;
use crate::harness::{Answer, TestApp};
use axum::http::StatusCode;
use coalface::{config::Settings, model::permission::Scope, store::tokens};
use serde_json::{Value, json};

async fn post(app: &TestApp, path: &str, body: &Value) -> Answer {
    send_as(app, "POST", path, &[("content-type", "application/json")], body.to_string()).await
}

fn rows() -> Value {
    let columns = |pid: &str| json!({"pid": pid, "name": "svchost.exe", "path": "C:\\Users\\Public\\svchost.exe", "user_time": "1140200", "system_time": "3100"});
    let row = |columns: Value, action: &str| json!({"name": "pack_processes", "hostIdentifier": "WS-0412", "unixTime": 1_772_443_145, "decorations": {"hostname": "ws-0412"}, "columns": columns, "action": action});
    json!([row(columns("4120"), "snapshot"), row(columns("4121"), "added"), row(columns("4122"), "removed")])
}

#[tokio::test]
async fn a_node_enrols_with_a_token_and_sends_its_rows() {
    let app = TestApp::new().await;
    let secret = app.token(Scope::Ingest).await;
    let enrolled = post(
        &app,
        "/osquery/enroll",
        &json!({"enroll_secret": secret, "host_identifier": "WS-0412", "host_details": {}}),
    )
    .await;
    let enrolled = enrolled.expect(StatusCode::OK).json();
    assert_eq!(enrolled["node_invalid"], false);
    let key = enrolled["node_key"].as_str().unwrap();

    let config = post(&app, "/osquery/config", &json!({"node_key": key})).await.expect(StatusCode::OK);
    assert_eq!(config.json(), json!({"schedule": {}, "node_invalid": false}));

    for _ in 0..2 {
        let result = json!({"node_key": key, "log_type": "result", "data": rows()});
        let reply = post(&app, "/osquery/log", &result).await.expect(StatusCode::OK);
        assert_eq!(reply.text(), r#"{"node_invalid":false}"#);
    }
    assert_eq!(app.count("select count(*) from cpu_sample where pid in (4120, 4121)").await, 2);
    assert_eq!(app.count("select count(*) from cpu_sample").await, 2);

    let status = json!({"node_key": key, "log_type": "status", "data": [{"hostIdentifier": "WS-0412", "severity": "1", "message": "hello", "unixTime": "1772443145"}]});
    post(&app, "/osquery/log", &status).await.expect(StatusCode::OK);
    assert_eq!(app.count("select count(*) from quarantine").await, 0);
    // neither log may hold the key
    assert_eq!(app.count("select count(*) from other_event").await, 2);
}

#[tokio::test]
async fn an_unknown_secret_or_key_makes_the_node_enrol_again() {
    let app = TestApp::new().await;
    let reader = app.token(Scope::Read).await;
    for key in [json!("nonsense"), json!(tokens::mint(&[Scope::Ingest])), json!(reader), Value::Null] {
        for (path, body) in [
            ("/osquery/enroll", json!({"enroll_secret": key})),
            ("/osquery/config", json!({"node_key": key})),
            ("/osquery/log", json!({"node_key": key, "log_type": "result", "data": rows()})),
        ] {
            assert_eq!(
                post(&app, path, &body).await.expect(StatusCode::OK).json(),
                json!({"node_invalid": true}),
                "{path} {key}"
            );
        }
    }
    let secret = app.token(Scope::Ingest).await;
    for body in [json!({"node_key": secret}), json!({"node_key": secret, "log_type": "result"}), json!([])] {
        post(&app, "/osquery/log", &body).await.expect(StatusCode::BAD_REQUEST);
    }
    assert_eq!(app.count("select count(*) from cpu_sample").await, 0);
    assert_eq!(app.count("select count(*) from quarantine").await, 0);
}

#[tokio::test]
async fn the_configuration_is_the_file_of_the_setting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("osquery.json");
    std::fs::write(&path, r#"{"schedule":{"p":{"query":"select 1","interval":60}}}"#).unwrap();
    let settings = Settings { osquery_config: Some(path.clone()), ..Settings::default() };
    let app = TestApp::with(settings, crate::harness::NOW.parse().unwrap()).await;
    let body = json!({"node_key": app.token(Scope::Ingest).await});
    let config = post(&app, "/osquery/config", &body).await.expect(StatusCode::OK).json();
    assert_eq!(config["schedule"]["p"]["interval"], 60);
    std::fs::write(&path, "broken").unwrap();
    post(&app, "/osquery/config", &body).await.expect(StatusCode::SERVICE_UNAVAILABLE);
}
