//! The Elasticsearch routes.

use super::{facts, process_start, quarantined, send, send_as};
use crate::harness::TestApp;
use axum::http::StatusCode;
use serde_json::{Value, json};

fn bulk(verb: &str, documents: &[(&str, String)]) -> String {
    let action = |id: &str| json!({verb: {"_index": "x", "_id": id}}).to_string();
    documents.iter().flat_map(|(id, source)| [action(id), "\n".to_owned(), source.clone(), "\n".to_owned()]).collect()
}

fn statuses(reply: &Value) -> Vec<u64> {
    let items = reply["items"].as_array().unwrap();
    items.iter().map(|item| item.as_object().unwrap().values().next().unwrap()["status"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn each_action_has_its_item_and_a_broken_source_costs_only_itself() {
    let app = TestApp::new().await;
    let body = bulk(
        "create",
        &[("a", process_start(1).to_string()), ("b", "{broken".to_owned()), ("c", process_start(3).to_string())],
    );
    let first = send(&app, "POST", "/_bulk", &[], body.clone()).await.expect(StatusCode::OK);
    assert_eq!(statuses(&first.json()), [201, 400, 201]);
    assert!(first.text().contains(r#""errors":true"#));
    assert_eq!(first.json()["items"][1]["create"]["error"]["type"], "mapper_parsing_exception");
    assert_eq!((facts(&app).await, quarantined(&app).await), (2, 1));
    assert_eq!(app.count("select count(*) from quarantine where raw = '{broken' and protocol = 'elastic'").await, 1);

    let again = send(&app, "POST", "/_bulk", &[], body).await.expect(StatusCode::OK);
    assert_eq!(statuses(&again.json()), [200, 400, 200]);
    assert_eq!((facts(&app).await, quarantined(&app).await), (2, 1));
}

#[tokio::test]
async fn a_batch_that_holds_itself_twice_is_stored_once_and_answered_for_every_copy() {
    let app = TestApp::new().await;
    let body = bulk("index", &[("a", process_start(1).to_string()), ("b", process_start(2).to_string())]).repeat(2);
    let reply = send(&app, "POST", "/_bulk", &[], body).await.expect(StatusCode::OK);
    let statuses = statuses(&reply.json());
    assert!(statuses.len() == 4 && statuses.iter().all(|s| matches!(s, 200 | 201)), "{statuses:?}");
    assert_eq!(facts(&app).await, 2);
}

#[tokio::test]
async fn the_reply_is_what_clients_search_for() {
    let app = TestApp::new().await;
    let mixed =
        format!("{{\"index\":{{}}}}\n{}\n{{\"create\":{{\"_id\":\"b\"}}}}\n{}\n", process_start(1), process_start(2));
    let reply = send(&app, "POST", "/win/_bulk", &[], mixed).await.expect(StatusCode::OK);
    assert!(reply.text().contains(r#""errors":false,"items":[{"index":{"_index":"win","_id":""#), "{}", reply.text());
    assert!(reply.text().ends_with(r#"{"create":{"_index":"win","_id":"b","status":201}}]}"#), "{}", reply.text());

    let body = format!(
        "{{\"delete\":{{\"_id\":\"d\"}}}}\n{{\"update\":{{\"_id\":\"u\"}}}}\n{{\"doc\":{{}}}}\n{{\"create\":{{}}}}\n{}\n",
        process_start(3)
    );
    let reply = send(&app, "POST", "/_bulk", &[], body).await.expect(StatusCode::OK);
    assert_eq!(statuses(&reply.json()), [400, 400, 201]);
    assert_eq!(app.count("select count(*) from quarantine where reason = 'unsupported_action'").await, 2);
}

#[tokio::test]
async fn every_route_takes_a_batch_and_every_reply_names_the_product() {
    let app = TestApp::new().await;
    let body = bulk("create", &[("a", process_start(1).to_string())]);
    for (method, path) in
        [("PUT", "/_bulk"), ("POST", "/win/_bulk"), ("POST", "/elastic/_bulk"), ("POST", "/elastic/win/_bulk/")]
    {
        let reply = send(&app, method, path, &[("content-type", "application/x-ndjson")], body.clone())
            .await
            .expect(StatusCode::OK);
        assert_eq!(reply.header("x-elastic-product"), "Elasticsearch");
        assert_eq!(reply.header("content-type"), "application/json");
    }
    assert_eq!(facts(&app).await, 1);

    for (reply, status) in [
        (send(&app, "POST", "/_bulk", &[], "").await, StatusCode::BAD_REQUEST),
        (send_as(&app, "POST", "/_bulk", &[], body.clone()).await, StatusCode::UNAUTHORIZED),
        (send(&app, "GET", "/win/_search", &[], "").await, StatusCode::NOT_FOUND),
        (
            send(&app, "POST", "/_bulk", &[("content-length", "99999999")], body.clone()).await,
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
    ] {
        let reply = reply.expect(status);
        assert_eq!(reply.header("x-elastic-product"), "Elasticsearch");
        assert_eq!(reply.header("content-type"), "application/json");
        assert_eq!(reply.json()["status"], status.as_u16());
    }
}

#[tokio::test]
async fn clients_that_ask_first_hear_what_lets_them_send() {
    let app = TestApp::new().await;
    let root = send(&app, "GET", "/elastic", &[("user-agent", "Elastic-Winlogbeat/9.1.0 (windows; amd64)")], "")
        .await
        .expect(StatusCode::OK);
    assert_eq!(root.json()["version"]["number"], "9.1.0");
    assert_eq!(send(&app, "GET", "/", &[], "").await.json()["version"]["number"], "8.17.0");
    for (method, path, expected) in [
        (
            "GET",
            "/_license",
            json!({"license": {"uid": "coalface", "type": "basic", "status": "active", "expiry_date_in_millis": 4_000_000_000_000_u64}}),
        ),
        (
            "GET",
            "/_cluster/health",
            json!({"cluster_name": "coalface", "status": "green", "timed_out": false, "number_of_nodes": 1}),
        ),
        ("GET", "/_nodes/http", json!({"nodes": {}})),
        ("GET", "/_ingest/pipeline/x", json!({})),
        ("PUT", "/_index_template/x", json!({"acknowledged": true})),
    ] {
        assert_eq!(send(&app, method, path, &[], "{}").await.expect(StatusCode::OK).json(), expected, "{path}");
        send_as(&app, method, path, &[], "").await.expect(StatusCode::UNAUTHORIZED);
    }
    send(&app, "GET", "/_cat/health", &[], "").await.expect(StatusCode::OK);
    send(&app, "HEAD", "/winlogbeat-9", &[], "").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn single_documents_are_stored_under_the_clients_id() {
    let app = TestApp::new().await;
    let document = process_start(1).to_string();
    let reply = send(&app, "PUT", "/win/_create/a1", &[], document.clone()).await.expect(StatusCode::CREATED);
    assert_eq!(reply.text(), r#"{"_index":"win","_id":"a1","result":"created","_version":1}"#);
    send(&app, "POST", "/win/_doc/a1", &[], document).await.expect(StatusCode::OK);
    let refused = send(&app, "POST", "/win/_doc", &[], "{broken").await.expect(StatusCode::BAD_REQUEST);
    assert_eq!(refused.json()["error"]["type"], "mapper_parsing_exception");
    assert_eq!((facts(&app).await, quarantined(&app).await), (1, 1));
}
