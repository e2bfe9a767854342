//! `/allowlist`: the entries, and the form for a new one, pre-filled from a detection, with its preview.
//!
//! JSON is in `allowlist`; both call the same functions of the store.

use crate::{
    app::App,
    http::{
        api::person,
        auth::{Allowed, Approve, Form, Propose, Read, Tune, Who},
        error::{Error, FieldError, Result},
        filters,
        page::{self, Chrome, Section},
        paths,
    },
    model::{
        code::Code,
        detection::Detection,
        exceptions::{Cover, EntryBody, EntryKind, Match, Scope},
        ids::DetectionId,
        permission::Permission,
        preview::Preview,
    },
    store::{
        accounts::{self, SignIn},
        allowlist::{self as store, Refusal, Stored},
        detections,
    },
};
use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::Response,
};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

crate::http::route_table! {
    get  "/allowlist"              Read    => list;
    post "/allowlist"              Propose => create;
    get  "/allowlist/new"          Propose => new;
    post "/allowlist/{id}/approve" Approve => approve;
    post "/allowlist/{id}/expire"  Tune    => expire;
    post "/allowlist/{id}/revoke"  Tune    => revoke;
}

/// Which entries the list shows: the query `show`, and the words of its link.
const VIEWS: [(&str, &str); 6] = [
    ("", "in force"),
    ("waiting", "waiting for approval"),
    ("expiring", "expires within 14 days"),
    ("never", "never hit"),
    ("mine", "mine"),
    ("all", "all, ended ones too"),
];

fn shown(view: &str, entry: &Stored, user: &str, now: DateTime<Utc>) -> bool {
    let live = entry.state != "revoked" && !entry.expired;
    match view {
        "waiting" => entry.state == "proposed",
        "expiring" => live && entry.body.expires_at.is_some_and(|at| at < now + TimeDelta::days(14)),
        "never" => live && entry.hits == 0,
        "mine" => entry.created_by == user,
        "all" => true,
        _ => live,
    }
}

impl Stored {
    /// One word for its state: what a reader wants to know first.
    fn word(&self) -> String {
        match self.state.as_str() {
            "active" if self.expired => "expired".to_owned(),
            "proposed" if self.single_handed => "waiting 24 h (single-handed)".to_owned(),
            "proposed" => format!("waiting ({} of {})", self.approvals.len(), self.approvals_needed),
            other => other.to_owned(),
        }
    }

    /// `signer=Acme & image=cl.exe`.
    fn conditions(&self) -> String {
        self.body.matches.attributes().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" & ")
    }

    fn covered(&self) -> String {
        self.body.covers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

#[derive(Template)]
#[template(path = "allowlist.html")]
struct ListPage {
    chrome: Chrome,
    view: String,
    entries: Vec<Stored>,
    may_propose: bool,
    may_approve: bool,
    ask_password: bool,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct View {
    #[serde(default)]
    show: String,
}

/// `GET /allowlist`
pub(crate) async fn list(
    who: Allowed<Read>,
    axum_extra::extract::Query(View { show }): axum_extra::extract::Query<View>,
    State(app): State<Arc<App>>,
) -> Result<Response> {
    let now = app.clock.now();
    let mut conn = app.db.web.acquire().await?;
    let chrome = Chrome::load(&mut conn, &who, Section::Tuning, now).await?;
    let mut entries = store::list(&mut conn, now).await?;
    entries.retain(|e| shown(&show, e, who.name(), now));
    let page = ListPage {
        view: VIEWS.iter().find(|(name, _)| *name == show).map_or("", |(name, _)| name).to_owned(),
        may_propose: who.may(Permission::Propose),
        may_approve: who.may(Permission::Approve),
        ask_password: !is_fresh(&who, now),
        chrome,
        entries,
    };
    page::render(StatusCode::OK, &page)
}

/// Whether the password was given lately enough for an approval. Source: trust design, section 3.
fn is_fresh(who: &Who, now: DateTime<Utc>) -> bool {
    who.session().is_some_and(|s| now - s.reauthenticated_at <= TimeDelta::minutes(15))
}

/// A new entry as typed. One text per attribute; blank ones do not count.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntryForm {
    detection: Option<String>,
    name: Option<String>,
    kind: Option<String>,
    sha256: Option<String>,
    signer: Option<String>,
    image: Option<String>,
    original_file_name: Option<String>,
    command_line: Option<String>,
    parent_image: Option<String>,
    launch_root: Option<String>,
    user: Option<String>,
    destination: Option<String>,
    scope: Option<String>,
    scope_value: Option<String>,
    #[serde(default)]
    covers: Vec<String>,
    more_codes: Option<String>,
    reason: Option<String>,
    ticket: Option<String>,
    valid_from: Option<String>,
    expires_on: Option<String>,
    action: Option<String>,
}

/// Scopes of the form: value and words.
const SCOPES: [(&str, &str); 4] = [("hosts", "these hosts"), ("tags", "hosts with a tag"), ("class", "a class of hosts"), ("everywhere", "every host")];
/// Kinds of the form.
const KINDS: [(&str, &str); 3] = [("allow", "expected behaviour"), ("approved_compute", "approved compute"), ("exercise", "exercise of our own, 24 hours at most")];
/// Classes of the form: what entries may cover.
const COVERS: [(&str, &str); 7] = [
    ("R", "resource use"),
    ("C", "command line"),
    ("N", "mining or proxy network (needs a destination)"),
    ("L", "launch"),
    ("P", "persistent connection"),
    ("M", "masquerade"),
    ("A", "auxiliary"),
];

fn listed(text: Option<&str>) -> Vec<String> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
}

/// `2026-09-01`, or with a time; midnight UTC by default.
fn instant(field: &'static str, text: Option<&str>) -> std::result::Result<Option<DateTime<Utc>>, FieldError> {
    let Some(text) = text.map(str::trim).filter(|t| !t.is_empty()) else { return Ok(None) };
    let day = text.parse::<NaiveDate>().map(|d| d.and_time(NaiveTime::MIN).and_utc());
    day.or_else(|_| text.parse::<DateTime<Utc>>()).map(Some).map_err(|_| FieldError::new(field, "a day like 2026-09-01, or a time like 2026-09-01T10:00:00Z"))
}

impl EntryForm {
    /// Everything known of a detection, most specific first in the page; the author strikes out what is too narrow.
    fn of(found: &Detection) -> Self {
        let process = found.content.process.as_ref();
        let named = process.and_then(|p| p.sha256.clone());
        let suppressible = found.content.evidence.iter().filter(|e| !e.hard && e.points > 0.0).map(|e| e.class.to_string());
        Self {
            detection: Some(found.id.to_string()),
            signer: process.and_then(|p| p.signer.clone()),
            image: process.and_then(|p| p.image.clone()),
            parent_image: process.and_then(|p| p.parent_image.clone()),
            destination: found.content.destinations.first().and_then(|d| d.host.clone().or_else(|| d.ip.clone())),
            sha256: named,
            scope: Some("hosts".to_owned()),
            scope_value: Some(found.host.name.clone()),
            covers: suppressible.collect(),
            ..Self::default()
        }
    }

    fn body(&self) -> std::result::Result<EntryBody, FieldError> {
        let text = |value: &Option<String>| value.as_deref().map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned);
        let value = self.scope_value.as_deref();
        let scope = match self.scope.as_deref() {
            Some("everywhere") => Scope { everywhere: true, ..Scope::default() },
            Some("tags") => Scope { tags: listed(value), ..Scope::default() },
            Some("class") => Scope { class: text(&self.scope_value), ..Scope::default() },
            _ => Scope { hosts: listed(value), ..Scope::default() },
        };
        let kind: EntryKind = serde_json::from_value(json!(self.kind.as_deref().unwrap_or("allow"))).map_err(|e| FieldError::new("kind", e.to_string()))?;
        let covers = self.covers.iter().cloned().chain(listed(self.more_codes.as_deref()));
        let covers: std::result::Result<Vec<Cover>, _> = covers.map(|c| c.parse()).collect();
        Ok(EntryBody {
            name: text(&self.name),
            kind,
            matches: Match {
                sha256: text(&self.sha256),
                signer: text(&self.signer),
                image: text(&self.image),
                original_file_name: text(&self.original_file_name),
                command_line: text(&self.command_line),
                parent_image: text(&self.parent_image),
                launch_root: text(&self.launch_root),
                user: text(&self.user),
                destination: text(&self.destination),
            },
            scope,
            covers: covers.map_err(|e: crate::model::exceptions::UnknownCover| FieldError::new("covers", e.to_string()))?,
            reason: text(&self.reason).unwrap_or_default(),
            ticket: text(&self.ticket),
            valid_from: instant("valid_from", self.valid_from.as_deref())?,
            expires_at: instant("expires_on", self.expires_on.as_deref())?,
        })
    }

    /// Name, label and value of each condition, most specific first.
    fn conditions(&self) -> [(&'static str, &'static str, &str); 9] {
        [
            ("sha256", "SHA-256", self.sha256.as_deref().unwrap_or_default()),
            ("signer", "Signer", self.signer.as_deref().unwrap_or_default()),
            ("image", "Image path", self.image.as_deref().unwrap_or_default()),
            ("parent_image", "Parent image", self.parent_image.as_deref().unwrap_or_default()),
            ("destination", "Destination", self.destination.as_deref().unwrap_or_default()),
            ("original_file_name", "Original file name", self.original_file_name.as_deref().unwrap_or_default()),
            ("command_line", "Command line", self.command_line.as_deref().unwrap_or_default()),
            ("launch_root", "Task, service or WMI consumer", self.launch_root.as_deref().unwrap_or_default()),
            ("user", "User", self.user.as_deref().unwrap_or_default()),
        ]
    }

    fn is_scope(&self, word: &str) -> bool {
        self.scope.as_deref().unwrap_or("hosts") == word
    }

    fn is_kind(&self, word: &str) -> bool {
        self.kind.as_deref().unwrap_or("allow") == word
    }

    fn covers(&self, class: &str) -> bool {
        self.covers.iter().any(|c| c == class)
    }
}

#[derive(Template)]
#[template(path = "allowlist_new.html")]
struct NewPage {
    chrome: Chrome,
    form: EntryForm,
    fault: Option<FieldError>,
    preview: Option<Preview>,
    /// Approvals an entry like this needs; only with a preview.
    needed: i16,
    hard_codes: String,
}

fn hard_codes() -> String {
    Code::ALL.iter().filter(|c| c.is_hard()).map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Source {
    detection: Option<String>,
}

/// `GET /allowlist/new`
pub(crate) async fn new(
    who: Allowed<Propose>,
    axum_extra::extract::Query(Source { detection }): axum_extra::extract::Query<Source>,
    State(app): State<Arc<App>>,
) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let form = match detection {
        Some(id) => {
            let id: DetectionId = id.parse().map_err(|_| Error::NotFound)?;
            EntryForm::of(&detections::full(&mut conn, id).await?.ok_or(Error::NotFound)?)
        }
        None => EntryForm::default(),
    };
    let chrome = Chrome::load(&mut conn, &who, Section::Tuning, app.clock.now()).await?;
    page::render(StatusCode::OK, &NewPage { chrome, form, fault: None, preview: None, needed: 0, hard_codes: hard_codes() })
}

/// `POST /allowlist`: previews or stores, by the button that was pressed.
pub(crate) async fn create(who: Allowed<Propose>, State(app): State<Arc<App>>, Form(form): Form<EntryForm>) -> Result<Response> {
    let now = app.clock.now();
    let mut tx = app.db.web.begin().await?;
    let previews = form.action.as_deref() == Some("preview");
    let author = person(&who);
    let body = match form.body().and_then(|b| b.check(now).map(|()| b).map_err(|e| FieldError::new(e.field, e.reason))) {
        Ok(body) => body,
        Err(fault) => {
            let chrome = Chrome::load(&mut tx, &who, Section::Tuning, now).await?;
            return page::render(StatusCode::UNPROCESSABLE_ENTITY, &NewPage { chrome, form, fault: Some(fault), preview: None, needed: 0, hard_codes: hard_codes() });
        }
    };
    if previews {
        let until = body.expires_at.unwrap_or(now + crate::model::exceptions::DEFAULT_VALIDITY);
        let preview = store::preview(&mut tx, &body, now).await?;
        let needed = body.approvals_needed(until, now, author.leads, !preview.true_positives.is_empty());
        let chrome = Chrome::load(&mut tx, &who, Section::Tuning, now).await?;
        return page::render(StatusCode::OK, &NewPage { chrome, form, fault: None, preview: Some(preview), needed, hard_codes: hard_codes() });
    }
    match store::create(&mut tx, body, author, now).await {
        Ok(made) => {
            tx.commit().await?;
            app.marked.notify_one();
            Ok(page::go(&paths::Allowlist, &format!("{} is {}.", made.label, made.word())))
        }
        Err(Refusal::Exists(id)) => Ok(page::go(&paths::Allowlist, &format!("{} says the same already.", store::label(id)))),
        Err(refusal) => Err(refusal.into()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Approval {
    password: Option<String>,
}

/// `POST /allowlist/{id}/approve`: asks for the password if it was not given lately.
pub(crate) async fn approve(
    who: Allowed<Approve>,
    at: paths::Numbered,
    State(app): State<Arc<App>>,
    Form(form): Form<Approval>,
) -> Result<Response> {
    let now = app.clock.now();
    if !is_fresh(&who, now) {
        let address = who.actor.address.clone().unwrap_or_else(|| "unknown".to_owned());
        let mut conn = app.db.web.acquire().await?;
        let given = form.password.unwrap_or_default();
        match accounts::sign_in(&mut conn, who.name(), given, &address, now).await? {
            SignIn::Welcome(_) => {}
            SignIn::Wrong => return Err(Error::Invalid(vec![FieldError::new("password", "give your password to approve")])),
            SignIn::Wait(wait) => {
                let reason = format!("too many tries: wait {}", filters::span_text(wait));
                return Err(Error::Invalid(vec![FieldError::new("password", reason)]));
            }
        }
    }
    let mut tx = app.db.web.begin().await?;
    let after = store::approve(&mut tx, at.id.0, person(&who), now).await?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(page::go(&paths::Allowlist, &format!("{} is {}.", after.label, after.word())))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Versioned {
    version: i32,
}

/// `POST /allowlist/{id}/expire`: covers nothing from now on; what it covered stays covered.
pub(crate) async fn expire(
    who: Allowed<Tune>,
    at: paths::Numbered,
    State(app): State<Arc<App>>,
    Form(Versioned { version }): Form<Versioned>,
) -> Result<Response> {
    let now = app.clock.now();
    let patch: Map<String, Value> = [("expires_at".to_owned(), json!(now))].into_iter().collect();
    let mut tx = app.db.web.begin().await?;
    let after = store::edit(&mut tx, at.id.0, Some(version), patch, person(&who), now).await?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(page::go(&paths::Allowlist, &format!("{} ended. What it covered until now stays covered.", after.label)))
}

/// `POST /allowlist/{id}/revoke`: what it hid comes back.
pub(crate) async fn revoke(
    who: Allowed<Tune>,
    at: paths::Numbered,
    State(app): State<Arc<App>>,
    Form(Versioned { version: _ }): Form<Versioned>,
) -> Result<Response> {
    let mut tx = app.db.web.begin().await?;
    let after = store::revoke(&mut tx, at.id.0, person(&who), app.clock.now()).await?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(page::go(&paths::Allowlist, &format!("{} is revoked. What it hid is being evaluated again.", after.label)))
}
