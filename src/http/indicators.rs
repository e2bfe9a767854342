//! `/api/v1/indicators`: the addresses, networks and names of `DestinationIPList`.

use crate::{
    app::App,
    http::{
        administered::administered,
        api::{self, Body, Filter, Items},
        auth::{Allowed, Read, Tune},
        error::Result,
    },
    model::exceptions::{Indicator, Standing},
    store::indicators::{self as store, Stored},
};
use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

administered!("/api/v1/indicators", "/api/v1/indicators/{id}", Indicator);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    q: Option<String>,
    limit: Option<i64>,
    cursor: Option<i64>,
}

/// An indicator with how far it is believed now.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    #[serde(flatten)]
    stored: Stored,
    standing: Standing,
}

/// `GET /api/v1/indicators`
pub(crate) async fn list(_: Allowed<Read>, Filter(query): Filter<Query>, State(app): State<Arc<App>>) -> Result<Json<Items<Listed>>> {
    let limit = api::limit(query.limit);
    let filter = store::Filter { id: None, q: query.q, before: query.cursor, limit: Some(limit + 1) };
    let mut conn = app.db.web.acquire().await?;
    let now = app.clock.now();
    let rows = store::list(&mut conn, &filter).await?.into_iter();
    let rows = rows.map(|stored| Listed { standing: stored.body.standing(now), stored }).collect();
    Ok(Items::keyed(rows, limit, |i| i.stored.id.to_string()))
}
