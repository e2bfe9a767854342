//! `/api/v1/baselines`: load that people expect of an image on a class of hosts.

use crate::{
    app::App,
    http::{
        administered::administered,
        api::{Body, Items},
        auth::{Allowed, Read, Tune},
        error::Result,
    },
    model::exceptions::Baseline,
    store::baselines::{self as store, Stored},
};
use axum::{Json, extract::State};
use std::sync::Arc;

administered!("/api/v1/baselines", "/api/v1/baselines/{id}", Baseline);

/// `GET /api/v1/baselines`
pub(crate) async fn list(_: Allowed<Read>, State(app): State<Arc<App>>) -> Result<Json<Items<Stored>>> {
    let mut conn = app.db.web.acquire().await?;
    Ok(Items::all(store::list(&mut conn).await?))
}
