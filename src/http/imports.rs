//! `/api/v1/imports/…`: tables of hosts and indicators as CSV. Bad lines are named, good lines beside them are kept.

use crate::{
    app::App,
    http::{
        api::{self, Filter},
        auth::{Allowed, Tune},
        error::{Error, Result},
    },
    model::{
        exceptions::{HostLine, IndicatorLine},
        table::{self, Refused},
    },
    store::{hosts, indicators},
};
use axum::{Json, body::Bytes, extract::State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

crate::http::route_table! {
    post "/api/v1/imports/hosts"      Tune => hosts;
    post "/api/v1/imports/indicators" Tune => indicators;
}

/// Lines of one transaction: hosts that send for the first time wait for it.
const CHUNK: usize = 200;
/// Most refused lines that an answer lists.
const MOST_LISTED: usize = 100;

/// What became of a table.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Imported {
    /// New.
    created: usize,
    /// Known, and changed by its line.
    changed: usize,
    /// Known, and as the line says.
    unchanged: usize,
    /// Not taken.
    refused: usize,
    /// The first of them, in the order of the table.
    errors: Vec<Refused>,
}

impl Imported {
    fn finish(mut self, mut refused: Vec<Refused>) -> Json<Self> {
        refused.sort_by_key(|r| r.line);
        self.refused = refused.len();
        refused.truncate(MOST_LISTED);
        self.errors = refused;
        Json(self)
    }
}

/// `POST /api/v1/imports/hosts`: upserts hosts by name; a cell that is empty changes nothing.
pub(crate) async fn hosts(who: Allowed<Tune>, State(app): State<Arc<App>>, table: Bytes) -> Result<Json<Imported>> {
    let (rows, mut refused) = table::read::<HostLine>(&table, "name", HostLine::COLUMNS)?;
    let (mut done, now) = (Imported::default(), app.clock.now());
    for rows in rows.chunks(CHUNK) {
        let mut tx = app.db.web.begin().await?;
        for (line, row) in rows {
            match row.clone().body() {
                Err(invalid) => refused.push(Refused::of(*line, &invalid)),
                Ok(body) => {
                    let upserted = hosts::upsert(&mut tx, &body, &who.actor, now).await?;
                    *(if upserted.created { &mut done.created } else if upserted.changed { &mut done.changed } else { &mut done.unchanged }) += 1;
                }
            }
        }
        api::commit(&app, tx).await?;
    }
    Ok(done.finish(refused))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    /// Who says so, for lines that do not.
    source: Option<String>,
}

/// `POST /api/v1/imports/indicators`: adds to `DestinationIPList`; what is there already (by kind, value and port) is brought up to date.
pub(crate) async fn indicators(
    who: Allowed<Tune>,
    Filter(query): Filter<Query>,
    State(app): State<Arc<App>>,
    table: Bytes,
) -> Result<Json<Imported>> {
    let (rows, mut refused) = table::read::<IndicatorLine>(&table, "value", IndicatorLine::COLUMNS)?;
    let (mut done, now) = (Imported::default(), app.clock.now());
    for rows in rows.chunks(CHUNK) {
        let mut tx = app.db.web.begin().await?;
        for (line, row) in rows {
            match row.clone().body(query.source.as_deref()) {
                Err(invalid) => refused.push(Refused::of(*line, &invalid)),
                Ok(body) => match indicators::create(&mut tx, body.clone(), &who.actor, now).await? {
                    Ok(_) => done.created += 1,
                    Err(id) => {
                        let before = indicators::find(&mut tx, id).await?.ok_or(Error::NotFound)?;
                        let body = body.filled();
                        if before.body == body {
                            done.unchanged += 1;
                        } else if indicators::edit(&mut tx, &before, body, &who.actor, now).await?.is_ok() {
                            done.changed += 1;
                        }
                    }
                },
            }
        }
        api::commit(&app, tx).await?;
    }
    Ok(done.finish(refused))
}
