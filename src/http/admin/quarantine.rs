//! `/admin/quarantine`: records that could not be used. Read, download, and try again after a fix: the same line as at first.

use crate::{
    app::App,
    http::{
        auth::{Administer, Allowed, Form},
        error::{Error, Result},
        export,
        filters::{self, reveal},
        page::{self, Chrome, Section},
        paths,
        query::Fields,
    },
    intake::{self, Origin, Outcome},
    model::event::{Defaults, RawRecord},
    store::{
        audit::{self, Deed},
        quarantine::{self as store, Filter, Kept, REPLAYABLE},
        sources::{self, Fault},
        tokens,
    },
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

crate::http::route_table! {
    get  "/admin/quarantine"                Administer => list;
    post "/admin/quarantine/replay"         Administer => replay;
    get  "/admin/quarantine/{digest}"       Administer => show;
    get  "/admin/quarantine/{digest}/raw"   Administer => download;
}

/// Records of a page.
const ROWS: i64 = 50;
/// Records tried again by one press: their bytes are in memory together.
const MOST: i64 = 500;
/// Characters of a record shown on its page.
const SHOWN: usize = 100_000;

/// Protocols have static names in the intake line.
fn protocol(name: &str) -> &'static str {
    ["native", "elastic", "hec", "otlp", "telegraf", "osquery", "import"].into_iter().find(|p| *p == name).unwrap_or("replay")
}

/// What a reason means and who can mend it.
fn meaning(reason: &str) -> &'static str {
    match reason {
        "bad_json" => "not JSON, even after repair: the forwarder's encoding, or a record cut on its way",
        "bad_xml" => "not XML: the forwarder's encoding, or a record cut on its way",
        "too_large" => "larger than 1 MiB: cut when it was kept, cannot be tried again",
        "no_time" => "an event of a kind that is judged, without a usable time",
        "no_host" => "an event of a kind that is judged, without a host: give the token a default host",
        "time_out_of_range" => "outside 1990 to 2100: the clock of the sender",
        "unsupported_action" => "`update` or `delete` of an Elasticsearch bulk request: only create and index are taken",
        "host_not_allowed" => "the token is bound to other hosts: a wrong token on a machine, or an attempt to speak for another",
        "identity_conflict" => "claims to be an event that is stored and says something else: kept as it is, look at both",
        "refused_by_database" => "a value the database cannot hold",
        _ => "",
    }
}

struct Row {
    kept: Kept,
    first: String,
    href: String,
    retry: bool,
}

#[derive(Template)]
#[template(path = "admin/quarantine.html")]
struct ListPage {
    chrome: Chrome,
    fields: Fields,
    reasons: Vec<Fault>,
    rows: Vec<Row>,
    replayable: i64,
    next: Option<String>,
}

impl ListPage {
    fn value(&self, name: &str) -> &str {
        self.fields.one(name).unwrap_or_default()
    }
}

impl Fault {
    /// The list with these records alone.
    fn only(&self) -> String {
        let query: String = form_urlencoded::Serializer::new(String::new()).append_pair("token", &self.token).append_pair("reason", &self.reason).finish();
        format!("{}?{query}", paths::Quarantine)
    }
}

fn filter(fields: &Fields) -> Result<Filter> {
    let text = |name: &str| fields.one(name).map(str::to_owned);
    let before = fields.one("cursor").map(|c| {
        let (at, digest) = c.split_once('_')?;
        Some((DateTime::from_timestamp_micros(at.parse().ok()?)?, digest.parse::<Uuid>().ok()?))
    });
    let before = before.map(|b| b.ok_or_else(|| Error::Malformed("`cursor`: not a place of this list".to_owned()))).transpose()?;
    Ok(Filter { token: text("token"), reason: text("reason"), protocol: text("protocol"), before })
}

/// `GET /admin/quarantine`
pub(crate) async fn list(who: Allowed<Administer>, RawQuery(query): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let now = app.clock.now();
    let fields = Fields::parse(query.as_deref());
    let filter = filter(&fields)?;
    let mut conn = app.db.web.acquire().await?;
    let mut kept = store::list(&mut conn, &filter, ROWS + 1).await?;
    let more = i64::try_from(kept.len()).unwrap_or(i64::MAX) > ROWS;
    kept.truncate(usize::try_from(ROWS).unwrap_or(usize::MAX));
    let next = kept.last().filter(|_| more).map(|k| {
        let cursor = format!("{}_{}", k.received_at.timestamp_micros(), k.digest);
        format!("{}{}", paths::Quarantine, fields.with("cursor", Some(&cursor)))
    });
    let reasons = sources::faults(&mut conn, None, now).await?;
    let holds = |f: &&Fault| {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        same(&filter.token, &f.token) && same(&filter.reason, &f.reason) && same(&filter.protocol, &f.protocol)
    };
    let replayable = reasons.iter().filter(holds).filter(|f| REPLAYABLE.contains(&f.reason.as_str())).map(|f| f.count).sum();
    let rows = kept.into_iter().map(|kept| Row {
        first: reveal(&String::from_utf8_lossy(&kept.raw)).into_owned(),
        href: paths::QuarantineOne { digest: kept.digest }.to_string(),
        retry: REPLAYABLE.contains(&kept.reason.as_str()),
        kept,
    });
    let page = ListPage { chrome: Chrome::load(&mut conn, &who, Section::Admin, now).await?, rows: rows.collect(), fields, reasons, replayable, next };
    page::render(StatusCode::OK, &page)
}

#[derive(Template)]
#[template(path = "admin/quarantined.html")]
struct OnePage {
    chrome: Chrome,
    kept: Kept,
    href: String,
    raw: String,
    cut: bool,
    retry: bool,
}

/// `GET /admin/quarantine/{digest}`
pub(crate) async fn show(at: paths::QuarantineOne, who: Allowed<Administer>, State(app): State<Arc<App>>) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let kept = store::find(&mut conn, at.digest).await?.ok_or(Error::NotFound)?;
    let text = String::from_utf8_lossy(&kept.raw);
    let page = OnePage {
        chrome: Chrome::load(&mut conn, &who, Section::Admin, app.clock.now()).await?,
        href: at.to_string(),
        cut: text.chars().nth(SHOWN).is_some(),
        raw: text.lines().map(reveal).collect::<Vec<_>>().join("\n").chars().take(SHOWN).collect(),
        retry: REPLAYABLE.contains(&kept.reason.as_str()),
        kept,
    };
    page::render(StatusCode::OK, &page)
}

/// `GET /admin/quarantine/{digest}/raw`: byte for byte, never shown by a browser.
pub(crate) async fn download(at: paths::QuarantineOne, who: Allowed<Administer>, State(app): State<Arc<App>>) -> Result<Response> {
    let mut tx = app.db.web.begin().await?;
    let kept = store::find(&mut tx, at.digest).await?.ok_or(Error::NotFound)?;
    let object = kept.digest.to_string();
    audit::append(&mut tx, &who.actor, Deed { action: "quarantine.download", object: &object, ..Deed::default() }, app.clock.now()).await?;
    tx.commit().await?;
    Ok(export::attachment(&format!("quarantine-{object}.bin"), "application/octet-stream", kept.raw))
}

/// What to try again: one record, or what the filter holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Again {
    digest: Option<Uuid>,
    token: Option<String>,
    reason: Option<String>,
    protocol: Option<String>,
}

/// `POST /admin/quarantine/replay`: records go the way they came, with the present decoders and the present binding of their token.
pub(crate) async fn replay(who: Allowed<Administer>, State(app): State<Arc<App>>, Form(again): Form<Again>) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let filter = Filter { token: again.token, reason: again.reason, protocol: again.protocol, before: None };
    let kept = match again.digest {
        Some(digest) => store::find(&mut conn, digest).await?.into_iter().filter(|k| REPLAYABLE.contains(&k.reason.as_str())).collect(),
        None => store::batch(&mut conn, &filter, MOST).await?,
    };
    let mut groups: BTreeMap<(String, String), Vec<Kept>> = BTreeMap::new();
    for record in kept {
        groups.entry((record.token.clone(), record.protocol.clone())).or_default().push(record);
    }
    let (mut stored, mut released, mut tried) = (0usize, Vec::new(), 0usize);
    for ((token, name), records) in groups {
        let binding = tokens::binding(&mut conn, &token).await?.unwrap_or_default();
        let defaults = Arc::new(Defaults {
            host: binding.default_host,
            utc_offset_minutes: binding.utc_offset_minutes,
            allowed_hosts: binding.allowed_hosts,
            token: token.clone(),
        });
        tried += records.len();
        for (record, outcome) in submit(&app, &token, protocol(&name), &defaults, records).await? {
            match outcome {
                Outcome::Accepted | Outcome::Duplicate => {
                    stored += 1;
                    released.push(record.digest);
                }
                // Under its new reason it is in quarantine anew.
                Outcome::Quarantined(reject) if reject.reason() != record.reason => released.push(record.digest),
                Outcome::Quarantined(_) => {}
            }
        }
    }
    let now = app.clock.now();
    let mut tx = app.db.web.begin().await?;
    store::release(&mut tx, &released).await?;
    let after = json!({"token": filter.token, "reason": filter.reason, "protocol": filter.protocol, "tried": tried, "stored": stored});
    let object = again.digest.map_or_else(|| "filter".to_owned(), |d| d.to_string());
    audit::append(&mut tx, &who.actor, Deed { action: "quarantine.replay", object: &object, before: None, after: Some(after) }, now).await?;
    tx.commit().await?;
    let message = match tried {
        0 => "Nothing here can be tried again.".to_owned(),
        _ => format!("Tried {tried}: {stored} are stored as events now, {} are still not usable.", tried - stored),
    };
    Ok(page::go(&paths::Quarantine, &message))
}

/// Decodes off the async threads, stores with the group commit, pairs each record with what became of it.
async fn submit(app: &Arc<App>, token: &str, protocol: &'static str, defaults: &Arc<Defaults>, records: Vec<Kept>) -> Result<Vec<(Kept, Outcome)>> {
    let origin = Origin { token: token.to_owned(), protocol, request_id: format!("replay-{:08x}", rand::random::<u32>()) };
    let raw = records.iter().map(|k| RawRecord { bytes: Bytes::from(k.raw.clone()), client_id: None, defaults: Arc::clone(defaults) }).collect();
    // A record without a time of its own happened when it arrived, not when it is tried again.
    let received_at: DateTime<Utc> = records.iter().map(|k| k.received_at).min().unwrap_or_else(|| app.clock.now());
    let rules = Arc::clone(&app.rules);
    let prepared = app.tasks.spawn_blocking(move || intake::prepare(raw, &rules, origin, received_at)).await.map_err(|e| Error::Internal(e.into()))?;
    let receipt = app.writer.submit(prepared).await.map_err(|_| Error::Overloaded)?;
    Ok(records.into_iter().zip(receipt.outcomes).collect())
}
