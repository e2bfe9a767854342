//! `/indicators`: the lists of pools and proxies. JSON is in `indicators`; both call the same functions of the store.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Form, Read, Tune, Who},
        error::{Error, FieldError, Result},
        filters,
        page::{self, Chrome, Section},
        paths,
        query::Fields,
    },
    model::exceptions::Indicator,
    store::indicators::{self as store, Filter, Stored},
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

crate::http::route_table! {
    get  "/indicators"             Read => list;
    post "/indicators"             Tune => create;
    post "/indicators/{id}/remove" Tune => remove;
}

/// Rows of a page.
const ROWS: i64 = 100;
/// Lines that a form takes at once.
const MOST: usize = 500;
/// What a destination is.
const CATEGORIES: [&str; 5] = ["pool", "proxy", "tor", "doh", "sinkhole"];

#[derive(Template)]
#[template(path = "indicators.html")]
struct IndicatorsPage {
    chrome: Chrome,
    fields: Fields,
    rows: Vec<Stored>,
    next: Option<String>,
    form: IndicatorForm,
    fault: Option<FieldError>,
    now: DateTime<Utc>,
}

impl IndicatorsPage {
    fn q(&self) -> &str {
        self.fields.one("q").unwrap_or_default()
    }

    fn is_old(&self, row: &Stored) -> bool {
        row.body.expires_at.is_some_and(|at| at <= self.now)
    }
}

/// New indicators as typed: one per line, all with the same source.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IndicatorForm {
    values: String,
    category: String,
    confidence: String,
    port: String,
    source: String,
}

/// `ip`, `cidr` or `domain`, by the look of it.
fn kind(value: &str) -> &'static str {
    if value.parse::<std::net::IpAddr>().is_ok() {
        "ip"
    } else if value.contains('/') {
        "cidr"
    } else {
        "domain"
    }
}

impl IndicatorForm {
    fn bodies(&self) -> std::result::Result<Vec<Indicator>, FieldError> {
        let lines: Vec<&str> = self.values.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
        if lines.is_empty() || lines.len() > MOST {
            return Err(FieldError::new("values", format!("1 to {MOST} addresses, networks or names, one per line")));
        }
        let port = match self.port.trim() {
            "" => Value::Null,
            text => text.parse::<i32>().map(Value::from).map_err(|_| FieldError::new("port", "1 to 65535"))?,
        };
        let given = |word: &str| Some(word.to_owned()).filter(|w| !w.is_empty());
        let read = |line: &&str| {
            let body = json!({
                "list": "DestinationIPList", "kind": kind(line), "value": line, "port": port, "category": given(&self.category), "confidence": given(&self.confidence),
                "source": self.source.trim(),
            });
            let body: Indicator = serde_json::from_value(body).map_err(|e| FieldError::new("form", e.to_string()))?;
            body.checked().map_err(|e| FieldError::new(e.field, if e.field == "value" { format!("`{line}`: {}", e.reason) } else { e.reason }))
        };
        lines.iter().map(read).collect()
    }
}

async fn answer(app: &App, who: &Who, fields: Fields, form: IndicatorForm, fault: Option<FieldError>) -> Result<Response> {
    let now = app.clock.now();
    let filter = Filter { id: None, q: fields.one("q").map(str::to_owned), before: fields.parsed("cursor", "a number")?, limit: Some(ROWS + 1) };
    let mut conn = app.db.web.acquire().await?;
    let mut rows = store::list(&mut conn, &filter).await?;
    let more = i64::try_from(rows.len()).unwrap_or(i64::MAX) > ROWS;
    rows.truncate(usize::try_from(ROWS).unwrap_or(usize::MAX));
    let next = rows.last().filter(|_| more).map(|r| format!("/indicators{}", fields.with("cursor", Some(&r.id.to_string()))));
    let status = if fault.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let page = IndicatorsPage { chrome: Chrome::load(&mut conn, who, Section::Tuning, now).await?, fields, rows, next, form, fault, now };
    page::render(status, &page)
}

/// `GET /indicators`; `?value=` fills the form, for links from destinations.
pub(crate) async fn list(who: Allowed<Read>, RawQuery(query): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let fields = Fields::parse(query.as_deref());
    let form = IndicatorForm { values: fields.one("value").unwrap_or_default().to_owned(), ..IndicatorForm::default() };
    answer(&app, &who, fields, form, None).await
}

/// `POST /indicators`: all lines or none; those that are listed already are left as they are.
pub(crate) async fn create(who: Allowed<Tune>, State(app): State<Arc<App>>, Form(form): Form<IndicatorForm>) -> Result<Response> {
    let bodies = match form.bodies() {
        Ok(bodies) => bodies,
        Err(fault) => return answer(&app, &who, Fields::default(), form, Some(fault)).await,
    };
    let now = app.clock.now();
    let mut tx = app.db.web.begin().await?;
    let (mut made, mut known) = (0, 0);
    for body in bodies {
        match store::create(&mut tx, body, &who.actor, now).await? {
            Ok(_) => made += 1,
            Err(_) => known += 1,
        }
    }
    tx.commit().await?;
    app.marked.notify_one();
    Ok(page::go(&paths::Indicators, &format!("{made} added, {known} were listed already. Who met them is being evaluated again.")))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// `POST /indicators/{id}/remove`
pub(crate) async fn remove(at: paths::Numbered, who: Allowed<Tune>, State(app): State<Arc<App>>, Form(Nothing {}): Form<Nothing>) -> Result<Response> {
    let mut tx = app.db.web.begin().await?;
    let before = store::find(&mut tx, at.id.0).await?.ok_or(Error::NotFound)?;
    store::remove(&mut tx, &before, &who.actor, app.clock.now()).await?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(page::go(&paths::Indicators, "It is off the list. Who met it is being evaluated again."))
}
