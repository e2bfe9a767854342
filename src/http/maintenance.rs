//! `/api/v1/maintenance-windows`: load that people announced.

use crate::{
    app::App,
    http::{
        api::{self, Body, Items, exists},
        auth::{Allowed, Read, Tune},
        error::{Error, Result},
        paths,
    },
    model::exceptions::{self, Window},
    store::maintenance::{self as store, Stored},
};
use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde_json::{Map, Value};
use sqlx::PgConnection;
use std::sync::Arc;

crate::http::route_table! {
    get    "/api/v1/maintenance-windows"      Read => list;
    post   "/api/v1/maintenance-windows"      Tune => create;
    get    "/api/v1/maintenance-windows/{id}" Read => show;
    patch  "/api/v1/maintenance-windows/{id}" Tune => edit;
    delete "/api/v1/maintenance-windows/{id}" Tune => remove;
}

/// `GET /api/v1/maintenance-windows`
pub(crate) async fn list(_: Allowed<Read>, State(app): State<Arc<App>>) -> Result<Json<Items<Stored>>> {
    let mut conn = app.db.web.acquire().await?;
    Ok(Items::all(store::list(&mut conn).await?))
}

async fn find(conn: &mut PgConnection, at: &paths::Numbered) -> Result<Stored> {
    store::find(conn, at.id.0).await?.ok_or(Error::NotFound)
}

/// `GET /api/v1/maintenance-windows/{id}`
pub(crate) async fn show(_: Allowed<Read>, at: paths::Numbered, State(app): State<Arc<App>>) -> Result<Json<Stored>> {
    let mut conn = app.db.web.acquire().await?;
    Ok(Json(find(&mut conn, &at).await?))
}

/// `POST /api/v1/maintenance-windows`: in force at once, for the event times it names.
pub(crate) async fn create(who: Allowed<Tune>, State(app): State<Arc<App>>, Body(body): Body<Window>) -> Result<Response> {
    body.check()?;
    let mut tx = app.db.web.begin().await?;
    let made = store::create(&mut tx, body, &who.actor, app.clock.now()).await?.map_err(exists)?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(api::created(&format!("/api/v1/maintenance-windows/{}", made.id), &made))
}

/// `PATCH /api/v1/maintenance-windows/{id}`: replaces the fields that are given.
pub(crate) async fn edit(
    who: Allowed<Tune>,
    at: paths::Numbered,
    State(app): State<Arc<App>>,
    Body(patch): Body<Map<String, Value>>,
) -> Result<Json<Stored>> {
    let mut tx = app.db.web.begin().await?;
    let before = find(&mut tx, &at).await?;
    let body: Window = exceptions::amended(&before.body, patch).map_err(|e| Error::Malformed(e.to_string()))?;
    body.check()?;
    let after = store::edit(&mut tx, &before, body, &who.actor, app.clock.now()).await?.map_err(exists)?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(Json(after))
}

/// `DELETE /api/v1/maintenance-windows/{id}`
pub(crate) async fn remove(who: Allowed<Tune>, at: paths::Numbered, State(app): State<Arc<App>>) -> Result<StatusCode> {
    let mut tx = app.db.web.begin().await?;
    let before = find(&mut tx, &at).await?;
    store::remove(&mut tx, &before, &who.actor, app.clock.now()).await?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(StatusCode::NO_CONTENT)
}
