//! `/`: what is to be decided, worst first. The address is the state; nothing moves under the reader.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Read},
        error::{Error, Result},
        filters,
        page::{self, Chrome, Section},
        paths,
        query::Fields,
        view::{self, Chip},
    },
    model::detection::{Detection, Status},
    store::detections::{self, Filter, Pulse},
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;

/// Rows of a page. Source: interface design, section 13.
const SIZES: [i64; 4] = [25, 50, 100, 200];
/// Names of the filter, the API's.
const NAMES: &[&str] = &["host", "analytic", "verdict", "status", "severity", "q", "since", "until"];

/// A view: name, address, what it shows.
const VIEWS: &[(&str, &str)] =
    &[("Open", "/"), ("Candidates", "/?verdict=candidate"), ("Suppressed", "/?verdict=suppressed"), ("Closed", "/?status=closed")];

/// Choices of the form: value, words.
const SEVERITY_CHOICES: &[(&str, &str)] = &[
    ("critical", "critical"),
    ("high,critical", "high and up"),
    ("medium,high,critical", "medium and up"),
    ("low,medium,high,critical", "low and up"),
    ("info", "info"),
];
const VERDICT_CHOICES: &[(&str, &str)] = &[
    ("alert", "alert"),
    ("partial", "partial"),
    ("early_warning", "early warning"),
    ("candidate", "candidate"),
    ("suppressed", "suppressed"),
    ("alert,partial,early_warning,candidate,suppressed", "all"),
];
const STATUS_CHOICES: &[(&str, &str)] =
    &[("new", "new"), ("in_progress", "in progress"), ("closed", "closed"), ("new,in_progress,closed", "all")];

/// Reads the filter of a queue address; without a status it is open, without a verdict what the queue is for.
pub(crate) fn filter(fields: &Fields, now: DateTime<Utc>) -> Result<Filter> {
    let limit = fields.parsed("limit", "25, 50, 100 or 200")?.unwrap_or(50);
    if !SIZES.contains(&limit) {
        return Err(Error::Malformed("`limit`: expected 25, 50, 100 or 200".to_owned()));
    }
    let mut filter = Filter {
        host: fields.one("host").map(str::to_owned),
        analytics: fields.words("analytic")?,
        verdicts: fields.words("verdict")?,
        statuses: fields.words("status")?,
        severities: fields.words("severity")?,
        q: fields.one("q").map(str::to_owned),
        since: fields.time("since", now)?,
        until: fields.time("until", now)?,
        after: fields.parsed("cursor", "a cursor of this list")?,
        limit,
    };
    if filter.statuses.is_empty() {
        filter.statuses = vec![Status::New, Status::InProgress];
    }
    if filter.verdicts.is_empty() {
        filter.verdicts = detections::QUEUE.to_vec();
    }
    Ok(filter)
}

struct Row {
    detection: Detection,
    href: String,
    /// Without the host, which has a column of its own.
    title: String,
    score: f64,
    verdict: String,
    status: &'static str,
    disposition: Option<&'static str>,
    command: String,
    image: Option<String>,
    chips: Vec<Chip>,
    severity: &'static str,
    story: String,
    lasted: TimeDelta,
    host: String,
    host_href: String,
}

impl Row {
    fn of(detection: Detection, from: &str) -> Self {
        let process = detection.content.process.as_ref();
        Self {
            href: format!("/detections/{}{from}", detection.id),
            title: detection.content.title.trim_end_matches(&format!(" on {}", detection.host.name)).to_owned(),
            score: view::score(&detection),
            verdict: view::verdict_words(&detection.content),
            status: view::status_words(detection.status),
            disposition: detection.disposition.map(|d| view::disposition_words(d).0),
            command: view::clipped(process.and_then(|p| p.command_line.as_deref()).unwrap_or_default(), 140),
            image: process.and_then(|p| p.image.as_deref()).map(|i| crate::model::group::base_name(i).to_owned()),
            chips: view::chips(&detection.content.classes),
            severity: detection.content.severity.as_str(),
            story: view::clipped(&detection.content.story, 200),
            lasted: detection.content.last_seen - detection.content.first_seen,
            host: view::short_host(&detection.host.name).to_owned(),
            host_href: paths::Host { name: detection.host.name.clone() }.to_string(),
            detection,
        }
    }
}

/// Why there is no row.
enum Empty {
    /// There are rows.
    No,
    /// Nothing was ever stored.
    NoEvents,
    /// Nothing is open.
    Done(Pulse),
    /// The filter excludes all.
    Filtered(Vec<Without>),
}

/// A term of the filter and what would match without it.
struct Without {
    name: String,
    value: String,
    href: String,
    count: i64,
}

#[derive(Template)]
#[template(path = "queue.html")]
struct QueuePage {
    chrome: Chrome,
    filter: Filter,
    fields: Fields,
    rows: Vec<Row>,
    next: Option<String>,
    empty: Empty,
    view: usize,
    total: String,
    narrowed: Vec<String>,
}

impl QueuePage {
    fn value(&self, name: &str) -> &str {
        self.fields.one(name).unwrap_or_default()
    }
}

/// `GET /`
pub(crate) async fn show(who: Allowed<Read>, RawQuery(query): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let now = app.clock.now();
    let fields = Fields::parse(query.as_deref());
    let filter = filter(&fields, now)?;
    let mut conn = app.db.web.acquire().await?;
    let list = detections::list(&mut conn, &filter).await?;
    let narrowed: Vec<(&str, &str)> = fields.terms(NAMES).collect();
    let view = view_of(&fields);
    let empty = if !list.items.is_empty() {
        Empty::No
    } else if !detections::any_event(&mut conn).await? {
        Empty::NoEvents
    } else if narrowed.is_empty() || view.is_some_and(|v| v > 0) {
        Empty::Done(detections::pulse(&mut conn).await?)
    } else {
        let mut terms = Vec::new();
        for (name, value) in &narrowed {
            let query = fields.with(name, None);
            let wider = self::filter(&Fields::parse(query.strip_prefix('?')), now)?;
            let count = detections::count(&mut conn, &wider).await?;
            terms.push(Without { name: (*name).to_owned(), value: (*value).to_owned(), href: format!("/{query}"), count });
        }
        Empty::Filtered(terms)
    };
    let chrome = Chrome::load(&mut conn, &who, Section::Queue, now).await?;
    let from = if narrowed.is_empty() { String::new() } else { from_query(&fields) };
    let total = match detections::count(&mut conn, &filter).await? {
        detections::COUNT_CAP.. => "1,000+ match".to_owned(),
        1 => "1 matches".to_owned(),
        n => format!("{n} match"),
    };
    let narrowed = narrowed.into_iter().map(|(name, _)| name.to_owned()).collect();
    let page = QueuePage {
        rows: list.items.into_iter().map(|d| Row::of(d, &from)).collect(),
        next: list.next.map(|cursor| format!("/{}", fields.with("cursor", Some(&cursor.to_string())))),
        view: view.unwrap_or(VIEWS.len()),
        chrome,
        filter,
        fields,
        empty,
        total,
        narrowed,
    };
    page::render(StatusCode::OK, &page)
}

/// Which of [`VIEWS`] the address is, if it is one as it stands.
fn view_of(fields: &Fields) -> Option<usize> {
    let here = format!("/{}", fields.with("limit", None));
    VIEWS.iter().position(|(_, href)| *href == here)
}

/// `?from=…`: the filter a detection was opened from, for "next".
fn from_query(fields: &Fields) -> String {
    let query = fields.with("cursor", None);
    let query = query.strip_prefix('?').unwrap_or_default();
    format!("?from={}", form_urlencoded::byte_serialize(query.as_bytes()).collect::<String>())
}
