//! `/api/v1/detections/{id}/runbook`: what to do about a detection, and who did which of it when.

use crate::{
    app::App,
    http::{
        api::{self, Body, Items},
        auth::{Allowed, Read, Triage},
        error::{Error, FieldError, Result},
        paths,
    },
    model::{
        ids::DetectionId,
        runbook::{self, Step},
    },
    store::{
        detections,
        runbook::{self as store, Tick},
    },
};
use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use std::sync::Arc;

crate::http::route_table! {
    get "/api/v1/detections/{id}/runbook"        Read   => list;
    put "/api/v1/detections/{id}/runbook/{name}" Triage => tick;
}

/// Longest note in characters. Chosen: a paragraph.
const LONGEST_NOTE: usize = 2_000;

/// A step and who did it.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    step: &'static Step,
    /// Absent = nobody yet.
    done: Option<Tick>,
}

async fn rows(conn: &mut PgConnection, id: DetectionId) -> Result<Vec<Row>> {
    let found = detections::full(conn, id).await?.ok_or(Error::NotFound)?;
    let mut ticks = store::ticks(conn, id).await?;
    let asked: Vec<&Step> = runbook::of(&found.content).collect();
    // What was done stays to be seen, also if the detection changed since.
    let shown = runbook::steps().iter().filter(|step| asked.contains(step) || ticks.contains_key(&step.id)).collect::<Vec<_>>();
    Ok(shown.into_iter().map(|step| Row { done: ticks.remove(&step.id), step }).collect())
}

/// `GET /api/v1/detections/{id}/runbook`
pub(crate) async fn list(_: Allowed<Read>, at: paths::ApiRunbook, State(app): State<Arc<App>>) -> Result<Json<Items<Row>>> {
    let mut conn = app.db.web.acquire().await?;
    Ok(Items::all(rows(&mut conn, at.id).await?))
}

/// Whether a step is done, and what came of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Done {
    done: bool,
    #[serde(default)]
    note: Option<String>,
}

/// `PUT /api/v1/detections/{id}/runbook/{name}`: ticks a step by its id, or takes the tick back; answers the whole runbook.
pub(crate) async fn tick(
    who: Allowed<Triage>,
    at: paths::ApiRunbookStep,
    State(app): State<Arc<App>>,
    Body(body): Body<Done>,
) -> Result<Json<Items<Row>>> {
    let step = runbook::steps().iter().find(|s| s.id == at.name).ok_or(Error::NotFound)?;
    let note = body.note.as_deref().map(str::trim).filter(|n| !n.is_empty());
    if note.is_some_and(|n| n.chars().count() > LONGEST_NOTE) {
        return Err(Error::Invalid(vec![FieldError::new("note", format!("at most {LONGEST_NOTE} characters"))]));
    }
    let mut tx = app.db.web.begin().await?;
    detections::full(&mut tx, at.id).await?.ok_or(Error::NotFound)?;
    store::tick(&mut tx, at.id, step, body.done.then_some(note), &who.actor, app.clock.now()).await?;
    let all = rows(&mut tx, at.id).await?;
    api::commit(&app, tx).await?;
    Ok(Items::all(all))
}
