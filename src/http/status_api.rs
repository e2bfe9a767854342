//! `/api/v1/status`: what arrived, what waits, what the worker did last.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Read},
        error::Result,
    },
    store::status::{self, Status},
};
use axum::{Json, extract::State};
use std::sync::Arc;

crate::http::route_table! {
    get "/api/v1/status" Read => show;
}

/// `GET /api/v1/status`
pub(crate) async fn show(_: Allowed<Read>, State(app): State<Arc<App>>) -> Result<Json<Status>> {
    let mut conn = app.db.web.acquire().await?;
    Ok(Json(status::read(&mut conn, app.clock.now()).await?))
}
