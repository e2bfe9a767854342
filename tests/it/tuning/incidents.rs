//! Campaigns across hosts, and the runbook of a detection.

use super::{CRUNCH, agent::{Agent, SERVER}, only, put};
use crate::harness::{TestApp, Who};
use axum::http::{Method, StatusCode};
use coalface::model::permission::Scope;
use serde_json::{Value, json};

async fn campaigns(app: &TestApp) -> Vec<Value> {
    app.get(Who::Program(Scope::Read), "/api/v1/campaigns").await.expect(StatusCode::OK).json()["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn hosts_that_share_a_rare_thing_within_a_week_are_one_campaign() {
    let app = TestApp::new().await;
    app.send(&CRUNCH.whole()).await;
    app.settle().await;
    assert!(campaigns(&app).await.is_empty(), "one host is none");
    let other = Agent { host: "ws-8", number: 8, start: "2026-02-27T01:00:00Z", ..CRUNCH };
    app.send(&other.whole()).await;
    app.settle().await;
    let all = campaigns(&app).await;
    let [one] = all.as_slice() else { panic!("one, got {all:#?}") };
    assert_eq!((&one["hosts"], &one["open"], &one["verdict"]), (&json!(["ws-8", "srv-7"]), &json!(2), &json!("alert")));
    assert_eq!(one["first_seen"], "2026-02-27T01:00:00Z");
    let kinds: Vec<&str> = one["shared"].as_array().unwrap().iter().map(|s| s["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["destination", "sha256", "task"]);
    assert_eq!((&one["shared"][0]["value"], &one["shared"][0]["hosts"]), (&json!(SERVER), &json!(2)));
    let list = app.get(Who::Program(Scope::Read), "/api/v1/detections").await.expect(StatusCode::OK).json();
    assert!(list["items"].as_array().unwrap().iter().all(|d| d["campaign"] == one["name"]));
    let path = format!("/api/v1/campaigns/{}", one["name"].as_str().unwrap());
    assert_eq!(app.get(Who::Program(Scope::Read), &path).await.expect(StatusCode::OK).json(), *one);
    app.get(Who::Program(Scope::Read), "/api/v1/campaigns/C-1").await.expect(StatusCode::NOT_FOUND);

    // What an entry hides is no campaign any more.
    let entry = json!({"match": {"sha256": "7a1c".repeat(16), "image": super::agent::IMAGE, "destination": SERVER}, "scope": {"hosts": ["ws-8"]},
        "covers": ["R", "L", "P", "N", "M"], "reason": "ours"});
    put(&app, Method::POST, "/api/v1/allowlist", &entry, StatusCode::CREATED).await;
    app.settle().await;
    assert!(campaigns(&app).await.is_empty());
    assert_eq!(app.count("select count(*) from detection where campaign is not null").await, 0);
}

#[tokio::test]
async fn three_hosts_within_a_day_raise_the_severity_of_each() {
    let app = TestApp::new().await;
    let agent = |number: u8, host: &'static str, start: &'static str| Agent { host, number, start, ..CRUNCH };
    let reasons = async || -> Vec<String> {
        let list = app.get(Who::Program(Scope::Read), "/api/v1/detections").await.expect(StatusCode::OK).json();
        let mut found = Vec::new();
        for item in list["items"].as_array().unwrap() {
            let path = format!("/api/v1/detections/{}", item["id"].as_str().unwrap());
            let one = app.get(Who::Program(Scope::Read), &path).await.expect(StatusCode::OK).json();
            found.push(one["severity_reasons"].to_string());
        }
        found
    };
    app.send(&agent(7, "srv-7", "2026-02-27T01:00:00Z").whole()).await;
    app.send(&agent(8, "ws-8", "2026-02-27T05:00:00Z").whole()).await;
    app.settle().await;
    let two = reasons().await;
    assert!(two.len() == 2 && two.iter().all(|reasons| !reasons.contains("three hosts")), "{two:?}");
    app.send(&agent(9, "ws-9", "2026-02-27T09:00:00Z").whole()).await;
    app.settle().await;
    let three = reasons().await;
    assert!(three.len() == 3 && three.iter().all(|reasons| reasons.contains("at least three hosts share it within 24 hours: destination")), "{three:?}");
}

#[tokio::test]
async fn what_goes_on_after_a_true_positive_is_a_new_detection_and_weighs_more() {
    let app = TestApp::new().await;
    app.send(&Agent { minutes: 45, ..CRUNCH }.whole()).await;
    app.settle().await;
    let first = only(&app).await["id"].clone();
    let closed = json!({"status": "closed", "disposition": "true_positive"});
    put(&app, Method::PATCH, &format!("/api/v1/detections/{}", first.as_str().unwrap()), &closed, StatusCode::OK).await;
    app.send(&CRUNCH.load(45, 90)).await;
    app.settle().await;
    let open = app.get(Who::Program(Scope::Read), "/api/v1/detections?status=new").await.expect(StatusCode::OK).json();
    let [again] = open["items"].as_array().unwrap().as_slice() else { panic!("one, got {open:#}") };
    assert_ne!(again["id"], first);
    let path = format!("/api/v1/detections/{}", again["id"].as_str().unwrap());
    let again = app.get(Who::Program(Scope::Read), &path).await.expect(StatusCode::OK).json();
    assert_eq!(again["recurrence_of"], first);
    assert!(again["severity_reasons"].to_string().contains("goes on after it was closed as a true positive"), "{}", again["severity_reasons"]);
}

#[tokio::test]
async fn a_detection_is_quiet_when_its_host_goes_on_without_it() {
    let app = TestApp::new().await;
    app.send(&CRUNCH.whole()).await;
    app.settle().await;
    assert_eq!(only(&app).await["quiet"], false);
    let idle = Agent { start: "2026-03-03T09:00:00Z", share: 0.01, ..CRUNCH };
    app.send(&idle.load(0, 10)).await;
    app.settle().await;
    assert_eq!(only(&app).await["quiet"], true);
}

#[tokio::test]
async fn a_runbook_is_ticked_with_who_and_when() {
    let app = TestApp::new().await;
    app.send(&CRUNCH.whole()).await;
    app.settle().await;
    let path = format!("/api/v1/detections/{}/runbook", only(&app).await["id"].as_str().unwrap());
    let book = app.get(Who::Program(Scope::Read), &path).await.expect(StatusCode::OK).json();
    let ids: Vec<&str> = book["items"].as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap()).collect();
    for id in ["load-shape", "launch-root", "network-destination", "connection-held", "capture", "verify"] {
        assert!(ids.contains(&id), "{id} in {ids:?}");
    }
    assert!(!ids.contains(&"defence"), "nothing of class A was seen");
    assert!(book["items"].as_array().unwrap().iter().all(|s| s["done"].is_null()));

    let step = format!("{path}/load-owner");
    let tick = async |who: Who, body: Value, want: StatusCode| app.api(who, Method::PUT, &step, &body).await.expect(want).json();
    let done = |book: &Value| book["items"].as_array().unwrap().iter().find(|s| s["id"] == "load-owner").unwrap()["done"].clone();
    let book = tick(Who::Program(Scope::Triage), json!({"done": true, "note": "nobody ordered it"}), StatusCode::OK).await;
    assert_eq!(done(&book), json!({"by": "console:program-triage", "at": "2026-03-02T10:00:00Z", "note": "nobody ordered it"}));
    // Somebody else does not take it over by ticking it again.
    let book = tick(Who::OtherProgram(Scope::Triage), json!({"done": true}), StatusCode::OK).await;
    assert_eq!(done(&book)["by"], "console:program-triage");
    let book = tick(Who::OtherProgram(Scope::Triage), json!({"done": false}), StatusCode::OK).await;
    assert!(done(&book).is_null());
    assert_eq!(app.count("select count(*) from detection_journal where action = 'runbook'").await, 2);
    tick(Who::Program(Scope::Triage), json!({"done": true, "note": "x".repeat(2_001)}), StatusCode::UNPROCESSABLE_ENTITY).await;
    tick(Who::Program(Scope::Triage), json!({"done": true, "colour": 1}), StatusCode::BAD_REQUEST).await;
    tick(Who::Program(Scope::Read), json!({"done": true}), StatusCode::FORBIDDEN).await;
    app.api(Who::Program(Scope::Triage), Method::PUT, &format!("{path}/no-such-step"), &json!({"done": true})).await.expect(StatusCode::NOT_FOUND);
}
