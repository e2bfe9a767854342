//! What people tune, through the front door: windows, hosts, settings, learned baselines, and what that does to detections.

mod agent;
mod hosts;
mod incidents;
mod learned;
mod settings;
mod windows;

use crate::harness::{TestApp, Who};
use agent::Agent;
use axum::http::{Method, StatusCode};
use coalface::model::permission::Scope;
use serde_json::Value;

/// The usual run: an hour and a half at 90 % on a host nobody described.
const CRUNCH: Agent = Agent { host: "srv-7", number: 7, start: "2026-03-01T22:10:00Z", minutes: 90, share: 0.9, swing: 0.0 };

/// A write of an administrator's program.
async fn put(app: &TestApp, method: Method, path: &str, body: &Value, want: StatusCode) -> Value {
    app.api(Who::Program(Scope::Admin), method, path, body).await.expect(want).json()
}

/// The only detection there is, whatever its verdict.
async fn only(app: &TestApp) -> Value {
    let list = app.get(Who::Program(Scope::Read), "/api/v1/detections?verdict=all").await.expect(StatusCode::OK).json();
    let [one] = list["items"].as_array().unwrap().as_slice() else { panic!("one detection, got {list:#}") };
    one.clone()
}
