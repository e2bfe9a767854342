//! `/hosts` and `/hosts/{name}`: machines, what their telemetry can show, and what was found on them.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Read},
        error::{Error, Result},
        filters,
        page::{self, Chrome, Section},
        paths,
        query::Fields,
    },
    store::{detections, flows, hosts, overview},
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use std::sync::Arc;

/// Rows of a page.
const ROWS: i64 = 100;

#[derive(Template)]
#[template(path = "hosts.html")]
struct HostsPage {
    chrome: Chrome,
    fields: Fields,
    rows: Vec<Row>,
    next: Option<String>,
}

struct Row {
    name: String,
    href: String,
    tier: Option<i16>,
    role: Option<String>,
    class: Option<String>,
    tags: Vec<String>,
    open: i64,
    last_seen: Option<chrono::DateTime<chrono::Utc>>,
    sees: [(&'static str, bool, &'static str); 5],
}

impl From<overview::HostRow> for Row {
    fn from(h: overview::HostRow) -> Self {
        Self {
            href: paths::Host { name: h.name.clone() }.to_string(),
            sees: [
                ("R", h.sees_load, "CPU of processes"),
                ("C", h.sees_commands, "Command lines"),
                ("N", h.sees_network, "Connections with a process"),
                ("L", h.sees_launches, "Scheduled tasks or scripts"),
                ("P", h.sees_durations, "Durations of connections"),
            ],
            name: h.name,
            tier: h.tier,
            role: h.role,
            class: h.class,
            tags: h.tags,
            open: h.open,
            last_seen: h.last_seen,
        }
    }
}

impl HostsPage {
    fn value(&self, name: &str) -> &str {
        self.fields.one(name).unwrap_or_default()
    }
}

/// `GET /hosts`
pub(crate) async fn list(who: Allowed<Read>, RawQuery(query): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let fields = Fields::parse(query.as_deref());
    let mut conn = app.db.web.acquire().await?;
    let filter = overview::HostFilter {
        q: fields.one("q").map(str::to_owned),
        class: fields.one("class").map(str::to_owned),
        tag: fields.one("tag").map(str::to_owned),
        tier: fields.parsed("tier", "1, 2, 3 or 4")?,
        after: fields.one("cursor").map(str::to_owned),
    };
    let mut rows = overview::hosts(&mut conn, &filter, ROWS + 1).await?;
    let more = rows.len() > usize::try_from(ROWS).unwrap_or(usize::MAX);
    rows.truncate(usize::try_from(ROWS).unwrap_or(usize::MAX));
    let next = rows.last().filter(|_| more).map(|last| format!("/hosts{}", fields.with("cursor", Some(&last.name))));
    let page = HostsPage { chrome: Chrome::load(&mut conn, &who, Section::Hosts, app.clock.now()).await?, fields, rows: rows.into_iter().map(Row::from).collect(), next };
    page::render(StatusCode::OK, &page)
}

#[derive(Template)]
#[template(path = "host.html")]
struct HostPage {
    chrome: Chrome,
    host: hosts::Host,
    coverage: Option<overview::Coverage>,
    detections: Vec<detections::Line>,
    busiest: Vec<overview::Busy>,
    destinations: Vec<flows::Destination>,
}

/// `GET /hosts/{name}`
pub(crate) async fn show(paths::Host { name }: paths::Host, who: Allowed<Read>, State(app): State<Arc<App>>) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let host = hosts::find(&mut conn, &name).await?.ok_or(Error::NotFound)?;
    let filter = flows::Filter { host: Some(host.name.clone()), until: host.last_seen, ..flows::Filter::default() };
    let page = HostPage {
        chrome: Chrome::load(&mut conn, &who, Section::Hosts, app.clock.now()).await?,
        coverage: overview::coverage(&mut conn, host.id).await?,
        detections: detections::of_host(&mut conn, host.id).await?,
        busiest: overview::busiest(&mut conn, host.id).await?,
        destinations: flows::destinations(&mut conn, &filter, 25).await?,
        host,
    };
    page::render(StatusCode::OK, &page)
}
