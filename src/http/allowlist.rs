//! `/api/v1/allowlist`: entries, what they would hide, and who stands behind them. The pages are in `allowlist_pages`.

use crate::{
    app::App,
    http::{
        api::{self, Body, Items, person},
        auth::{Allowed, Approve, Propose, Read, Triage, Tune},
        error::{Error, Result},
        paths,
    },
    model::{exceptions::EntryBody, preview::Preview},
    store::allowlist::{self as store, Stored},
};
use axum::{Json, extract::State, response::Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;

crate::http::route_table! {
    get    "/api/v1/allowlist"              Read    => list;
    post   "/api/v1/allowlist"              Propose => create;
    post   "/api/v1/allowlist/preview"      Triage  => preview;
    get    "/api/v1/allowlist/{id}"         Read    => show;
    patch  "/api/v1/allowlist/{id}"         Tune    => edit;
    delete "/api/v1/allowlist/{id}"         Tune    => revoke;
    post   "/api/v1/allowlist/{id}/approve" Approve => approve;
}

/// `GET /api/v1/allowlist`
pub(crate) async fn list(_: Allowed<Read>, State(app): State<Arc<App>>) -> Result<Json<Items<Stored>>> {
    let mut conn = app.db.web.acquire().await?;
    Ok(Items::all(store::list(&mut conn, app.clock.now()).await?))
}

/// `GET /api/v1/allowlist/{id}`
pub(crate) async fn show(_: Allowed<Read>, at: paths::Numbered, State(app): State<Arc<App>>) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let found = store::find(&mut conn, at.id.0, app.clock.now()).await?.ok_or(Error::NotFound)?;
    Ok(api::versioned(found.version, &found))
}

/// `POST /api/v1/allowlist`: `active` at once, or `proposed` until enough people stand behind it.
pub(crate) async fn create(who: Allowed<Propose>, State(app): State<Arc<App>>, Body(body): Body<EntryBody>) -> Result<Response> {
    let mut tx = app.db.web.begin().await?;
    let made = store::create(&mut tx, body, person(&who), app.clock.now()).await?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(api::created(&paths::Numbered { id: paths::Number(made.id) }.to_string(), &made))
}

/// `POST /api/v1/allowlist/preview`: what the entry would have hidden. Changes nothing.
pub(crate) async fn preview(_: Allowed<Triage>, State(app): State<Arc<App>>, Body(body): Body<EntryBody>) -> Result<Json<Preview>> {
    let now = app.clock.now();
    body.check(now)?;
    let mut conn = app.db.web.acquire().await?;
    Ok(Json(store::preview(&mut conn, &body.canonical(), now).await?))
}

/// `PATCH /api/v1/allowlist/{id}`: replaces the fields that are given; approvals are void unless it only ends sooner.
pub(crate) async fn edit(
    who: Allowed<Tune>,
    at: paths::Numbered,
    State(app): State<Arc<App>>,
    Body(mut patch): Body<Map<String, Value>>,
) -> Result<Json<Stored>> {
    let version = patch.remove("version").map(i32::deserialize).transpose().map_err(|e| Error::Malformed(format!("version: {e}")))?;
    let mut tx = app.db.web.begin().await?;
    let after = store::edit(&mut tx, at.id.0, version, patch, person(&who), app.clock.now()).await?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(Json(after))
}

/// `DELETE /api/v1/allowlist/{id}`: out of force for all event times. The row stays, revoked.
pub(crate) async fn revoke(who: Allowed<Tune>, at: paths::Numbered, State(app): State<Arc<App>>) -> Result<Json<Stored>> {
    let mut tx = app.db.web.begin().await?;
    let after = store::revoke(&mut tx, at.id.0, person(&who), app.clock.now()).await?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(Json(after))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// `POST /api/v1/allowlist/{id}/approve`: a lead or administrator stands behind the entry; a token stands for its owner.
pub(crate) async fn approve(
    who: Allowed<Approve>,
    at: paths::EntryApproval,
    State(app): State<Arc<App>>,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<Stored>> {
    let mut tx = app.db.web.begin().await?;
    let after = store::approve(&mut tx, at.id.0, person(&who), app.clock.now()).await?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(Json(after))
}
