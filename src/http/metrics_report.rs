//! `/metrics-report`: how fast, how right, how loud; as a file; and what was found as an ATT&CK Navigator layer.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Export, Read},
        error::{Error, Result},
        export,
        filters::{self, span_text},
        page::{self, Chrome, Section},
        query::Fields,
    },
    model::{
        code::Code,
        detection::{Detection, Verdict},
        permission::Permission,
    },
    store::{
        audit::{self, Deed},
        detections,
        report::{self, Count, Hidden, Loud, Person, Speed},
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
use serde_json::{Value, json};
use std::{collections::BTreeMap, str::FromStr as _, sync::Arc};

crate::http::route_table! {
    get "/metrics-report"                   Read   => show;
    get "/metrics-report/export"            Export => download;
    get "/metrics-report/attack-layer.json" Export => layer;
    get "/metrics-report/detections"        Export => all;
}

/// How detections with a code were decided.
struct Decided {
    code: String,
    says: &'static str,
    right: i64,
    benign: i64,
    wrong: i64,
    undetermined: i64,
    open: i64,
    /// Percent right of those decided right or wrong, with its 95 % interval.
    precision: Option<(f64, f64, f64)>,
}

/// Share of `right` in `all`, percent, with the Wilson score interval at 95 %.
fn wilson(right: i64, all: i64) -> Option<(f64, f64, f64)> {
    const Z: f64 = 1.96;
    if all == 0 {
        return None;
    }
    let (n, p) = (all as f64, right as f64 / all as f64);
    let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some((p * 100.0, (middle - half).max(0.0) * 100.0, (middle + half).min(1.0) * 100.0))
}

fn decided(counts: Vec<Count>) -> Vec<Decided> {
    let mut codes: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for count in counts {
        *codes.entry(count.name).or_default().entry(count.word).or_default() += count.count;
    }
    let row = |(code, words): (String, BTreeMap<String, i64>)| {
        let n = |word: &str| words.get(word).copied().unwrap_or(0);
        let (right, benign) = (n("true_positive"), n("benign_positive"));
        let wrong = n("false_positive_logic") + n("false_positive_data");
        Decided {
            says: Code::from_str(&code).map_or("", |c| c.entry().says),
            right,
            benign,
            wrong,
            undetermined: n("undetermined") + n("duplicate"),
            open: n("open"),
            precision: wilson(right, right + benign + wrong),
            code,
        }
    };
    codes.into_iter().map(row).collect()
}

#[derive(Template)]
#[template(path = "metrics_report.html")]
struct ReportPage {
    chrome: Chrome,
    fields: Fields,
    since: DateTime<Utc>,
    speed: Speed,
    verdicts: Vec<(String, Vec<(String, i64)>)>,
    decided: Vec<Decided>,
    loud: Vec<Loud>,
    hidden: Vec<Hidden>,
    /// For leads only; with the median in words.
    people: Option<Vec<(Person, String)>>,
    /// Acknowledge median and p90, close median and p90, in words.
    spans: [String; 4],
}

impl ReportPage {
    fn value(&self, name: &str) -> &str {
        self.fields.one(name).unwrap_or_default()
    }

    fn file(&self, path: &str, form: &str) -> String {
        format!("/metrics-report/{path}{}", self.fields.with("format", Some(form)))
    }
}

/// Seconds as people say them.
fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "no case".to_owned(), |s| span_text(TimeDelta::seconds(s as i64)))
}

fn since(fields: &Fields, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
    Ok(fields.time("since", now)?.unwrap_or(now - TimeDelta::days(30)))
}

/// `GET /metrics-report`
pub(crate) async fn show(who: Allowed<Read>, RawQuery(query): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let now = app.clock.now();
    let fields = Fields::parse(query.as_deref());
    let since = since(&fields, now)?;
    let mut conn = app.db.web.acquire().await?;
    let mut verdicts: BTreeMap<String, Vec<(String, i64)>> = BTreeMap::new();
    for count in report::verdicts(&mut conn, since).await? {
        verdicts.entry(count.name).or_default().push((count.word, count.count));
    }
    let speed = report::speed(&mut conn, since).await?;
    let people = if who.may(Permission::Tune) { Some(report::people(&mut conn, since).await?) } else { None };
    let page = ReportPage {
        chrome: Chrome::load(&mut conn, &who, Section::Tuning, now).await?,
        spans: [speed.acknowledge_median, speed.acknowledge_p90, speed.close_median, speed.close_p90].map(seconds),
        speed,
        verdicts: verdicts.into_iter().collect(),
        decided: decided(report::decisions(&mut conn, since).await?),
        loud: report::loudest(&mut conn, since).await?,
        hidden: report::hidden(&mut conn, since).await?,
        people: people.map(|all| all.into_iter().map(|p| (p.clone(), seconds(p.median))).collect()),
        fields,
        since,
    };
    page::render(StatusCode::OK, &page)
}

/// What leaves is written down first.
async fn noted(app: &App, who: &Allowed<Export>, object: &str, query: Option<&str>) -> Result<()> {
    let mut tx = app.db.web.begin().await?;
    let after = json!({"query": query});
    audit::append(&mut tx, &who.actor, Deed { action: "export", object, before: None, after: Some(after) }, app.clock.now()).await?;
    tx.commit().await?;
    Ok(())
}

fn form_of(fields: &Fields) -> export::Form {
    if fields.one("format") == Some("jsonl") { export::Form::Jsonl } else { export::Form::Csv }
}

/// `GET /metrics-report/export`: every number of the page as a line of its own.
pub(crate) async fn download(who: Allowed<Export>, RawQuery(query): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let fields = Fields::parse(query.as_deref());
    let since = since(&fields, app.clock.now())?;
    noted(&app, &who, "metrics-report", query.as_deref()).await?;
    let mut conn = app.db.web.acquire().await?;
    let speed = report::speed(&mut conn, since).await?;
    let mut rows: Vec<Value> = Vec::new();
    let mut add = |table: &str, name: &str, measure: &str, value: Value| rows.push(json!({"table": table, "name": name, "measure": measure, "value": value}));
    for (measure, value) in [
        ("found", json!(speed.found)),
        ("acknowledged", json!(speed.acknowledged)),
        ("acknowledge_median_seconds", json!(speed.acknowledge_median)),
        ("acknowledge_p90_seconds", json!(speed.acknowledge_p90)),
        ("closed", json!(speed.closed)),
        ("close_median_seconds", json!(speed.close_median)),
        ("close_p90_seconds", json!(speed.close_p90)),
        ("backlog", json!(speed.backlog)),
    ] {
        add("speed", "all", measure, value);
    }
    for count in report::verdicts(&mut conn, since).await? {
        add("verdict", &count.name, &count.word, json!(count.count));
    }
    for count in report::decisions(&mut conn, since).await? {
        add("disposition", &count.name, &count.word, json!(count.count));
    }
    for loud in report::loudest(&mut conn, since).await? {
        let name = format!("{} on {}", loud.image, loud.class.as_deref().unwrap_or("no class"));
        for (measure, value) in [("detections", loud.count), ("hosts", loud.hosts), ("true_positive", loud.right), ("not_worth_it", loud.wrong), ("suppressed", loud.suppressed)] {
            add("loudest", &name, measure, json!(value));
        }
    }
    let form = form_of(&fields);
    Ok(export::file(form, "coalface-metrics", export::rows(form, &["table", "name", "measure", "value"], &rows, true)))
}

/// `GET /metrics-report/attack-layer.json`: techniques of the evidence that was found, by detections.
/// Format: ATT&CK Navigator layer 4.5.
pub(crate) async fn layer(who: Allowed<Export>, RawQuery(query): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let fields = Fields::parse(query.as_deref());
    let since = since(&fields, app.clock.now())?;
    noted(&app, &who, "attack-layer", query.as_deref()).await?;
    let mut conn = app.db.web.acquire().await?;
    let found = report::speed(&mut conn, since).await?.found;
    let counts = report::decisions(&mut conn, since).await?;
    // Every technique the catalogue knows is on the layer: 0 says that it is looked for and was not found.
    let mut techniques: BTreeMap<&str, (i64, Vec<String>)> = BTreeMap::from([("T1496.001", (found, vec!["detections of AN0741 and AN1489".to_owned()]))]);
    for code in Code::ALL {
        let Some(technique) = code.entry().technique else { continue };
        let n: i64 = counts.iter().filter(|c| c.name == code.name()).map(|c| c.count).sum();
        let entry = techniques.entry(technique).or_default();
        entry.0 += n;
        entry.1.push(format!("{} {}: {n}", code.name(), code.entry().says));
    }
    let most = techniques.values().map(|t| t.0).max().unwrap_or(0).max(1);
    let layer = json!({
        "name": "Coalface", "versions": {"layer": "4.5", "navigator": "5.1.0"}, "domain": "enterprise-attack",
        "description": format!("Detections found since {}", filters::utc_text(since)),
        "filters": {"platforms": ["Windows"]},
        "gradient": {"colors": ["#ffffff", "#b3261e"], "minValue": 0, "maxValue": most},
        "techniques": techniques.iter().map(|(id, (n, said))| json!({"techniqueID": id, "score": n, "comment": said.join("\n"), "enabled": true})).collect::<Vec<_>>(),
    });
    Ok(export::attachment("coalface-attack-layer.json", "application/json", layer.to_string()))
}

const COLUMNS: [&str; 19] = [
    "id", "detected_at", "first_seen", "last_seen", "host", "tier", "title", "verdict", "severity", "score", "status", "disposition", "assignee", "image",
    "command_line", "sha256", "user", "destinations", "evidence",
];

/// A detection as one row.
fn flat(d: &Detection) -> Value {
    let process = d.content.process.as_ref();
    let joined = |items: Vec<String>| items.join("; ");
    json!({
        "id": d.id.to_string(), "detected_at": d.detected_at, "first_seen": d.content.first_seen, "last_seen": d.content.last_seen,
        "host": d.host.name, "tier": d.host.tier, "title": d.content.title, "verdict": d.content.verdict, "severity": d.content.severity,
        "score": super::view::score(d), "status": d.status, "disposition": d.disposition, "assignee": d.assignee,
        "image": process.and_then(|p| p.image.clone()), "command_line": process.and_then(|p| p.command_line.clone()),
        "sha256": process.and_then(|p| p.sha256.clone()), "user": process.and_then(|p| p.user.clone()),
        "destinations": joined(d.content.destinations.iter().map(|t| t.host.clone().or_else(|| t.ip.clone()).unwrap_or_default()).collect()),
        "evidence": joined(d.content.evidence.iter().map(|e| format!("{} {}", e.code, e.summary)).collect()),
    })
}

/// Detections of one step of a file.
const STEP: i64 = 500;

/// `GET /metrics-report/detections`: all of the queue's verdicts seen since an event time, open and closed, worst first. CSV holds
/// one row each, JSON lines the whole detection.
pub(crate) async fn all(who: Allowed<Export>, RawQuery(query): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let fields = Fields::parse(query.as_deref());
    let since = fields.time("since", app.clock.now())?;
    noted(&app, &who, "detections", query.as_deref()).await?;
    let form = form_of(&fields);
    let verdicts: Vec<Verdict> = detections::QUEUE.to_vec();
    let filter = detections::Filter { verdicts, since, limit: STEP, ..detections::Filter::default() };
    let pages = futures_util::stream::try_unfold((app, Some(filter), true), move |(app, filter, first)| async move {
        let Some(filter) = filter else { return Ok::<_, Error>(None) };
        let mut conn = app.db.web.acquire().await?;
        let page = detections::list(&mut conn, &filter).await?;
        drop(conn);
        let rows = match form {
            export::Form::Csv => page.items.iter().map(flat).collect(),
            export::Form::Jsonl => page.items.iter().map(serde_json::to_value).collect::<std::result::Result<Vec<_>, _>>().map_err(|e| Error::Internal(e.into()))?,
        };
        let next = page.next.map(|after| detections::Filter { after: Some(after), ..filter });
        Ok(Some((export::rows(form, &COLUMNS, &rows, first), (app, next, false))))
    });
    Ok(export::file(form, "coalface-detections", Body::from_stream(pages)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_comes_with_its_interval() {
        assert_eq!(wilson(0, 0), None);
        let (share, low, high) = wilson(8, 10).unwrap();
        assert!((share - 80.0).abs() < 0.01 && (low - 49.0).abs() < 0.2 && (high - 94.3).abs() < 0.2, "{share} {low} {high}");
        let (_, low, high) = wilson(1, 1).unwrap();
        assert!(low < 25.0 && high > 99.9, "one case proves little: {low} {high}");
    }

    #[test]
    fn decisions_are_counted_by_code() {
        let count = |word: &str, count| Count { name: "C.WALLET".to_owned(), word: word.to_owned(), count };
        let rows = decided(vec![count("true_positive", 3), count("false_positive_data", 1), count("open", 2), count("duplicate", 1)]);
        assert_eq!((rows[0].right, rows[0].wrong, rows[0].open, rows[0].undetermined), (3, 1, 2, 1));
        assert_eq!(rows[0].precision.map(|p| p.0), Some(75.0));
    }
}
