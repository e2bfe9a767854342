//! `/hunt`: typed questions over the stored facts, with Include, Exclude and Only on every value, kept questions, and exports.

mod query;

use crate::{
    app::App,
    http::{
        auth::{Allowed, Export, Form, Read},
        error::{Error, FieldError, Result},
        export,
        filters::{self, reveal},
        page::{self, Chrome, Section},
        paths,
        query::Fields,
    },
    model::{fact::Fact, ids::EventId},
    store::{
        audit::{self, Deed},
        hunt::{self as store, FIELDS, Found, Place, Question, Saved, Term},
    },
};
use askama::Template;
use axum::{
    body::Body,
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::json;
use sqlx::Connection as _;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::Semaphore;

crate::http::route_table! {
    get  "/hunt"                   Read   => show;
    get  "/hunt/export"            Export => download;
    post "/hunt/saved"             Read   => save;
    post "/hunt/saved/{id}/forget" Read   => forget;
}

/// Rows of a page.
const ROWS: usize = 50;
/// Newest matches that the top values count.
const COUNTED: i64 = 500;
/// Rows of a file, and of one question while it is written. Source: interface design, section 6.6.
const MOST: i64 = 100_000;
const STEP: i64 = 2_000;
/// Questions at once in this process: pages and triage keep the other connections.
static TURNS: Semaphore = Semaphore::const_new(2);
/// Fields whose top values are shown.
const FACETS: [&str; 9] = ["host", "event", "image", "user", "parent", "destination", "ip", "port", "name"];

/// What an address asks for.
struct Asked {
    text: String,
    question: Question,
}

/// Reads the address; times count from the latest event, so that old logs are as near as new ones.
fn asked(fields: &Fields, latest: DateTime<Utc>) -> Result<Asked> {
    let text = fields.one("q").unwrap_or_default().to_owned();
    if text.contains('\0') {
        return Err(Error::Malformed("text must not hold the character NUL".to_owned()));
    }
    let until = fields.time("until", latest)?.unwrap_or(latest + TimeDelta::seconds(1));
    let since = fields.time("since", until)?.unwrap_or(until - TimeDelta::hours(24));
    let after = fields.one("cursor").map(|c| place(c).ok_or_else(|| Error::Malformed("`cursor`: not a place of this list".to_owned()))).transpose()?;
    let terms: Vec<Term> = query::parse(&text)?;
    Ok(Asked { text, question: Question { terms, since, until, after, limit: COUNTED + 1 } })
}

fn place(text: &str) -> Option<Place> {
    let (at, id) = text.split_once('_')?;
    Some(Place { at: DateTime::from_timestamp_micros(at.parse().ok()?)?, id: EventId(id.parse().ok()?) })
}

/// Asks in a read-only transaction that ends after 30 s.
async fn ask(app: &App, question: &Question) -> Result<Vec<Found>> {
    let _turn = TURNS.try_acquire().map_err(|_| Error::Overloaded)?;
    let mut conn = app.db.web.acquire().await?;
    let mut tx = conn.begin().await?;
    store::restrain(&mut tx).await?;
    let found = store::ask(&mut tx, question).await;
    match found {
        Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("57014") => {
            Err(Error::Malformed("stopped after 30 s: narrow the time, or name a host".to_owned()))
        }
        other => Ok(other?),
    }
}

/// A value with its menu.
struct Value {
    field: &'static str,
    shown: String,
    include: String,
    exclude: String,
    only: String,
    /// Its own page.
    page: Option<String>,
}

struct Row {
    at: DateTime<Utc>,
    kind: Value,
    host: Value,
    values: Vec<Value>,
    command: Option<String>,
    raw: String,
    around: String,
}

/// Makes addresses of the present question with something changed.
struct Links<'a> {
    fields: &'a Fields,
    text: &'a str,
}

impl Links<'_> {
    fn to(&self, text: &str) -> String {
        format!("{}{}", paths::Hunt, self.fields.with("q", Some(text)))
    }

    fn value(&self, field: &'static str, value: &str, shown: String) -> Value {
        let written = query::written(field, value);
        let with = |term: String| if self.text.is_empty() { term } else { format!("{} {term}", self.text) };
        let page = match field {
            "host" => Some(paths::Host { name: value.to_owned() }.to_string()),
            "destination" | "ip" => Some(format!("{}?{}", paths::Destinations, encoded("q", value))),
            _ => None,
        };
        Value { field, shown, include: self.to(&with(written.clone())), exclude: self.to(&with(format!("-{written}"))), only: self.to(&written), page }
    }
}

fn encoded(name: &str, value: &str) -> String {
    form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish()
}

fn row(found: &Found, links: &Links<'_>) -> Row {
    let at = found.event.at;
    let span = TimeDelta::minutes(5);
    let iso = |t: DateTime<Utc>| t.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let around: String = form_urlencoded::Serializer::new(String::new())
        .append_pair("q", &query::written("host", &found.host))
        .append_pair("since", &iso(at - span))
        .append_pair("until", &iso(at + span))
        .finish();
    // Shown as values with a menu: what people pivot on; the command line is text.
    let values = found.values.iter().filter(|(name, _)| *name != "command").map(|&(name, ref value)| {
        let shown = match name {
            "image" | "parent" => crate::model::group::base_name(value).to_owned(),
            "sha256" => value.chars().take(12).collect(),
            "cpu_share" => format!("{:.1} %", value.parse::<f64>().unwrap_or_default()),
            _ => crate::http::view::clipped(value, 120),
        };
        links.value(name, value, reveal(&shown).into_owned())
    });
    Row {
        at,
        kind: links.value("event", &found.kind, found.kind.replace('_', " ")),
        host: links.value("host", &found.host, reveal(crate::http::view::short_host(&found.host)).into_owned()),
        values: values.collect(),
        command: found.value("command").map(|c| crate::http::view::clipped(c, 400)),
        raw: paths::Event { event: found.event }.to_string(),
        around: format!("{}?{around}", paths::Hunt),
    }
}

/// Field, its most frequent values, how many different ones.
struct Facet {
    field: &'static str,
    top: Vec<(Value, usize)>,
    different: usize,
}

fn facets(found: &[Found], links: &Links<'_>) -> Vec<Facet> {
    let count = |field: &'static str| {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for f in found {
            let value = match field {
                "host" => Some(f.host.as_str()),
                "event" => Some(f.kind.as_str()),
                _ => f.value(field),
            };
            if let Some(value) = value {
                *counts.entry(value).or_default() += 1;
            }
        }
        let different = counts.len();
        let mut top: Vec<(&str, usize)> = counts.into_iter().collect();
        top.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let top = top.into_iter().take(8).map(|(value, n)| (links.value(field, value, crate::http::view::clipped(value, 80)), n));
        Facet { field, top: top.collect(), different }
    };
    FACETS.into_iter().map(count).filter(|f| f.different > 0).collect()
}

#[derive(Template)]
#[template(path = "hunt.html")]
struct HuntPage {
    chrome: Chrome,
    fields: Fields,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    rows: Vec<Row>,
    facets: Vec<Facet>,
    counted: usize,
    more: bool,
    next: Option<String>,
    saved: Vec<(Saved, String, bool)>,
    empty: bool,
    kinds: Vec<&'static str>,
}

impl HuntPage {
    fn value(&self, name: &str) -> &str {
        self.fields.one(name).unwrap_or_default()
    }

    fn query(&self) -> String {
        self.fields.with("cursor", None).trim_start_matches('?').to_owned()
    }

    fn export(&self, form: &str) -> String {
        format!("/hunt/export{}", self.fields.with("format", Some(form)))
    }
}

/// `GET /hunt`
pub(crate) async fn show(who: Allowed<Read>, RawQuery(raw): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let now = app.clock.now();
    let fields = Fields::parse(raw.as_deref());
    let mut conn = app.db.web.acquire().await?;
    let latest = store::latest(&mut conn).await?;
    let asked = asked(&fields, latest.unwrap_or(now))?;
    let chrome = Chrome::load(&mut conn, &who, Section::Hunt, now).await?;
    let saved = store::saved(&mut conn, who.name()).await?;
    if !asked.text.is_empty() && asked.question.after.is_none() {
        let mut tx = conn.begin().await?;
        let after = json!({"query": raw});
        audit::append(&mut tx, &who.actor, Deed { action: "hunt", object: "facts", before: None, after: Some(after) }, now).await?;
        tx.commit().await?;
    }
    drop(conn);
    let mut found = ask(&app, &asked.question).await?;
    let more = i64::try_from(found.len()).unwrap_or(i64::MAX) > COUNTED;
    found.truncate(usize::try_from(COUNTED).unwrap_or(usize::MAX));
    let links = Links { fields: &fields, text: &asked.text };
    let next = found.get(ROWS - 1).filter(|_| found.len() > ROWS).map(|last| {
        let cursor = format!("{}_{}", last.event.at.timestamp_micros(), last.event.id.0);
        format!("{}{}", paths::Hunt, fields.with("cursor", Some(&cursor)))
    });
    let page = HuntPage {
        rows: found.iter().take(ROWS).map(|f| row(f, &links)).collect(),
        facets: facets(&found, &links),
        counted: found.len(),
        since: asked.question.since,
        until: asked.question.until,
        saved: saved.into_iter().map(|s| {
            let (href, own) = (format!("{}?{}", paths::Hunt, s.query), s.owner == who.name());
            (s, href, own)
        }).collect(),
        empty: latest.is_none() && found.is_empty(),
        kinds: Fact::TABLES.iter().map(|(t, _)| *t).collect(),
        chrome,
        more,
        next,
        fields,
    };
    page::render(StatusCode::OK, &page)
}

const COLUMNS: [&str; 16] =
    ["at", "host", "event", "ref", "image", "command", "parent", "user", "destination", "ip", "port", "path", "name", "sha256", "pid", "cpu_share"];

fn exported(found: &Found) -> serde_json::Value {
    let mut row = json!({"at": found.event.at, "host": found.host, "event": found.kind, "ref": found.event.to_string()});
    for (name, value) in &found.values {
        row[*name] = json!(value);
    }
    row
}

/// `GET /hunt/export`: written page by page, at most 100,000 rows.
pub(crate) async fn download(who: Allowed<Export>, RawQuery(raw): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let now = app.clock.now();
    let fields = Fields::parse(raw.as_deref());
    let form = if fields.one("format") == Some("jsonl") { export::Form::Jsonl } else { export::Form::Csv };
    let mut tx = app.db.web.begin().await?;
    let latest = store::latest(&mut tx).await?.unwrap_or(now);
    let question = Question { limit: STEP, after: None, ..asked(&fields, latest)?.question };
    let after = json!({"query": raw});
    audit::append(&mut tx, &who.actor, Deed { action: "export", object: "hunt", before: None, after: Some(after) }, now).await?;
    tx.commit().await?;
    // The first page is asked before the answer begins, so that what is wrong can still be said.
    let first = ask(&app, &question).await?;
    let state = (app, question, Some(first), 0i64);
    let pages = futures_util::stream::try_unfold(state, move |(app, mut question, ready, written)| async move {
        let found = match ready {
            Some(found) => found,
            None if question.limit == 0 => return Ok(None),
            None => ask(&app, &question).await?,
        };
        let Some(last) = found.last() else {
            // An empty answer still has its head line.
            return Ok::<_, Error>((written == 0).then(|| (export::rows(form, &COLUMNS, &[], true), (app, Question { limit: 0, ..question }, None, 1))));
        };
        question.after = Some(Place { at: last.event.at, id: last.event.id });
        let rows: Vec<_> = found.iter().map(exported).collect();
        let sum = written + i64::try_from(rows.len()).unwrap_or(STEP);
        if sum >= MOST || i64::try_from(rows.len()).unwrap_or(STEP) < question.limit {
            question.limit = 0;
        }
        Ok(Some((export::rows(form, &COLUMNS, &rows, written == 0), (app, question, None, sum))))
    });
    Ok(export::file(form, "coalface-hunt", Body::from_stream(pages)))
}

/// A question to keep.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keep {
    name: Option<String>,
    query: Option<String>,
    shared: Option<String>,
}

/// `POST /hunt/saved`
pub(crate) async fn save(who: Allowed<Read>, State(app): State<Arc<App>>, Form(form): Form<Keep>) -> Result<Response> {
    let now = app.clock.now();
    let name = form.name.unwrap_or_default().trim().to_owned();
    let query = Fields::parse(form.query.as_deref()).with("cursor", None);
    let query = query.trim_start_matches('?');
    if !(1..=100).contains(&name.chars().count()) || name.contains('\0') || query.len() > 4_000 {
        return Err(Error::Invalid(vec![FieldError::new("name", "1 to 100 characters")]));
    }
    let mut tx = app.db.web.begin().await?;
    store::save(&mut tx, who.name(), &name, query, form.shared.is_some(), now).await?;
    let after = json!({"query": query, "shared": form.shared.is_some()});
    audit::append(&mut tx, &who.actor, Deed { action: "hunt.save", object: &name, before: None, after: Some(after) }, now).await?;
    tx.commit().await?;
    Ok(page::go(&format!("{}?{query}", paths::Hunt), "The hunt is kept."))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// `POST /hunt/saved/{id}/forget`: own ones only.
pub(crate) async fn forget(at: paths::Numbered, who: Allowed<Read>, State(app): State<Arc<App>>, Form(Nothing {}): Form<Nothing>) -> Result<Response> {
    let mut tx = app.db.web.begin().await?;
    if !store::forget(&mut tx, who.name(), at.id.0).await? {
        return Err(Error::NotFound);
    }
    let object = at.id.0.to_string();
    audit::append(&mut tx, &who.actor, Deed { action: "hunt.forget", object: &object, ..Deed::default() }, app.clock.now()).await?;
    tx.commit().await?;
    Ok(page::go(&paths::Hunt, "The hunt is forgotten."))
}
