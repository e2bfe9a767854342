//! Maintenance windows that repeat, and what happens when a run outlives one.

use super::{CRUNCH, only, put};
use crate::harness::TestApp;
use axum::http::{Method, StatusCode};
use serde_json::json;

#[tokio::test]
async fn a_window_of_a_rule_covers_the_run_inside_and_none_that_outlives_it() {
    let app = TestApp::new().await;
    app.send(&[CRUNCH.beginning(), CRUNCH.load(0, 60)].concat()).await;
    app.settle().await;
    assert_eq!(only(&app).await["verdict"], "alert");

    // Weekly, announced for the weeks before; the run lies in the third opening.
    let window = json!({"name": "month end", "scope": {"hosts": ["srv-7"]}, "starts_at": "2026-02-15T22:00:00Z", "ends_at": "2026-02-15T23:10:00Z",
        "recurrence": "FREQ=WEEKLY;COUNT=5", "reason": "closing the books"});
    let made = put(&app, Method::POST, "/api/v1/maintenance-windows", &window, StatusCode::CREATED).await;
    assert_eq!(made["starts"].as_array().unwrap().len(), 5);
    put(&app, Method::POST, "/api/v1/maintenance-windows", &window, StatusCode::CONFLICT).await;
    app.settle().await;
    let covered = only(&app).await;
    assert_eq!((&covered["verdict"], &covered["classes"]["R"]["state"]), (&json!("suppressed"), &json!("suppressed")));
    let load = covered["evidence"].as_array().unwrap().iter().find(|e| e["code"] == "R.PERSISTENT").unwrap();
    assert_eq!(load["suppressed_by"], made["label"]);

    // It goes on after the window and its quarter of an hour: the run counts, from its beginning.
    app.send(&CRUNCH.load(60, 90)).await;
    app.settle().await;
    let outlived = only(&app).await;
    assert_eq!((&outlived["verdict"], &outlived["first_seen"]), (&json!("alert"), &json!("2026-03-01T22:10:00Z")));

    // A longer window covers it again; taken back, nothing is hidden.
    let path = format!("/api/v1/maintenance-windows/{}", made["id"].as_str().unwrap());
    put(&app, Method::PATCH, &path, &json!({"ends_at": "2026-02-16T01:00:00Z"}), StatusCode::OK).await;
    app.settle().await;
    assert_eq!(only(&app).await["verdict"], "suppressed");
    app.api(crate::harness::Who::Program(coalface::model::permission::Scope::Admin), Method::DELETE, &path, &json!({})).await.expect(StatusCode::NO_CONTENT);
    app.settle().await;
    assert_eq!(only(&app).await["verdict"], "alert");
}

#[tokio::test]
async fn a_rule_without_an_end_is_refused_by_name() {
    let app = TestApp::new().await;
    let window = |rule: &str| {
        json!({"name": "nights", "scope": {"class": "server"}, "starts_at": "2026-03-01T22:00:00Z", "ends_at": "2026-03-02T02:00:00Z",
            "recurrence": rule, "reason": "patches"})
    };
    for (rule, says) in [("FREQ=DAILY;BYDAY=SU", "never ends"), ("FREQ=DAILY;COUNT=9", "24 hours of any 7 days"), ("every night", "RRULE")] {
        let refused = put(&app, Method::POST, "/api/v1/maintenance-windows", &window(rule), StatusCode::UNPROCESSABLE_ENTITY).await;
        assert!(refused.to_string().contains("recurrence") && refused.to_string().contains(says), "{rule}: {refused}");
    }
    let made = put(&app, Method::POST, "/api/v1/maintenance-windows", &window("FREQ=WEEKLY;UNTIL=20260601T000000Z"), StatusCode::CREATED).await;
    let path = format!("/api/v1/maintenance-windows/{}", made["id"].as_str().unwrap());
    put(&app, Method::PATCH, &path, &json!({"recurrence": "FREQ=WEEKLY"}), StatusCode::UNPROCESSABLE_ENTITY).await;
}
