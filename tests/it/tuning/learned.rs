//! Baselines that are learned: what is usual counts for a run, what may be an attack is not learned.

use super::{CRUNCH, agent::Agent, only, put};
use crate::harness::{TestApp, Who};
use axum::http::{Method, StatusCode};
use coalface::model::permission::Scope;
use serde_json::{Value, json};

/// Load of the agent's group on the host in every hour of days before the week of the run, as passes would have left it.
async fn history(app: &TestApp, host: &str, first: &str, days: i32, share: f32) {
    sqlx::query(
        "insert into cpu_bucket (host_id, bucket, group_key, share, cores, covered_seconds)
         select h.host_id, b, (select group_key from process where image ilike '%crunch.exe' limit 1), $4 + extract(minute from b)::real / 10, $4 / 12.5, 300
         from host h cross join generate_series($2::timestamptz, $2::timestamptz + $3 * interval '1 day' - interval '1 hour', interval '1 hour') as b
         where h.name = $1 on conflict do nothing",
    )
    .bind(host)
    .bind(first.parse::<chrono::DateTime<chrono::Utc>>().unwrap())
    .bind(days)
    .bind(share)
    .execute(app.db().pool())
    .await
    .unwrap();
    sqlx::query("update load_week set stale = true").execute(app.db().pool()).await.unwrap();
}

async fn learned(app: &TestApp, query: &str) -> Vec<Value> {
    let list = app.get(Who::Program(Scope::Read), &format!("/api/v1/baselines/learned?{query}")).await.expect(StatusCode::OK).json();
    list["items"].as_array().unwrap().clone()
}

async fn hosts(app: &TestApp, count: u8) {
    for n in 1..=count {
        let body = json!({"name": format!("lab-{n}"), "class": "Lab"});
        put(app, Method::POST, "/api/v1/hosts", &body, StatusCode::CREATED).await;
    }
    put(app, Method::POST, "/api/v1/hosts", &json!({"name": "srv-7", "class": "lab"}), StatusCode::OK).await;
}

/// A run on Thursday; its week begins on Monday, 23 February.
const RUN: Agent = Agent { start: "2026-02-26T22:10:00Z", ..CRUNCH };

fn codes(detection: &Value) -> Vec<&str> {
    detection["evidence"].as_array().unwrap().iter().map(|e| e["code"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_a_class_usually_does_speaks_for_a_run_and_what_it_never_does_against_it() {
    let app = TestApp::new().await;
    app.send(&RUN.whole()).await;
    app.settle().await;
    assert!(learned(&app, "").await.is_empty(), "nothing was there before");
    hosts(&app, 5).await;
    for n in 1..=5 {
        history(&app, &format!("lab-{n}"), "2026-01-26T00:00:00Z", 28, 88.0).await;
    }
    app.settle().await;
    let all = learned(&app, "class=LAB").await;
    let [one] = all.as_slice() else { panic!("one, got {all:#?}") };
    assert_eq!((&one["week"], &one["hosts"], &one["days"], &one["host_class"]), (&json!("2026-02-23"), &json!(5), &json!(28), &json!("lab")));
    assert!((one["p95"].as_f64().unwrap() - 88.0).abs() < 1.0, "{one}");
    assert!(one["image"].as_str().unwrap().ends_with("crunch.exe"));
    let usual = only(&app).await;
    assert!(codes(&usual).contains(&"B.BASELINE"), "{:?}", codes(&usual));
    assert!(!codes(&usual).contains(&"R.ANOM"));

    // Somebody approves less than it does: that is drift, too.
    put(&app, Method::POST, "/api/v1/baselines", &json!({"image": "*\\crunch.exe", "host_class": "lab", "cpu_share": 60.0}), StatusCode::CREATED).await;
    assert_eq!(learned(&app, "drifted_by=20").await[0]["approved"], json!(60.0));
    assert!(learned(&app, "drifted_by=40").await.is_empty());
}

#[tokio::test]
async fn a_run_far_above_the_profile_is_an_anomaly() {
    let app = TestApp::new().await;
    app.send(&RUN.whole()).await;
    app.settle().await;
    hosts(&app, 5).await;
    for n in 1..=5 {
        history(&app, &format!("lab-{n}"), "2026-01-26T00:00:00Z", 28, 6.0).await;
    }
    app.settle().await;
    let found = only(&app).await;
    assert!(codes(&found).contains(&"R.ANOM") && !codes(&found).contains(&"B.BASELINE"), "{:?}", codes(&found));
}

#[tokio::test]
async fn what_may_be_an_attack_is_not_learned_until_somebody_calls_it_expected() {
    let app = TestApp::new().await;
    // The same load a week earlier, and it was an alert.
    let earlier = Agent { start: "2026-02-17T22:10:00Z", ..CRUNCH };
    app.send(&earlier.whole()).await;
    app.settle().await;
    let first = only(&app).await;
    assert_eq!(first["verdict"], "alert");
    hosts(&app, 4).await;
    for n in 1..=4 {
        history(&app, &format!("lab-{n}"), "2026-01-26T00:00:00Z", 28, 88.0).await;
    }
    history(&app, "srv-7", "2026-02-17T00:00:00Z", 1, 88.0).await;
    sqlx::query("insert into load_week (week, stale) values ('2026-02-23', true) on conflict (week) do update set stale = true").execute(app.db().pool()).await.unwrap();
    app.settle().await;
    let hosts_of = async || learned(&app, "").await.first().map(|l| l["hosts"].clone());
    assert_eq!(hosts_of().await, Some(json!(4)), "the day of the alert is left out");
    let path = format!("/api/v1/detections/{}", first["id"].as_str().unwrap());
    app.api(Who::Program(Scope::Triage), Method::PATCH, &path, &json!({"status": "closed", "disposition": "benign_positive"})).await.expect(StatusCode::OK);
    app.settle().await;
    assert_eq!(hosts_of().await, Some(json!(5)));
}
