//! Raw events, on demand: the fact row as it is stored and the record as it was sent.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Export, Who},
        error::{Error, Result},
        filters::{self, reveal},
        page::{self, Chrome, Section},
        paths,
    },
    model::ids::{DetectionId, EventRef},
    store::{detections, events, hosts},
};
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use sqlx::PgConnection;
use std::sync::Arc;

/// Characters of a record shown on a page.
const SHOWN: usize = 200_000;

struct Shown {
    event: EventRef,
    table: String,
    fields: Vec<(String, String)>,
    received: Option<chrono::DateTime<chrono::Utc>>,
    protocol: Option<String>,
    token: Option<String>,
    raw: Option<String>,
    /// Of the record as it was sent.
    sha256: Option<String>,
    cut: bool,
    /// Five minutes before and after, as addresses take them.
    around: (String, String),
}

#[derive(Template)]
#[template(path = "events.html")]
struct EventsPage {
    chrome: Chrome,
    detection: Option<DetectionId>,
    host: Option<String>,
    events: Vec<Shown>,
    more: usize,
}

/// An instant some minutes away, as addresses take it.
fn around(at: chrono::DateTime<chrono::Utc>, minutes: i64) -> String {
    (at + chrono::TimeDelta::minutes(minutes)).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `GET /events/{event}`
pub(crate) async fn show(paths::Event { event }: paths::Event, who: Allowed<Export>, State(app): State<Arc<App>>) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    answer(&mut conn, &who, &app, None, &[event]).await
}

/// `GET /detections/{id}/events/{event}`
pub(crate) async fn of_detection_one(
    paths::DetectionEvent { id, event }: paths::DetectionEvent,
    who: Allowed<Export>,
    State(app): State<Arc<App>>,
) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let cited = cited(&mut conn, id).await?;
    if !cited.contains(&event) {
        return Err(Error::NotFound);
    }
    answer(&mut conn, &who, &app, Some(id), &[event]).await
}

/// `GET /detections/{id}/events`: the first ten, by time.
pub(crate) async fn of_detection(
    paths::DetectionEvents { id }: paths::DetectionEvents,
    who: Allowed<Export>,
    State(app): State<Arc<App>>,
) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let cited = cited(&mut conn, id).await?;
    answer(&mut conn, &who, &app, Some(id), &cited).await
}

pub(super) async fn cited(conn: &mut PgConnection, id: DetectionId) -> Result<Vec<EventRef>> {
    let d = detections::full(conn, id).await?.ok_or(Error::NotFound)?;
    let proofs = d.content.evidence.iter().flat_map(|e| e.events.iter().copied());
    let mut all: Vec<EventRef> = proofs.chain(d.content.persistence.iter().map(|p| p.event)).collect();
    all.sort_unstable_by_key(|e| (e.at, *e));
    all.dedup();
    Ok(all)
}

async fn answer(conn: &mut PgConnection, who: &Who, app: &App, detection: Option<DetectionId>, wanted: &[EventRef]) -> Result<Response> {
    const MOST: usize = 10;
    let mut shown = Vec::new();
    for event in wanted.iter().take(MOST) {
        if let Some(stored) = events::find(conn, *event).await? {
            shown.push(view(*event, stored));
        }
    }
    if shown.is_empty() {
        return Err(Error::NotFound);
    }
    let host = match wanted.first() {
        Some(event) => hosts::name(conn, event.host).await?,
        None => None,
    };
    let page = EventsPage {
        chrome: Chrome::load(conn, who, Section::None, app.clock.now()).await?,
        detection,
        host,
        events: shown,
        more: wanted.len().saturating_sub(MOST),
    };
    page::render(StatusCode::OK, &page)
}

fn view(event: EventRef, stored: events::Stored) -> Shown {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(s) => reveal(s).into_owned(),
        other => reveal(&other.to_string()).into_owned(),
    };
    let fields = stored.fact.as_object().map(|row| {
        row.iter().filter(|(_, v)| !v.is_null()).map(|(name, value)| (name.clone(), text(value))).collect()
    });
    let sha256 = stored.raw.as_deref().map(super::report::sha256);
    let raw = stored.raw.map(|bytes| readable(&bytes));
    let cut = raw.as_ref().is_some_and(|r| r.chars().nth(SHOWN).is_some());
    Shown {
        event,
        table: stored.table.replace('_', " "),
        fields: fields.unwrap_or_default(),
        received: stored.received_at,
        protocol: stored.protocol,
        token: stored.token,
        raw: raw.map(|r| r.chars().take(SHOWN).collect()),
        sha256,
        cut,
        around: (around(event.at, -5), around(event.at, 5)),
    }
}

/// JSON indented, other text as it is; what cannot be seen is written out, line by line.
fn readable(bytes: &[u8]) -> String {
    let text = match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(json) => format!("{json:#}"),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    };
    text.lines().map(reveal).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_readable_whatever_they_are() {
        assert_eq!(readable(br#"{"b":1,"a":["x"]}"#).lines().count(), 6);
        assert_eq!(readable(b"<Event>\n\t<Data>\0</Data>"), "<Event>\n\\u{9}<Data>\\u{0}</Data>");
        assert_eq!(readable(&[0xff, b'a']), "\u{fffd}a");
    }
}
