//! `/api/v1/baselines/learned`: what the engine learned of usual load, and how it drifts. Approving one is `POST /api/v1/baselines`.

use crate::{
    app::App,
    http::{
        api::{self, Filter, Items},
        auth::{Allowed, Read},
        error::Result,
    },
    store::profiles::{self, Learned},
};
use axum::{Json, extract::State};
use serde::Deserialize;
use std::sync::Arc;

crate::http::route_table! {
    get "/api/v1/baselines/learned" Read => list;
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    class: Option<String>,
    q: Option<String>,
    drifted_by: Option<f64>,
    limit: Option<i64>,
}

/// `GET /api/v1/baselines/learned`
pub(crate) async fn list(_: Allowed<Read>, Filter(query): Filter<Query>, State(app): State<Arc<App>>) -> Result<Json<Items<Learned>>> {
    let filter = profiles::Filter { host_class: query.class, q: query.q, drifted_by: query.drifted_by, limit: api::limit(query.limit) };
    let mut conn = app.db.web.acquire().await?;
    Ok(Items::all(profiles::list(&mut conn, &filter).await?))
}
