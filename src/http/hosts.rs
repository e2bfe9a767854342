//! `/hosts` and `/hosts/{name}`: machines, what their telemetry can show, and what was found on them.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Form, Read, Tune},
        error::{Error, FieldError, Result},
        filters,
        page::{self, Chrome, Section},
        paths,
        query::Fields,
    },
    model::exceptions::HostBody,
    store::{detections, flows, hosts, overview},
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
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

/// What to say of the chosen hosts: what is left blank stays as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Said {
    #[serde(default)]
    host: Vec<String>,
    tier: Option<i16>,
    role: Option<String>,
    class: Option<String>,
    add_tags: Option<String>,
    remove_tags: Option<String>,
    back: Option<String>,
}

/// `POST /hosts`: tier, role, class and tags of many hosts at once, all or none.
pub(crate) async fn describe(who: Allowed<Tune>, State(app): State<Arc<App>>, Form(said): Form<Said>) -> Result<Response> {
    let words = |text: &Option<String>| -> Vec<String> {
        text.as_deref().unwrap_or_default().split([',', ' ']).map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
    };
    let (add, remove) = (words(&said.add_tags), words(&said.remove_tags));
    if said.host.is_empty() {
        return Err(Error::Invalid(vec![FieldError::new("host", "choose at least one host")]));
    }
    let now = app.clock.now();
    let mut tx = app.db.web.begin().await?;
    for name in &said.host {
        let before = super::hosts_api::find(&mut tx, name).await?;
        let mut tags: Vec<String> = before.tags.iter().filter(|t| !remove.contains(t)).cloned().collect();
        tags.extend(add.iter().filter(|t| !before.tags.contains(t)).cloned());
        let trimmed = |text: &Option<String>| text.as_deref().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
        let body = HostBody {
            tier: said.tier.or(before.tier),
            role: trimmed(&said.role).or_else(|| before.role.clone()),
            class: trimmed(&said.class).or_else(|| before.class.clone()),
            tags: Some(tags),
            ..before.said()
        };
        body.check()?;
        hosts::describe(&mut tx, &before, body, &who.actor, now).await?;
    }
    tx.commit().await?;
    app.marked.notify_one();
    let back = said.back.as_deref().map_or_else(|| "/hosts".to_owned(), page::safe_next);
    Ok(page::go(&back, &format!("{} {} described. What depends on it is being evaluated again.", said.host.len(), if said.host.len() == 1 { "host is" } else { "hosts are" })))
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
