//! `/api/v1/tunables`: the settings of the analytics, their history, and what other values would have done to the stored history.

use crate::{
    app::App,
    http::{
        api::{self, Body},
        auth::{Allowed, Read, Triage, Tune},
        error::{Error, FieldError, Result, Stale},
    },
    model::ids::HostId,
    store::tunables::{self as store, Change, Refusal, Sheet},
    worker::what_if::{self, Backtest, Which},
};
use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Map, Value};
use sqlx::PgConnection;
use std::{sync::Arc, time::Duration};

crate::http::route_table! {
    get  "/api/v1/tunables"         Read   => show;
    put  "/api/v1/tunables"         Tune   => change;
    post "/api/v1/tunables/preview" Triage => preview;
}

/// How long one call judges; what is left is asked for with the cursor. Chosen: well below the 20 s of a request.
const BUDGET: Duration = Duration::from_secs(8);

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stale(_) => Self::Stale(Stale::Version),
            Refusal::Invalid(invalid) => invalid.into(),
            Refusal::Other(error) => error.into(),
        }
    }
}

/// `GET /api/v1/tunables`
pub(crate) async fn show(_: Allowed<Read>, State(app): State<Arc<App>>) -> Result<Json<Sheet>> {
    let mut conn = app.db.web.acquire().await?;
    Ok(Json(store::sheet(&mut conn).await?))
}

async fn tried(app: &App, conn: &mut PgConnection, change: &Change, which: Which, after: Option<HostId>) -> Result<Backtest> {
    let settings = store::proposed(conn, change).await?;
    let hashes: Vec<Vec<u8>> = app.rules.current().map(|hash| hash.to_vec()).collect();
    Ok(what_if::backtest(conn, settings, &hashes, (which, after, BUDGET), app.clock.now()).await?)
}

/// What is to be tried, and from where on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trial {
    #[serde(default)]
    class: Option<String>,
    values: Map<String, Value>,
    #[serde(default)]
    cursor: Option<String>,
}

/// `POST /api/v1/tunables/preview`: what the change would have added, removed and changed in the last 30 days of each host. Changes
/// nothing. A long history is judged in several calls, each with the cursor of the one before.
pub(crate) async fn preview(_: Allowed<Triage>, State(app): State<Arc<App>>, Body(trial): Body<Trial>) -> Result<Json<Backtest>> {
    let cursor = trial.cursor.as_deref().map(str::parse).transpose();
    let after = cursor.map_err(|_| Error::Malformed("cursor: not one of ours".to_owned()))?.map(HostId);
    let mut conn = app.db.web.acquire().await?;
    let change = Change { class: trial.class, values: trial.values, ..Change::default() };
    Ok(Json(tried(&app, &mut conn, &change, Which::All, after).await?))
}

/// `PUT /api/v1/tunables`: in force from the next pass on, for all event times. A change that loses confirmed hijacks is refused until it
/// names each of them in `accept_lost`.
pub(crate) async fn change(who: Allowed<Tune>, State(app): State<Arc<App>>, Body(change): Body<Change>) -> Result<Json<Sheet>> {
    let mut tx = app.db.web.begin().await?;
    let trial = tried(&app, &mut tx, &change, Which::Confirmed, None).await?;
    let lost = trial.true_positives_lost.iter().map(ToString::to_string);
    // More than can be judged while somebody waits: whoever goes on says so.
    let rest = trial.next_cursor.map(|_| "rest".to_owned());
    let unnamed: Vec<String> = lost.chain(rest).filter(|id| !change.accept_lost.contains(id)).collect();
    if !unnamed.is_empty() {
        let reason = format!("confirmed hijacks would leave the queue: {}; name each one here to accept that (`rest`: more than could be judged at once)", unnamed.join(", "));
        return Err(Error::Invalid(vec![FieldError::new("accept_lost", reason)]));
    }
    store::change(&mut tx, &change, &who.actor, app.clock.now()).await?;
    let sheet = store::sheet(&mut tx).await?;
    api::commit(&app, tx).await?;
    Ok(Json(sheet))
}
