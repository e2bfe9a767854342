//! `/admin/tokens`: what programs sign in with. The text of a token is on one page, once.

use super::{NAME_RULE, is_name};
use crate::{
    app::App,
    http::{
        auth::{Administer, Allowed, Form},
        error::{Error, FieldError, Result},
        filters,
        page::{self, Chrome, Section},
        paths, reauth,
    },
    model::permission::Scope,
    store::{
        audit::{self, Deed},
        tokens::{self, Listed, New},
    },
};
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

crate::http::route_table! {
    get  "/admin/tokens"               Administer => list;
    post "/admin/tokens"               Administer => create;
    post "/admin/tokens/{name}/revoke" Administer => revoke;
}

/// Scopes with what they are for.
const SCOPES: [(&str, &str); 5] = [
    ("ingest", "send events"),
    ("read", "read and export by the API"),
    ("triage", "also decide detections"),
    ("admin", "also allowlist, baselines, windows, hosts, indicators; counts as you when it approves"),
    ("metrics", "the metrics endpoint"),
];

#[derive(Template)]
#[template(path = "admin/tokens.html")]
struct TokensPage {
    chrome: Chrome,
    tokens: Vec<Listed>,
    form: TokenForm,
    fault: Option<FieldError>,
    made: Option<(String, String)>,
    ask_password: bool,
    now: DateTime<Utc>,
}

impl TokensPage {
    fn state(&self, token: &Listed) -> (&'static str, String) {
        match token.revoked_at {
            Some(at) => ("over", format!("revoked {}", filters::utc_text(at))),
            None if token.expires_at <= self.now => ("over", format!("expired {}", filters::utc_text(token.expires_at))),
            None if token.expires_at < self.now + TimeDelta::days(14) => ("soon", format!("expires in {}", filters::span_text(token.expires_at - self.now))),
            None => ("live", format!("until {}", token.expires_at.format("%Y-%m-%d"))),
        }
    }
}

/// A new token as typed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenForm {
    name: Option<String>,
    #[serde(default)]
    scope: Vec<String>,
    host: Option<String>,
    days: Option<String>,
    password: Option<String>,
}

impl TokenForm {
    fn has(&self, scope: &str) -> bool {
        self.scope.iter().any(|s| s == scope)
    }

    fn checked(&self) -> std::result::Result<(String, Vec<Scope>, i64), FieldError> {
        let name = self.name.as_deref().unwrap_or_default().trim();
        if !is_name(name) {
            return Err(FieldError::new("name", NAME_RULE));
        }
        let scopes = self.scope.iter().map(|s| s.parse::<Scope>().map_err(|e| FieldError::new("scope", e.to_string()))).collect::<std::result::Result<Vec<_>, _>>()?;
        if scopes.is_empty() {
            return Err(FieldError::new("scope", "choose what it is for"));
        }
        let days = self.days.as_deref().map_or(Ok(90), |d| d.trim().parse::<i64>());
        let days = days.ok().filter(|d| (1..=365).contains(d)).ok_or_else(|| FieldError::new("days", "1 to 365 days"))?;
        Ok((name.to_owned(), scopes, days))
    }
}

/// `GET /admin/tokens`
pub(crate) async fn list(who: Allowed<Administer>, State(app): State<Arc<App>>) -> Result<Response> {
    answer(&app, &who, TokenForm::default(), None, None).await
}

async fn answer(app: &App, who: &Allowed<Administer>, mut form: TokenForm, fault: Option<FieldError>, made: Option<(String, String)>) -> Result<Response> {
    let now = app.clock.now();
    form.password = None;
    let mut conn = app.db.web.acquire().await?;
    let status = match (&fault, &made) {
        (Some(_), _) => StatusCode::UNPROCESSABLE_ENTITY,
        (_, Some(_)) => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    let mut tokens = tokens::list(&mut conn).await?;
    tokens.sort_by_key(|t| t.revoked_at.is_some() || t.expires_at <= now);
    let page = TokensPage {
        chrome: Chrome::load(&mut conn, who, Section::Admin, now).await?,
        ask_password: reauth::is_due(who, now) && made.is_none(),
        tokens,
        form,
        fault,
        made,
        now,
    };
    page::render(status, &page)
}

/// `POST /admin/tokens`
pub(crate) async fn create(who: Allowed<Administer>, State(app): State<Arc<App>>, Form(form): Form<TokenForm>) -> Result<Response> {
    let now = app.clock.now();
    let (name, scopes, days) = match form.checked() {
        Ok(checked) => checked,
        Err(fault) => return answer(&app, &who, form, Some(fault), None).await,
    };
    match reauth::demand(&app, &who, form.password.clone()).await {
        Err(Error::Invalid(mut faults)) => return answer(&app, &who, form, faults.pop(), None).await,
        other => other?,
    }
    let expires_at = now + TimeDelta::days(days);
    let host = form.host.as_deref().map(str::trim).filter(|h| !h.is_empty());
    let mut tx = app.db.web.begin().await?;
    let new = New { name: &name, scopes: &scopes, owner: who.name(), host, expires_at };
    let Some(text) = tokens::create(&mut tx, &new, now).await? else {
        drop(tx);
        return answer(&app, &who, form, Some(FieldError::new("name", "a token of this name exists already")), None).await;
    };
    let words: Vec<_> = scopes.iter().map(|s| s.as_str()).collect();
    let after = json!({"scopes": words, "host": host, "expires_at": expires_at});
    audit::append(&mut tx, &who.actor, Deed { action: "token.create", object: &name, before: None, after: Some(after) }, now).await?;
    tx.commit().await?;
    answer(&app, &who, TokenForm::default(), None, Some((name, text))).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Confirmed {
    password: Option<String>,
}

/// `POST /admin/tokens/{name}/revoke`: ends it everywhere within a second.
pub(crate) async fn revoke(at: paths::TokenDeed, who: Allowed<Administer>, State(app): State<Arc<App>>, Form(form): Form<Confirmed>) -> Result<Response> {
    reauth::demand(&app, &who, form.password).await?;
    let now = app.clock.now();
    let mut tx = app.db.web.begin().await?;
    if !tokens::revoke(&mut tx, &at.name, now).await? {
        return Ok(page::go(&paths::Tokens, &format!("`{}` had ended already.", at.name)));
    }
    audit::append(&mut tx, &who.actor, Deed { action: "token.revoke", object: &at.name, ..Deed::default() }, now).await?;
    tx.commit().await?;
    Ok(page::go(&paths::Tokens, &format!("`{}` is revoked.", at.name)))
}
