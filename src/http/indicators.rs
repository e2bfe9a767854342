//! `/api/v1/indicators`: the addresses, networks and names of `DestinationIPList`.

use crate::{
    app::App,
    http::{
        administered::administered,
        api::{self, Body, Filter, Items},
        auth::{Allowed, Read, Tune},
        error::Result,
    },
    model::exceptions::Indicator,
    store::indicators::{self as store, Stored},
};
use axum::{Json, extract::State};
use serde::Deserialize;
use std::sync::Arc;

administered!("/api/v1/indicators", "/api/v1/indicators/{id}", Indicator);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    q: Option<String>,
    limit: Option<i64>,
    cursor: Option<i64>,
}

/// `GET /api/v1/indicators`
pub(crate) async fn list(_: Allowed<Read>, Filter(query): Filter<Query>, State(app): State<Arc<App>>) -> Result<Json<Items<Stored>>> {
    let limit = api::limit(query.limit);
    let filter = store::Filter { id: None, q: query.q, before: query.cursor, limit: Some(limit + 1) };
    let mut conn = app.db.web.acquire().await?;
    Ok(Items::keyed(store::list(&mut conn, &filter).await?, limit, |i| i.id.to_string()))
}
