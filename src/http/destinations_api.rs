//! `/api/v1/destinations`: who talks where, and how many hosts share it.

use crate::{
    app::App,
    http::{
        api::{self, Filter, Items},
        auth::{Allowed, Read},
        error::Result,
    },
    store::prevalence::{self, Destination},
};
use axum::{Json, extract::State};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use std::sync::Arc;

crate::http::route_table! {
    get "/api/v1/destinations" Read => list;
}

/// Span when the caller does not say: the one that prevalence counts. Source: detection design, section 3.7.
const USUAL: TimeDelta = TimeDelta::days(30);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    q: Option<String>,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// `GET /api/v1/destinations`
pub(crate) async fn list(_: Allowed<Read>, Filter(query): Filter<Query>, State(app): State<Arc<App>>) -> Result<Json<Items<Destination>>> {
    let mut conn = app.db.web.acquire().await?;
    let latest = prevalence::latest_event(&mut conn).await?.unwrap_or_else(|| app.clock.now());
    let until = query.until.unwrap_or(latest + TimeDelta::seconds(1));
    let limit = api::limit(query.limit);
    let filter =
        prevalence::Filter { q: query.q, since: query.since.unwrap_or(until - USUAL), until, after: query.cursor, limit: limit + 1 };
    Ok(Items::keyed(prevalence::list(&mut conn, &filter).await?, limit, |d| d.destination.clone()))
}
