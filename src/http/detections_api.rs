//! `/api/v1/detections`: list, one, and what people decide about it.

use crate::{
    app::App,
    http::{
        api::{self, Body, Filter, IfMatch, Items},
        auth::{Allowed, Read, Triage},
        error::{Error, Result, Stale},
        paths,
    },
    model::detection::{Detection, Verdict},
    store::{
        detections::{self, QUEUE},
        queue, terms,
        triage::{self, Change, ChangeError},
    },
};
use axum::{
    Json,
    extract::State,
    response::Response,
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use std::sync::Arc;

crate::http::route_table! {
    get   "/api/v1/detections"      Read   => list;
    get   "/api/v1/detections/{id}" Read   => show;
    patch "/api/v1/detections/{id}" Triage => change;
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    host: Option<String>,
    analytic: Option<String>,
    verdict: Option<String>,
    status: Option<String>,
    severity: Option<String>,
    q: Option<String>,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// Without `verdict` the queue's; `all` is all.
fn verdicts(text: Option<&str>) -> Result<Vec<Verdict>> {
    match text {
        None => Ok(QUEUE.to_vec()),
        Some("all") => Ok(Vec::new()),
        some => api::words(some),
    }
}

/// `GET /api/v1/detections`
pub(crate) async fn list(_: Allowed<Read>, Filter(query): Filter<Query>, State(app): State<Arc<App>>) -> Result<Json<Items<Detection>>> {
    let cursor = query.cursor.map(|c| c.parse()).transpose();
    let filter = detections::Filter {
        host: query.host,
        analytics: api::words(query.analytic.as_deref())?,
        verdicts: verdicts(query.verdict.as_deref())?,
        statuses: api::words(query.status.as_deref())?,
        severities: api::words(query.severity.as_deref())?,
        terms: query.q.as_deref().unwrap_or_default().parse().map_err(|e: terms::UnknownField| Error::Malformed(format!("`q`: {e}")))?,
        since: query.since,
        until: query.until,
        after: cursor.map_err(|e: queue::BadCursor| Error::Malformed(e.to_string()))?,
        limit: api::limit(query.limit),
        ..detections::Filter::default()
    };
    let mut conn = app.db.web.acquire().await?;
    let page = detections::list(&mut conn, &filter).await?;
    Ok(Items::page(page.items, page.next.map(|c| c.to_string())))
}

/// `GET /api/v1/detections/{id}`
pub(crate) async fn show(_: Allowed<Read>, at: paths::ApiDetection, State(app): State<Arc<App>>) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let found = detections::full(&mut conn, at.id).await?.ok_or(Error::NotFound)?;
    Ok(api::versioned(found.version, &found))
}

/// `PATCH /api/v1/detections/{id}`: 412 on a stale `If-Match`, 409 on a stale `version`.
pub(crate) async fn change(
    who: Allowed<Triage>,
    at: paths::ApiDetection,
    IfMatch(expected): IfMatch,
    State(app): State<Arc<App>>,
    Body(change): Body<Change>,
) -> Result<Response> {
    let mut tx = app.db.web.begin().await?;
    let changed = triage::change(&mut tx, at.id, expected, &change, &who.actor, app.clock.now()).await;
    changed.map_err(|e| match (&e, expected) {
        (ChangeError::Stale(now), Some(v)) if *now != v => Error::Stale(Stale::Precondition),
        _ => e.into(),
    })?;
    let found = detections::full(&mut tx, at.id).await?.ok_or(Error::NotFound)?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(api::versioned(found.version, &found))
}
