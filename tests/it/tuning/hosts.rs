//! Tables of hosts and indicators: bad lines are named, good lines beside them count.

use super::put;
use crate::harness::{Answer, TestApp, Who};
use axum::{
    body::Body,
    http::{Method, StatusCode, header},
};
use coalface::model::permission::Scope;
use serde_json::{Value, json};

async fn table(app: &TestApp, who: Who, path: &str, csv: &str) -> Answer {
    let request = app.request(who, Method::POST, path).await.header(header::CONTENT_TYPE, "text/csv");
    app.browser(request.body(Body::from(csv.to_owned())).unwrap()).await
}

#[tokio::test]
async fn a_table_of_hosts_is_taken_line_by_line() {
    let app = TestApp::new().await;
    let csv = "name,tier,class,role,tags\nsrv-1.corp.example,1,server,erp,\"prod;sap\"\nws-1,3,workstation,,\nws-2,9,workstation,,\nws-3,three,,,\n,2,,,\nws 4,2,,,\n";
    let done = table(&app, Who::Program(Scope::Admin), "/api/v1/imports/hosts", csv).await.expect(StatusCode::OK).json();
    assert_eq!((&done["created"], &done["refused"]), (&json!(2), &json!(4)), "{done}");
    let places: Vec<(i64, &str)> = done["errors"].as_array().unwrap().iter().map(|e| (e["line"].as_i64().unwrap(), e["field"].as_str().unwrap())).collect();
    assert_eq!(places, [(4, "tier"), (5, "tier"), (6, "name"), (7, "name")]);
    let host = app.get(Who::Program(Scope::Read), "/api/v1/hosts/srv-1").await.expect(StatusCode::OK).json();
    assert_eq!((&host["tier"], &host["class"], &host["role"], &host["tags"]), (&json!(1), &json!("server"), &json!("erp"), &json!(["prod", "sap"])));

    // Again with one cell: the rest stays.
    let done = table(&app, Who::Program(Scope::Admin), "/api/v1/imports/hosts", "name;role\nsrv-1;crm\nws-1;\n").await.expect(StatusCode::OK).json();
    assert_eq!((&done["created"], &done["changed"], &done["unchanged"]), (&json!(0), &json!(1), &json!(1)), "{done}");
    let host = app.get(Who::Program(Scope::Read), "/api/v1/hosts/srv-1").await.expect(StatusCode::OK).json();
    assert_eq!((&host["tier"], &host["role"]), (&json!(1), &json!("crm")));

    table(&app, Who::Program(Scope::Admin), "/api/v1/imports/hosts", "name,owner\nws-1,kim\n").await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    table(&app, Who::Program(Scope::Triage), "/api/v1/imports/hosts", csv).await.expect(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_table_of_indicators_says_what_is_junk_and_what_is_stale() {
    let app = TestApp::new().await;
    let csv = "value,port,confidence,last_seen,expires_at\npool.example,,high,,\n198.51.100.7,3333,,2025-01-01T00:00:00Z,\n203.0.113.0/24,,low,,\n\
               old.example,,,,2026-01-01T00:00:00Z\nnot a name,,,,\n198.51.100.8,70000,,,\n198.51.100.9,,,yesterday,\n";
    let path = "/api/v1/imports/indicators?source=feed";
    let done = table(&app, Who::Program(Scope::Admin), path, csv).await.expect(StatusCode::OK).json();
    assert_eq!((&done["created"], &done["refused"]), (&json!(4), &json!(3)), "{done}");
    let places: Vec<(i64, &str)> = done["errors"].as_array().unwrap().iter().map(|e| (e["line"].as_i64().unwrap(), e["field"].as_str().unwrap())).collect();
    assert_eq!(places, [(6, "value"), (7, "port"), (8, "last_seen")]);
    let list = app.get(Who::Program(Scope::Read), "/api/v1/indicators").await.expect(StatusCode::OK).json();
    let mut seen: Vec<(&str, &str, &str)> =
        list["items"].as_array().unwrap().iter().map(|i| (i["kind"].as_str().unwrap(), i["value"].as_str().unwrap(), i["standing"].as_str().unwrap())).collect();
    seen.sort_unstable();
    assert_eq!(seen, [("cidr", "203.0.113.0/24", "stale"), ("domain", "old.example", "expired"), ("domain", "pool.example", "fresh"), ("ip", "198.51.100.7", "stale")]);
    assert!(list["items"].as_array().unwrap().iter().all(|i| i["source"] == "feed"));

    // The next day's table brings what changed up to date.
    let next = csv.replace("2025-01-01", "2026-03-01");
    let done = table(&app, Who::Program(Scope::Admin), path, &next).await.expect(StatusCode::OK).json();
    assert_eq!((&done["created"], &done["changed"], &done["unchanged"]), (&json!(0), &json!(1), &json!(3)), "{done}");
    let fresh = app.get(Who::Program(Scope::Read), "/api/v1/indicators?q=198.51.100.7").await.expect(StatusCode::OK).json();
    assert_eq!(fresh["items"][0]["standing"], "fresh");
    let unsourced: Value = table(&app, Who::Program(Scope::Admin), "/api/v1/imports/indicators", "value\nx.example\n").await.expect(StatusCode::OK).json();
    assert_eq!(unsourced["errors"][0]["field"], "source");
    put(&app, Method::POST, "/api/v1/indicators", &json!({"list": "DestinationIPList", "kind": "domain", "value": "pool.example", "source": "x"}), StatusCode::CONFLICT).await;
}
