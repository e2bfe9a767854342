//! `/api/v1/maintenance-windows`: load that people announced.

use crate::{
    app::App,
    http::{
        administered::administered,
        api::{Body, Items},
        auth::{Allowed, Read, Tune},
        error::Result,
    },
    model::exceptions::Window,
    store::maintenance::{self as store, Stored},
};
use axum::{Json, extract::State};
use std::sync::Arc;

administered!("/api/v1/maintenance-windows", "/api/v1/maintenance-windows/{id}", Window);

/// `GET /api/v1/maintenance-windows`
pub(crate) async fn list(_: Allowed<Read>, State(app): State<Arc<App>>) -> Result<Json<Items<Stored>>> {
    let mut conn = app.db.web.acquire().await?;
    Ok(Items::all(store::list(&mut conn).await?))
}
