//! `/api/v1/campaigns`: detections of several hosts that share what the fleet does not.

use crate::{
    app::App,
    http::{
        api::Items,
        auth::{Allowed, Read},
        error::{Error, Result},
        hosts_api, paths,
    },
    store::campaigns::{self, Campaign},
};
use axum::{Json, extract::State};
use std::sync::Arc;

crate::http::route_table! {
    get "/api/v1/campaigns"        Read => list;
    get "/api/v1/campaigns/{name}" Read => show;
}

/// `GET /api/v1/campaigns`
pub(crate) async fn list(_: Allowed<Read>, State(app): State<Arc<App>>) -> Result<Json<Items<Campaign>>> {
    let mut conn = app.db.web.acquire().await?;
    Ok(Items::all(campaigns::list(&mut conn, None).await?))
}

/// `GET /api/v1/campaigns/{name}`
pub(crate) async fn show(_: Allowed<Read>, at: paths::ApiCampaign, State(app): State<Arc<App>>) -> Result<Json<Campaign>> {
    let name = hosts_api::storable(&at.name)?;
    let mut conn = app.db.web.acquire().await?;
    campaigns::list(&mut conn, Some(name)).await?.pop().map(Json).ok_or(Error::NotFound)
}
