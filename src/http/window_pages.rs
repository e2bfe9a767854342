//! `/maintenance-windows`: load that people announced, day by day. JSON is in `maintenance`.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Form, Read, Tune, Who},
        error::{Error, FieldError, Result},
        filters,
        page::{self, Chrome, Section},
        paths,
    },
    model::exceptions::Window,
    store::maintenance::{self as store, Stored},
};
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use axum_extra::extract::Query;
use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

crate::http::route_table! {
    get  "/maintenance-windows"             Read => list;
    post "/maintenance-windows"             Tune => create;
    post "/maintenance-windows/{id}/remove" Tune => remove;
}

#[derive(Template)]
#[template(path = "windows.html")]
struct WindowsPage {
    chrome: Chrome,
    /// Heading, and the windows below it.
    groups: Vec<(String, Vec<Stored>)>,
    past: bool,
    form: WindowForm,
    fault: Option<FieldError>,
}

impl Stored {
    fn lasts(&self) -> TimeDelta {
        self.body.ends_at - self.body.starts_at
    }
}

/// A new window as typed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WindowForm {
    name: String,
    scope: String,
    scope_value: String,
    starts_at: String,
    ends_at: String,
    recurrence: String,
    images: String,
    reason: String,
}

/// Scopes of the form: value and words.
const SCOPES: [(&str, &str); 4] = [("class", "a class of hosts"), ("tags", "hosts with a tag"), ("hosts", "these hosts"), ("everywhere", "every host")];

impl WindowForm {
    fn is_scope(&self, word: &str) -> bool {
        self.scope == word || self.scope.is_empty() && word == "class"
    }

    fn body(&self) -> std::result::Result<Window, FieldError> {
        let words = |text: &str| -> Vec<String> {
            text.split([',', '\n']).map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
        };
        let named = words(&self.scope_value);
        let scope = match self.scope.as_str() {
            "everywhere" => json!({"everywhere": true}),
            "tags" => json!({"tags": named}),
            "hosts" => json!({"hosts": named}),
            _ => json!({"class": named.join(", ")}),
        };
        let mut body = json!({
            "name": self.name.trim(), "scope": scope, "images": words(&self.images), "reason": self.reason.trim(),
            "starts_at": instant("starts_at", &self.starts_at)?, "ends_at": instant("ends_at", &self.ends_at)?,
        });
        if !self.recurrence.trim().is_empty() {
            body["recurrence"] = Value::from(self.recurrence.trim());
        }
        let body: Window = serde_json::from_value(body).map_err(|e| FieldError::new("form", e.to_string()))?;
        body.check().map_err(|e| FieldError::new(e.field, e.reason))?;
        Ok(body)
    }
}

/// What a browser sends for a date with time, or what people write: UTC.
fn instant(field: &'static str, text: &str) -> std::result::Result<DateTime<Utc>, FieldError> {
    let plain = text.trim().trim_end_matches('Z');
    let local = ["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S"].iter().find_map(|f| NaiveDateTime::parse_from_str(plain, f).ok());
    let at = text.trim().parse::<DateTime<Utc>>().ok().or_else(|| local.map(|l| l.and_utc()));
    at.ok_or_else(|| FieldError::new(field, "a time in UTC such as 2026-12-01T22:00"))
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct View {
    #[serde(default)]
    show: String,
}

/// Now, then day by day; what is over in reverse.
fn grouped(rows: Vec<Stored>, past: bool, now: DateTime<Utc>) -> Vec<(String, Vec<Stored>)> {
    let recurs = |w: &Stored| w.body.recurrence.is_some();
    let mut days: BTreeMap<NaiveDate, Vec<Stored>> = BTreeMap::new();
    let (mut running, mut recurring) = (Vec::new(), Vec::new());
    for window in rows {
        let over = window.body.ends_at <= now && !recurs(&window);
        if over != past {
            continue;
        }
        if recurs(&window) {
            recurring.push(window);
        } else if !past && window.body.starts_at <= now {
            running.push(window);
        } else {
            days.entry(window.body.starts_at.date_naive()).or_default().push(window);
        }
    }
    let mut groups = vec![("Running now".to_owned(), running), ("Recurring".to_owned(), recurring)];
    let mut by_day: Vec<_> = days.into_iter().map(|(day, windows)| (day.format("%A, %Y-%m-%d").to_string(), windows)).collect();
    if past {
        by_day.reverse();
    }
    groups.extend(by_day);
    groups.retain(|(_, windows)| !windows.is_empty());
    for (_, windows) in &mut groups {
        windows.sort_by_key(|w| w.body.starts_at);
    }
    groups
}

async fn answer(app: &App, who: &Who, past: bool, form: WindowForm, fault: Option<FieldError>) -> Result<Response> {
    let now = app.clock.now();
    let mut conn = app.db.web.acquire().await?;
    let groups = grouped(store::list(&mut conn).await?, past, now);
    let status = if fault.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    page::render(status, &WindowsPage { chrome: Chrome::load(&mut conn, who, Section::Tuning, now).await?, groups, past, form, fault })
}

/// `GET /maintenance-windows`
pub(crate) async fn list(who: Allowed<Read>, Query(View { show }): Query<View>, State(app): State<Arc<App>>) -> Result<Response> {
    answer(&app, &who, show == "past", WindowForm::default(), None).await
}

/// `POST /maintenance-windows`
pub(crate) async fn create(who: Allowed<Tune>, State(app): State<Arc<App>>, Form(form): Form<WindowForm>) -> Result<Response> {
    let body = match form.body() {
        Ok(body) => body,
        Err(fault) => return answer(&app, &who, false, form, Some(fault)).await,
    };
    let mut tx = app.db.web.begin().await?;
    match store::create(&mut tx, body, &who.actor, app.clock.now()).await? {
        Ok(made) => {
            tx.commit().await?;
            app.marked.notify_one();
            Ok(page::go(&paths::Windows, &format!("{} is in force. What it touches is being evaluated again.", made.label)))
        }
        Err(id) => {
            drop(tx);
            answer(&app, &who, false, form, Some(FieldError::new("name", format!("{} says the same already", store::label(id))))).await
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// `POST /maintenance-windows/{id}/remove`: what it hid comes back.
pub(crate) async fn remove(at: paths::Numbered, who: Allowed<Tune>, State(app): State<Arc<App>>, Form(Nothing {}): Form<Nothing>) -> Result<Response> {
    let mut tx = app.db.web.begin().await?;
    let before = store::find(&mut tx, at.id.0).await?.ok_or(Error::NotFound)?;
    store::remove(&mut tx, &before, &who.actor, app.clock.now()).await?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(page::go(&paths::Windows, &format!("{} is gone. What it hid is being evaluated again.", before.label)))
}
