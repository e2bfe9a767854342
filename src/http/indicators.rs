//! `/api/v1/indicators`: the addresses, networks and names of `DestinationIPList`.

use crate::{
    app::App,
    http::{
        api::{self, Body, Filter, Items, exists},
        auth::{Allowed, Read, Tune},
        error::{Error, Result},
        paths,
    },
    model::exceptions::{self, Indicator},
    store::indicators::{self as store, Stored},
};
use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use sqlx::PgConnection;
use std::sync::Arc;

crate::http::route_table! {
    get    "/api/v1/indicators"      Read => list;
    post   "/api/v1/indicators"      Tune => create;
    get    "/api/v1/indicators/{id}" Read => show;
    patch  "/api/v1/indicators/{id}" Tune => edit;
    delete "/api/v1/indicators/{id}" Tune => remove;
}

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

async fn find(conn: &mut PgConnection, at: &paths::Numbered) -> Result<Stored> {
    store::find(conn, at.id.0).await?.ok_or(Error::NotFound)
}

/// `GET /api/v1/indicators/{id}`
pub(crate) async fn show(_: Allowed<Read>, at: paths::Numbered, State(app): State<Arc<App>>) -> Result<Json<Stored>> {
    let mut conn = app.db.web.acquire().await?;
    Ok(Json(find(&mut conn, &at).await?))
}

/// `POST /api/v1/indicators`: in force at once, for the event times it names.
pub(crate) async fn create(who: Allowed<Tune>, State(app): State<Arc<App>>, Body(body): Body<Indicator>) -> Result<Response> {
    let body = body.checked()?;
    let mut tx = app.db.web.begin().await?;
    let made = store::create(&mut tx, &body, &who.actor, app.clock.now()).await?.map_err(exists)?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(api::created(&format!("/api/v1/indicators/{}", made.id), &made))
}

/// `PATCH /api/v1/indicators/{id}`: replaces the fields that are given.
pub(crate) async fn edit(
    who: Allowed<Tune>,
    at: paths::Numbered,
    State(app): State<Arc<App>>,
    Body(patch): Body<Map<String, Value>>,
) -> Result<Json<Stored>> {
    let mut tx = app.db.web.begin().await?;
    let before = find(&mut tx, &at).await?;
    let body: Indicator = exceptions::amended(&before.body, patch).map_err(|e| Error::Malformed(e.to_string()))?;
    let body = body.checked()?;
    let after = store::edit(&mut tx, &before, body, &who.actor, app.clock.now()).await?.map_err(exists)?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(Json(after))
}

/// `DELETE /api/v1/indicators/{id}`
pub(crate) async fn remove(who: Allowed<Tune>, at: paths::Numbered, State(app): State<Arc<App>>) -> Result<StatusCode> {
    let mut tx = app.db.web.begin().await?;
    let before = find(&mut tx, &at).await?;
    store::remove(&mut tx, &before, &who.actor, app.clock.now()).await?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(StatusCode::NO_CONTENT)
}
