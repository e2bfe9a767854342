//! `/processes/{id}`: one process, its lineage, its load and who it talks to.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Read},
        detections::launcher_kind,
        error::{Error, Result},
        filters,
        page::{self, Chrome, Section},
        paths,
        query::Fields,
        timeline::{self, Axis, Timeline},
        tree::{self, Launcher},
    },
    model::{group::base_name, ids::ProcessId},
    store::{cpu, flows, hosts, processes},
};
use askama::Template;
use axum::{extract::{RawQuery, State}, http::StatusCode, response::Response};
use chrono::TimeDelta;
use std::sync::Arc;

/// Longest stretch that is drawn; of a longer life the end.
const DRAWN: TimeDelta = TimeDelta::days(7);

#[derive(Template)]
#[template(path = "process.html")]
struct ProcessPage<'a> {
    chrome: Chrome,
    p: &'a processes::Process,
    host: String,
    name: String,
    lived: TimeDelta,
    chain: Vec<(String, ProcessId)>,
    capped: bool,
    tree: Vec<tree::Row>,
    timeline: Timeline,
    flows: Vec<flows::Flow>,
    hash: Option<flows::Sighting>,
}

/// `GET /processes/{id}`
pub(crate) async fn show(paths::Process { id }: paths::Process, who: Allowed<Read>, RawQuery(query): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let fields = Fields::parse(query.as_deref());
    let after = fields.parsed("after", "a place among the children")?;
    let reach = if after.is_some() { processes::Reach { children: processes::MORE, after, ..processes::Reach::default() } } else { processes::Reach::default() };
    let lineage = processes::lineage(&mut conn, id, reach).await?;
    let p = lineage.iter().find(|p| p.id == id).ok_or(Error::NotFound)?;
    let end = p.ended_at.unwrap_or(p.last_sign).max(p.started_at);
    let axis = Axis::around(p.started_at.max(end - DRAWN), end);
    let group = [p.group.0];
    let launchers: Vec<Launcher> = processes::launchers(&mut conn, id.host, &group, axis.until)
        .await?
        .into_iter()
        .take(2)
        .map(|(_, code, summary)| Launcher { kind: launcher_kind(&code).to_owned(), text: summary })
        .collect();
    let now = app.clock.now();
    let (axis, zoomed) = axis.zoomed(&fields, now)?;
    let load = cpu::lane(&mut conn, id.host, p.group, axis.since, axis.until).await?;
    let mut talks = flows::of_groups(&mut conn, id.host, &group, axis.since, axis.until).await?;
    talks.retain(|f| f.process.is_none_or(|own| own == id));
    let hashes: Vec<String> = p.sha256.clone().into_iter().collect();
    let page = ProcessPage {
        chrome: Chrome::load(&mut conn, &who, Section::Hosts, now).await?,
        p,
        host: hosts::name(&mut conn, id.host).await?.unwrap_or_default(),
        name: p.image.as_deref().map_or_else(|| "Unknown image".to_owned(), |i| base_name(i).to_owned()),
        lived: end - p.started_at,
        chain: tree::chain(&lineage),
        capped: tree::is_capped(&lineage),
        tree: tree::rows(&lineage, id, &launchers),
        timeline: Timeline { zoomed, ..timeline::draw(axis, std::slice::from_ref(p), &load, &talks, &[]) },
        flows: talks,
        hash: flows::sightings(&mut conn, "image", &hashes, end).await?.pop(),
    };
    page::render(StatusCode::OK, &page)
}

#[derive(Template)]
#[template(path = "children.html")]
struct Children {
    rows: Vec<tree::Row>,
}

/// `GET /_f/processes/{id}/children`: the next children of a row in place; for scripts only, the row's link is the other way.
pub(crate) async fn children(
    paths::ProcessChildren { id }: paths::ProcessChildren,
    who: Allowed<Read>,
    RawQuery(query): RawQuery,
    State(app): State<Arc<App>>,
) -> Result<Response> {
    if !who.visit.hx.is_fragment() {
        return Err(Error::NotFound);
    }
    let after = Fields::parse(query.as_deref()).parsed("after", "a place among the children")?;
    let mut conn = app.db.web.acquire().await?;
    let (list, more) = processes::children(&mut conn, id, after).await?;
    page::render(StatusCode::OK, &Children { rows: tree::children(id, list, more) })
}
