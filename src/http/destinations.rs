//! `/destinations`: where the fleet talks to, long-lived and rare first.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Read},
        error::Result,
        filters,
        page::{self, Chrome, Section},
        query::Fields,
    },
    store::flows::{self, Destination, Filter},
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use std::sync::Arc;

/// Rows of the page: what is not among the longest-lived and rarest is found by the filter.
const ROWS: i64 = 200;

#[derive(Template)]
#[template(path = "destinations.html")]
struct DestinationsPage {
    chrome: Chrome,
    fields: Fields,
    rows: Vec<Destination>,
    full: bool,
}

impl DestinationsPage {
    fn value(&self, name: &str) -> &str {
        self.fields.one(name).unwrap_or_default()
    }
}

/// `GET /destinations`
pub(crate) async fn list(who: Allowed<Read>, RawQuery(query): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let fields = Fields::parse(query.as_deref());
    let now = app.clock.now();
    let filter = Filter {
        q: fields.one("q").map(str::to_owned),
        host: fields.one("host").map(str::to_owned),
        port: fields.parsed("port", "a port number")?,
        rare: fields.parsed("rare", "a number of hosts")?,
        listed: fields.one("listed").is_some(),
        since: fields.time("since", now)?,
        until: fields.time("until", now)?,
    };
    let mut conn = app.db.web.acquire().await?;
    let rows = flows::destinations(&mut conn, &filter, ROWS).await?;
    let full = i64::try_from(rows.len()).is_ok_and(|n| n == ROWS);
    let page = DestinationsPage { chrome: Chrome::load(&mut conn, &who, Section::Destinations, now).await?, fields, rows, full };
    page::render(StatusCode::OK, &page)
}
