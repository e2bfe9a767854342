//! `/admin/audit`: who did what; whether the chain is whole; the log as a file.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Audit, Form},
        error::Result,
        export,
        filters,
        page::{self, Chrome, Section},
        query::Fields,
    },
    store::audit::{self as store, Deed, Entry, Filter, Verified},
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

crate::http::route_table! {
    get  "/admin/audit"        Audit => list;
    get  "/admin/audit/export" Audit => download;
    post "/admin/audit/verify" Audit => verify;
}

/// Rows of a page.
const ROWS: i64 = 100;
/// Rows of a file. Source: interface design, section 6.6 (exports cap 100,000 rows).
const MOST: i64 = 100_000;
const COLUMNS: [&str; 9] = ["seq", "at", "actor", "action", "object", "before", "after", "request_id", "address"];

#[derive(Template)]
#[template(path = "admin/audit.html")]
struct AuditPage {
    chrome: Chrome,
    fields: Fields,
    rows: Vec<Entry>,
    next: Option<String>,
    verified: Option<Verified>,
}

impl AuditPage {
    fn value(&self, name: &str) -> &str {
        self.fields.one(name).unwrap_or_default()
    }

    fn export(&self, form: &str) -> String {
        format!("/admin/audit/export{}", self.fields.with("format", Some(form)))
    }

    /// The page with one filter set.
    fn with(&self, name: &str, value: &str) -> String {
        format!("/admin/audit{}", self.fields.with(name, Some(value)))
    }
}

impl Entry {
    /// What changed, for people: before and after as one indented text.
    fn detail(&self) -> Option<String> {
        let text = |value: &serde_json::Value| format!("{value:#}").lines().map(filters::reveal).collect::<Vec<_>>().join("\n");
        match (&self.before, &self.after) {
            (None, None) => None,
            (None, Some(after)) => Some(text(after)),
            (Some(before), None) => Some(format!("before\n{}", text(before))),
            (Some(before), Some(after)) => Some(format!("before\n{}\n\nafter\n{}", text(before), text(after))),
        }
    }
}

fn filter(fields: &Fields, now: DateTime<Utc>) -> Result<Filter> {
    let text = |name: &str| fields.one(name).map(str::to_owned);
    Ok(Filter {
        actor: text("actor"),
        action: text("action"),
        object: text("object"),
        request_id: text("request"),
        since: fields.time("since", now)?,
        until: fields.time("until", now)?,
        before: fields.parsed("cursor", "a number")?,
    })
}

async fn answer(app: &App, who: &Allowed<Audit>, fields: Fields, verified: Option<Verified>) -> Result<Response> {
    let now = app.clock.now();
    let filter = filter(&fields, now)?;
    let mut conn = app.db.web.acquire().await?;
    let mut rows = store::list(&mut conn, &filter, ROWS + 1).await?;
    let more = i64::try_from(rows.len()).unwrap_or(i64::MAX) > ROWS;
    rows.truncate(usize::try_from(ROWS).unwrap_or(usize::MAX));
    let next = rows.last().filter(|_| more).map(|r| format!("/admin/audit{}", fields.with("cursor", Some(&r.seq.to_string()))));
    let page = AuditPage { chrome: Chrome::load(&mut conn, who, Section::Admin, now).await?, fields, rows, next, verified };
    page::render(StatusCode::OK, &page)
}

/// `GET /admin/audit`
pub(crate) async fn list(who: Allowed<Audit>, RawQuery(query): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    answer(&app, &who, Fields::parse(query.as_deref()), None).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// `POST /admin/audit/verify`: walks the whole chain and writes down that it did.
pub(crate) async fn verify(who: Allowed<Audit>, State(app): State<Arc<App>>, Form(Nothing {}): Form<Nothing>) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let verified = store::verify(&mut conn, &app.audit_key).await?;
    drop(conn);
    let mut tx = app.db.web.begin().await?;
    let after = json!({"rows": verified.rows, "broken": verified.broken.map(|(seq, why)| json!({"seq": seq, "why": why}))});
    store::append(&mut tx, &who.actor, Deed { action: "audit.verify", object: "chain", before: None, after: Some(after) }, app.clock.now()).await?;
    tx.commit().await?;
    answer(&app, &who, Fields::default(), Some(verified)).await
}

/// `GET /admin/audit/export`
pub(crate) async fn download(who: Allowed<Audit>, RawQuery(query): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let now = app.clock.now();
    let fields = Fields::parse(query.as_deref());
    let form = if fields.one("format") == Some("jsonl") { export::Form::Jsonl } else { export::Form::Csv };
    let filter = filter(&fields, now)?;
    let mut tx = app.db.web.begin().await?;
    let rows = store::list(&mut tx, &filter, MOST).await?;
    let after = json!({"rows": rows.len(), "query": query});
    store::append(&mut tx, &who.actor, Deed { action: "export", object: "audit", before: None, after: Some(after) }, now).await?;
    tx.commit().await?;
    let rows = rows.iter().map(serde_json::to_value).collect::<std::result::Result<Vec<_>, _>>().map_err(|e| crate::http::Error::Internal(e.into()))?;
    Ok(export::file(form, "coalface-audit", export::rows(form, &COLUMNS, &rows, true)))
}
