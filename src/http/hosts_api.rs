//! `/api/v1/hosts`: machines, and what people say of them.

use crate::{
    app::App,
    http::{
        api::{self, Body, Filter, Items},
        auth::{Allowed, Read, Tune},
        error::{Error, Result},
        paths,
    },
    model::exceptions::{self, HostBody, Invalid},
    store::hosts::{self, Host},
};
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use sqlx::PgConnection;
use std::sync::Arc;

crate::http::route_table! {
    get    "/api/v1/hosts"        Read => list;
    post   "/api/v1/hosts"        Tune => upsert;
    get    "/api/v1/hosts/{name}" Read => show;
    patch  "/api/v1/hosts/{name}" Tune => describe;
    delete "/api/v1/hosts/{name}" Tune => forget;
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    q: Option<String>,
    class: Option<String>,
    tag: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// `GET /api/v1/hosts`
pub(crate) async fn list(_: Allowed<Read>, Filter(query): Filter<Query>, State(app): State<Arc<App>>) -> Result<Json<Items<Host>>> {
    let limit = api::limit(query.limit);
    let filter = hosts::Filter { q: query.q, class: query.class, tag: query.tag, after: query.cursor, limit: limit + 1 };
    let mut conn = app.db.web.acquire().await?;
    Ok(Items::keyed(hosts::list(&mut conn, &filter).await?, limit, |h| h.name.clone()))
}

/// A name that PostgreSQL can hold; another cannot be the name of anything.
pub(crate) fn storable(name: &str) -> Result<&str> {
    if name.contains('\0') { Err(Error::NotFound) } else { Ok(name) }
}

/// The host of a path, by full or short name.
pub(crate) async fn find(conn: &mut PgConnection, name: &str) -> Result<Host> {
    hosts::find(conn, storable(name)?).await?.ok_or(Error::NotFound)
}

/// `GET /api/v1/hosts/{name}`
pub(crate) async fn show(_: Allowed<Read>, at: paths::ApiHost, State(app): State<Arc<App>>) -> Result<Json<Host>> {
    let mut conn = app.db.web.acquire().await?;
    Ok(Json(find(&mut conn, &at.name).await?))
}

/// `POST /api/v1/hosts`: also before the host was ever seen; says 201 then, else 200.
pub(crate) async fn upsert(who: Allowed<Tune>, State(app): State<Arc<App>>, Body(body): Body<HostBody>) -> Result<Response> {
    body.check()?;
    let mut tx = app.db.web.begin().await?;
    let upserted = hosts::upsert(&mut tx, &body, &who.actor, app.clock.now()).await?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(if upserted.created {
        api::created(&paths::ApiHost { name: upserted.host.name.clone() }.to_string(), &upserted.host)
    } else {
        Json(upserted.host).into_response()
    })
}

/// `PATCH /api/v1/hosts/{name}`: tier, role, class, tags; `null` takes one away.
pub(crate) async fn describe(
    who: Allowed<Tune>,
    at: paths::ApiHost,
    State(app): State<Arc<App>>,
    Body(patch): Body<Map<String, Value>>,
) -> Result<Json<Host>> {
    let mut tx = app.db.web.begin().await?;
    let before = find(&mut tx, &at.name).await?;
    let body: HostBody = exceptions::amended(&before.said(), patch).map_err(|e| Error::Malformed(e.to_string()))?;
    if body.name != before.name {
        return Err(Invalid { field: "name", reason: "a host is named by what it sends".to_owned() }.into());
    }
    body.check()?;
    let after = hosts::describe(&mut tx, &before, body, &who.actor, app.clock.now()).await?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(Json(after))
}

/// `DELETE /api/v1/hosts/{name}`: takes back what people said of it; its events stay.
pub(crate) async fn forget(who: Allowed<Tune>, at: paths::ApiHost, State(app): State<Arc<App>>) -> Result<StatusCode> {
    let mut tx = app.db.web.begin().await?;
    let before = find(&mut tx, &at.name).await?;
    hosts::forget(&mut tx, &before, &who.actor, app.clock.now()).await?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(StatusCode::NO_CONTENT)
}
