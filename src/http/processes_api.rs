//! `/api/v1/processes/{id}/tree`: ancestors and descendants.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Read},
        error::{Error, Result},
        paths,
    },
    store::lineage::{self, Tree},
};
use axum::{Json, extract::State};
use std::sync::Arc;

crate::http::route_table! {
    get "/api/v1/processes/{id}/tree" Read => tree;
}

/// `GET /api/v1/processes/{id}/tree`
pub(crate) async fn tree(_: Allowed<Read>, at: paths::ApiProcess, State(app): State<Arc<App>>) -> Result<Json<Tree>> {
    let mut conn = app.db.web.acquire().await?;
    Ok(Json(lineage::tree(&mut conn, at.id).await?.ok_or(Error::NotFound)?))
}
