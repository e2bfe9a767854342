//! `/admin`: how the program is doing, and the way to what can be administered.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Audit},
        error::Result,
        filters,
        page::{self, Chrome, Section},
    },
    store::status::{self, Status},
};
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use chrono::TimeDelta;
use std::sync::Arc;

crate::http::route_table! {
    get "/admin" Audit => show;
}

#[derive(Template)]
#[template(path = "admin/overview.html")]
struct OverviewPage {
    chrome: Chrome,
    status: Status,
    lag: TimeDelta,
    rules: usize,
}

/// `GET /admin`
pub(crate) async fn show(who: Allowed<Audit>, State(app): State<Arc<App>>) -> Result<Response> {
    let now = app.clock.now();
    let mut conn = app.db.web.acquire().await?;
    let status = status::read(&mut conn, now).await?;
    let page = OverviewPage {
        chrome: Chrome::load(&mut conn, &who, Section::Admin, now).await?,
        lag: TimeDelta::milliseconds((status.worker.lag_seconds * 1_000.0) as i64),
        rules: app.rules.rules().filter(|r| r.evidence.is_ok()).count(),
        status,
    };
    page::render(StatusCode::OK, &page)
}
