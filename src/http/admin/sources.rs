//! `/admin/sources`: which forwarder sends how much, how late, and what of it cannot be used; and the way to add one.

use super::{NAME_RULE, is_name, recipes::{RECIPES, Recipe}};
use crate::{
    app::App,
    http::{
        advice::{self, Advice},
        auth::{Administer, Allowed, Form},
        error::{Error, FieldError, Result},
        filters,
        page::{self, Chrome, Section},
        paths, reauth,
    },
    intake::Sample,
    model::{coverage::Seen, event::Defaults, permission::Scope},
    store::{
        audit::{self, Deed},
        sources::{self, Fault, Rate, Segment},
        tokens::{self, Binding, Listed, New},
    },
};
use askama::Template;
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use axum_extra::extract::Query;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::json;
use sqlx::PgConnection;
use std::{collections::BTreeMap, sync::Arc};

crate::http::route_table! {
    get  "/admin/sources"        Administer => list;
    get  "/admin/sources/new"    Administer => new;
    post "/admin/sources/new"    Administer => create;
    get  "/admin/sources/{name}" Administer => show;
}

/// Records looked at per source in the list, for lag and kinds.
const GLANCE: usize = 50;
/// Segments and records of each that the page of a source looks at.
const LOOK: (i64, usize) = (8, 125);
/// Silence that is worth a word, while the token still counts.
const SILENT: TimeDelta = TimeDelta::minutes(15);

/// A source in the list: a token, and what came by it.
struct Row {
    token: String,
    href: Option<String>,
    protocols: String,
    rate: f64,
    records: i64,
    bytes: i64,
    last_at: Option<DateTime<Utc>>,
    lag: Option<Lag>,
    /// Percent of the newest records that no rule judges.
    unjudged: Option<usize>,
    faults: Vec<(String, i64)>,
    state: &'static str,
    words: String,
}

/// Arrival minus event time of the newest event.
enum Lag {
    Late(TimeDelta),
    /// The sender's clock is in the future.
    Ahead(TimeDelta),
}

impl Lag {
    fn of(segment: &Segment, sample: &Sample) -> Option<Self> {
        let late = segment.received_at - sample.last?;
        Some(if late < TimeDelta::minutes(-1) { Self::Ahead(-late) } else { Self::Late(late) })
    }
}

#[derive(Template)]
#[template(path = "admin/sources.html")]
struct ListPage {
    chrome: Chrome,
    rows: Vec<Row>,
}

async fn defaults(conn: &mut PgConnection, name: &str) -> sqlx::Result<Arc<Defaults>> {
    let binding = tokens::binding(conn, name).await?.unwrap_or_default();
    Ok(Arc::new(Defaults {
        host: binding.default_host,
        utc_offset_minutes: binding.utc_offset_minutes,
        allowed_hosts: binding.allowed_hosts,
        token: name.to_owned(),
    }))
}

/// Decodes records of segments off the async threads.
async fn sampled(app: &App, segments: Vec<(Segment, Arc<Defaults>)>, most: usize) -> Result<Vec<(Segment, Sample)>> {
    let work = app.tasks.spawn_blocking(move || {
        let look = |(segment, defaults): (Segment, Arc<Defaults>)| {
            let mut sample = Sample::default();
            sample.add(&segment.body, &defaults, most).map(|()| (segment, sample))
        };
        segments.into_iter().map(look).collect::<std::io::Result<Vec<_>>>()
    });
    let found = work.await.map_err(|e| Error::Internal(e.into()))?;
    found.map_err(|e| Error::Internal(anyhow::Error::new(e).context("reading a raw segment")))
}

/// `GET /admin/sources`
pub(crate) async fn list(who: Allowed<Administer>, State(app): State<Arc<App>>) -> Result<Response> {
    let now = app.clock.now();
    let mut conn = app.db.web.acquire().await?;
    let chrome = Chrome::load(&mut conn, &who, Section::Admin, now).await?;
    let known: BTreeMap<String, Listed> = tokens::list(&mut conn).await?.into_iter().map(|t| (t.name.clone(), t)).collect();
    let mut rates: BTreeMap<String, Vec<Rate>> = BTreeMap::new();
    for rate in sources::rates(&mut conn, None, now).await? {
        rates.entry(rate.token.clone()).or_default().push(rate);
    }
    let mut faults: BTreeMap<String, Vec<Fault>> = BTreeMap::new();
    for fault in sources::faults(&mut conn, None, now).await? {
        faults.entry(fault.token.clone()).or_default().push(fault);
    }
    let active: Vec<String> = rates.keys().cloned().collect();
    let mut glances = Vec::new();
    for segment in sources::newest(&mut conn, &active, 1, now).await? {
        let defaults = defaults(&mut conn, &segment.token).await?;
        glances.push((segment, defaults));
    }
    drop(conn);
    let glances: BTreeMap<String, (Segment, Sample)> =
        sampled(&app, glances, GLANCE).await?.into_iter().map(|(segment, sample)| (segment.token.clone(), (segment, sample))).collect();

    let mut names: Vec<&String> = known.iter().filter(|(_, t)| t.scopes.iter().any(|s| s == "ingest")).map(|(name, _)| name).collect();
    names.extend(rates.keys().chain(faults.keys()));
    names.sort_unstable();
    names.dedup();
    let none = Vec::new();
    let mut rows: Vec<Row> = names
        .into_iter()
        .map(|name| row(name, known.get(name), rates.get(name).unwrap_or(&none), faults.get(name).map_or(&[], Vec::as_slice), glances.get(name), now))
        .collect();
    // What still counts and sends, then what should send, then what is over.
    let rank = |state: &str| ["receiving", "silent", "unused", "over"].iter().position(|s| *s == state);
    rows.sort_by_key(|r| rank(r.state));
    page::render(StatusCode::OK, &ListPage { chrome, rows })
}

fn row(name: &str, token: Option<&Listed>, rates: &[Rate], faults: &[Fault], glance: Option<&(Segment, Sample)>, now: DateTime<Utc>) -> Row {
    let last_at = rates.iter().map(|r| r.last_at).max().or_else(|| token.and_then(|t| t.last_used));
    let over = token.is_some_and(|t| t.revoked_at.is_some() || t.expires_at <= now);
    let (state, words) = match (over, last_at) {
        (true, _) if token.is_some_and(|t| t.revoked_at.is_some()) => ("over", "revoked".to_owned()),
        (true, _) => ("over", "expired".to_owned()),
        (_, None) => ("unused", "waiting for its first event".to_owned()),
        (_, Some(at)) if now - at > SILENT => ("silent", format!("silent for {}", filters::span_text(now - at))),
        _ => ("receiving", "receiving".to_owned()),
    };
    let soon = token.filter(|t| !over && t.expires_at < now + TimeDelta::days(14)).map(|t| filters::span_text(t.expires_at - now));
    let mut counted: BTreeMap<&str, i64> = BTreeMap::new();
    for fault in faults {
        *counted.entry(&fault.reason).or_default() += fault.count;
    }
    let mut protocols: Vec<&str> = rates.iter().map(|r| r.protocol.as_str()).chain(faults.iter().map(|f| f.protocol.as_str())).collect();
    protocols.sort_unstable();
    protocols.dedup();
    Row {
        token: name.to_owned(),
        href: token.map(|_| paths::Source { name: name.to_owned() }.to_string()),
        protocols: protocols.join(", "),
        rate: rates.iter().map(|r| r.recent).sum::<i64>() as f64 / 300.0,
        records: rates.iter().map(|r| r.records).sum(),
        bytes: rates.iter().map(|r| r.bytes).sum(),
        last_at,
        lag: glance.and_then(|(segment, sample)| Lag::of(segment, sample)),
        unjudged: glance.and_then(|(_, s)| (s.kinds.get("other_event").copied().unwrap_or(0) * 100).checked_div(s.kinds.values().sum())),
        faults: counted.into_iter().map(|(reason, n)| (reason.to_owned(), n)).collect(),
        state,
        words: soon.map_or(words.clone(), |left| format!("{words}, expires in {left}")),
    }
}

#[derive(Template)]
#[template(path = "admin/source.html", blocks = ["panel"])]
struct SourcePage {
    chrome: Chrome,
    token: Listed,
    href: String,
    binding: Binding,
    rates: Vec<Rate>,
    faults: Vec<Fault>,
    sample: Sample,
    lag: Option<Lag>,
    unknown: Vec<([String; 3], usize)>,
    advice: Vec<&'static Advice>,
    now: DateTime<Utc>,
}

impl SourcePage {
    fn has_sent(&self) -> bool {
        !self.rates.is_empty() || !self.faults.is_empty()
    }

    fn counts(&self) -> bool {
        self.token.revoked_at.is_none() && self.token.expires_at > self.now
    }

    fn rate(&self) -> f64 {
        self.rates.iter().map(|r| r.recent).sum::<i64>() as f64 / 300.0
    }

    /// Kind, events, percent of all, classes it tells about.
    fn kinds(&self) -> Vec<(&'static str, usize, usize, &'static str)> {
        let all: usize = self.sample.kinds.values().sum();
        self.sample.kinds.iter().map(|(kind, n)| (*kind, *n, (n * 100).checked_div(all).unwrap_or(0), classes(kind))).collect()
    }
}

/// Classes that events of a kind tell about.
fn classes(kind: &str) -> &'static str {
    match kind {
        "process_start" | "process_stop" => "C L M",
        "cpu_sample" | "host_sample" => "R",
        "connection" | "dns_query" => "N P",
        "persistence" | "script" => "L",
        "module_load" | "file_write" | "process_tamper" => "M",
        "security_alert" | "setting_change" => "A",
        _ => "",
    }
}

/// What a sample shows, as coverage of one host would.
fn seen(sample: &Sample) -> Seen {
    let n = |kind: &str| sample.kinds.get(kind).map_or(0, |n| i64::try_from(*n).unwrap_or(i64::MAX));
    let starts = n("process_start");
    Seen {
        alive: 1,
        with_cpu: n("cpu_sample"),
        with_host_cpu: n("host_sample"),
        starts,
        starts_with_command: starts,
        starts_with_parent: starts,
        starts_with_metadata: starts,
        connections: n("connection"),
        flows: 1,
        dns: n("dns_query"),
        scripts: n("script"),
        tasks: n("persistence"),
        ..Seen::default()
    }
}

async fn source(app: &App, who: &Allowed<Administer>, name: &str) -> Result<SourcePage> {
    let now = app.clock.now();
    let mut conn = app.db.web.acquire().await?;
    let token = tokens::list(&mut conn).await?.into_iter().find(|t| t.name == name).ok_or(Error::NotFound)?;
    let chrome = Chrome::load(&mut conn, who, Section::Admin, now).await?;
    let binding = tokens::binding(&mut conn, name).await?.unwrap_or_default();
    let rates = sources::rates(&mut conn, Some(name), now).await?;
    let faults = sources::faults(&mut conn, Some(name), now).await?;
    let defaults = defaults(&mut conn, name).await?;
    let newest = if rates.is_empty() { Vec::new() } else { sources::newest(&mut conn, &[name.to_owned()], LOOK.0, now).await? };
    drop(conn);
    let segments = newest.into_iter().map(|s| (s, Arc::clone(&defaults))).collect();
    let mut lag = None;
    let mut sample = Sample::default();
    for (segment, part) in sampled(app, segments, LOOK.1).await? {
        lag = lag.or_else(|| Lag::of(&segment, &part));
        sample.merge(part);
    }
    let mut unknown: Vec<_> = sample.unknown.iter().map(|(k, n)| (k.clone(), *n)).collect();
    unknown.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let advice = if sample.records == 0 { Vec::new() } else { advice::missing(std::iter::once((name, seen(&sample)))).into_iter().map(|(a, _)| a).collect() };
    Ok(SourcePage { chrome, href: paths::Source { name: name.to_owned() }.to_string(), token, binding, rates, faults, sample, lag, unknown, advice, now })
}

/// `GET /admin/sources/{name}`: asked by htmx it answers the panel alone.
pub(crate) async fn show(paths::Source { name }: paths::Source, who: Allowed<Administer>, State(app): State<Arc<App>>) -> Result<Response> {
    let page = source(&app, &who, &name).await?;
    if who.visit.hx.is_fragment() { page::render(StatusCode::OK, &page.as_panel()) } else { page::render(StatusCode::OK, &page) }
}

#[derive(Template)]
#[template(path = "admin/source_new.html")]
struct NewPage {
    chrome: Chrome,
    form: SourceForm,
    fault: Option<FieldError>,
    ask_password: bool,
    base: String,
    plain: bool,
}

/// A new source as typed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceForm {
    product: Option<String>,
    name: Option<String>,
    default_host: Option<String>,
    allowed_hosts: Option<String>,
    zone: Option<String>,
    days: Option<String>,
    password: Option<String>,
}

impl SourceForm {
    fn is(&self, id: &str) -> bool {
        self.product.as_deref().unwrap_or(RECIPES[0].id) == id
    }

    fn binding(&self) -> std::result::Result<Binding, FieldError> {
        let host = self.default_host.as_deref().map(str::trim).filter(|h| !h.is_empty());
        let allowed = self.allowed_hosts.as_deref().unwrap_or_default().split([',', ' ', '\n', '\r']).map(str::trim).filter(|h| !h.is_empty());
        let allowed: Vec<String> = allowed.map(str::to_lowercase).collect();
        if let Some(host) = host.filter(|h| !allowed.is_empty() && !allowed.iter().any(|a| a.eq_ignore_ascii_case(h))) {
            return Err(FieldError::new("default_host", format!("`{host}` is not among the allowed hosts")));
        }
        Ok(Binding {
            default_host: host.map(str::to_lowercase),
            allowed_hosts: allowed,
            utc_offset_minutes: match self.zone.as_deref().map(str::trim) {
                None | Some("") => None,
                Some(zone) => Some(offset(zone).ok_or_else(|| FieldError::new("zone", "an offset such as +02:00 or -05:30"))?),
            },
        })
    }

    fn days(&self) -> std::result::Result<i64, FieldError> {
        let days = self.days.as_deref().map_or(Ok(365), |d| d.trim().parse());
        days.ok().filter(|d| (1..=365).contains(d)).ok_or_else(|| FieldError::new("days", "1 to 365 days"))
    }
}

/// Minutes east of UTC of `+02:00`.
fn offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..=14).contains(&hours) && (0..60).contains(&minutes)).then_some(sign * (hours * 60 + minutes))
}

/// Where forwarders reach the ingest port: the setting, else this host name with that port.
fn base(app: &App, headers: &HeaderMap) -> String {
    if let Some(url) = &app.settings.ingest_url {
        return url.trim_end_matches('/').to_owned();
    }
    let asked = headers.get(header::HOST).and_then(|h| h.to_str().ok()).and_then(|h| h.parse::<axum::http::uri::Authority>().ok());
    let host = asked.as_ref().map_or("127.0.0.1", |a| a.host());
    format!("http://{host}:{}", app.settings.ingest_listen.port())
}

/// Whether a token would cross a network in the clear.
fn is_plain(base: &str) -> bool {
    let local = ["http://127.", "http://localhost", "http://[::1]"];
    base.starts_with("http://") && !local.iter().any(|l| base.starts_with(l))
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Chosen {
    product: Option<String>,
}

/// `GET /admin/sources/new`
pub(crate) async fn new(who: Allowed<Administer>, Query(Chosen { product }): Query<Chosen>, headers: HeaderMap, State(app): State<Arc<App>>) -> Result<Response> {
    let form = SourceForm { product, ..SourceForm::default() };
    form_page(&app, &who, &headers, form, None).await
}

async fn form_page(app: &App, who: &Allowed<Administer>, headers: &HeaderMap, mut form: SourceForm, fault: Option<FieldError>) -> Result<Response> {
    let now = app.clock.now();
    form.password = None;
    let mut conn = app.db.web.acquire().await?;
    let base = base(app, headers);
    let page = NewPage {
        chrome: Chrome::load(&mut conn, who, Section::Admin, now).await?,
        ask_password: reauth::is_due(who, now),
        plain: is_plain(&base),
        form,
        base,
        fault,
    };
    page::render(if page.fault.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK }, &page)
}

#[derive(Template)]
#[template(path = "admin/source_made.html")]
struct MadePage {
    chrome: Chrome,
    recipe: &'static Recipe,
    token: String,
    name: String,
    href: String,
    text: String,
    plain: bool,
    expires_at: DateTime<Utc>,
}

/// `POST /admin/sources/new`: the only page that ever shows the token.
pub(crate) async fn create(who: Allowed<Administer>, headers: HeaderMap, State(app): State<Arc<App>>, Form(form): Form<SourceForm>) -> Result<Response> {
    let now = app.clock.now();
    let name = form.name.clone().unwrap_or_default().trim().to_owned();
    let recipe = Recipe::find(form.product.as_deref().unwrap_or_default());
    let checked = match recipe {
        None => Err(FieldError::new("product", "choose one of the list")),
        Some(_) if !is_name(&name) || name == "new" => Err(FieldError::new("name", NAME_RULE)),
        Some(recipe) => form.binding().and_then(|binding| form.days().map(|days| (recipe, binding, days))),
    };
    let (recipe, binding, days) = match checked {
        Ok(checked) => checked,
        Err(fault) => return form_page(&app, &who, &headers, form, Some(fault)).await,
    };
    match reauth::demand(&app, &who, form.password.clone()).await {
        Err(Error::Invalid(mut faults)) => return form_page(&app, &who, &headers, form, faults.pop()).await,
        other => other?,
    }
    let expires_at = now + TimeDelta::days(days);
    let mut tx = app.db.web.begin().await?;
    let new = New { name: &name, scopes: &[Scope::Ingest], owner: who.name(), host: None, expires_at };
    let Some(token) = tokens::create(&mut tx, &new, now).await? else {
        drop(tx);
        return form_page(&app, &who, &headers, form, Some(FieldError::new("name", "a token of this name exists already"))).await;
    };
    tokens::bind(&mut tx, &name, &binding).await?;
    let after = json!({
        "scopes": ["ingest"], "product": recipe.id, "default_host": binding.default_host, "allowed_hosts": binding.allowed_hosts,
        "utc_offset_minutes": binding.utc_offset_minutes, "expires_at": expires_at,
    });
    let chrome = Chrome::load(&mut tx, &who, Section::Admin, now).await?;
    audit::append(&mut tx, &who.actor, Deed { action: "token.create", object: &name, before: None, after: Some(after) }, now).await?;
    tx.commit().await?;
    let base = base(&app, &headers);
    let page = MadePage {
        chrome,
        text: recipe.text(&base, &token),
        href: paths::Source { name: name.clone() }.to_string(),
        plain: is_plain(&base),
        recipe,
        token,
        name,
        expires_at,
    };
    page::render(StatusCode::CREATED, &page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_offsets() {
        for (text, minutes) in [("+02:00", Some(120)), ("-05:30", Some(-330)), ("+1", Some(60)), ("UTC", None), ("+15:00", None), ("", None), ("é", None)] {
            assert_eq!(offset(text), minutes, "{text}");
        }
    }

    #[test]
    fn a_token_in_the_clear_is_noticed() {
        assert!(is_plain("http://192.0.2.1:8088"));
        assert!(!is_plain("http://127.0.0.1:8088") && !is_plain("https://coalface.example"));
    }
}
