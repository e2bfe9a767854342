//! What leaves the house about one detection: its report as a page to print, as Markdown and as JSON, and its raw records.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Export, Read, Who},
        error::{Error, Result},
        filters::{self, reveal},
        page::{self, Chrome, Section},
        paths, view,
    },
    model::{
        detection::{Detection, Process},
        ids::{DetectionId, EventRef},
    },
    store::{
        audit::{self, Deed},
        detections, events,
    },
};
use askama::Template;
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use sha2::{Digest as _, Sha256};
use sqlx::{Connection as _, PgConnection};
use std::{fmt::Write as _, sync::Arc};

crate::http::route_table! {
    get "/detections/{id}/report"          Read   => show;
    get "/detections/{id}/report.md"       Export => markdown;
    get "/detections/{id}/report.json"     Export => json;
    get "/detections/{id}/events.jsonl"    Export => records;
    get "/events/{event}/raw"              Export => record;
}

/// Most records of one download: a detection cites some dozens.
const MOST: usize = 500;

#[derive(Template)]
#[template(path = "report.html")]
struct ReportPage<'a> {
    chrome: Chrome,
    d: &'a Detection,
    verdict: String,
    classes: Vec<view::ClassView<'a>>,
    process: Vec<(&'static str, &'a str)>,
    journal: Vec<detections::JournalEntry>,
}

/// What is known of a process, by name.
fn facts(p: &Process) -> impl Iterator<Item = (&'static str, &str)> {
    let all = [
        ("Image", &p.image),
        ("Command line", &p.command_line),
        ("Original name", &p.original_file_name),
        ("SHA-256", &p.sha256),
        ("Signer", &p.signer),
        ("User", &p.user),
        ("Parent", &p.parent_image),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
}

/// `GET /detections/{id}/report`: everything on one page, for paper.
pub(crate) async fn show(
    paths::DetectionReport { id }: paths::DetectionReport,
    who: Allowed<Read>,
    State(app): State<Arc<App>>,
) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let d = detections::full(&mut conn, id).await?.ok_or(Error::NotFound)?;
    let page = ReportPage {
        chrome: Chrome::load(&mut conn, &who, Section::Queue, app.clock.now()).await?,
        verdict: view::verdict_words(&d.content),
        classes: view::classes(&d.content),
        process: d.content.process.iter().flat_map(facts).collect(),
        journal: detections::journal(&mut conn, id).await?,
        d: &d,
    };
    page::render(StatusCode::OK, &page)
}

/// `GET /detections/{id}/report.md`
pub(crate) async fn markdown(
    paths::DetectionMarkdown { id }: paths::DetectionMarkdown,
    who: Allowed<Export>,
    State(app): State<Arc<App>>,
) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let d = detections::full(&mut conn, id).await?.ok_or(Error::NotFound)?;
    let journal = detections::journal(&mut conn, id).await?;
    let text = as_markdown(&d, &journal);
    file(&mut conn, &app, &who, id, ("report.md", "text/markdown; charset=utf-8"), text.into_bytes()).await
}

/// `GET /detections/{id}/report.json`: as the API serves it.
pub(crate) async fn json(
    paths::DetectionJson { id }: paths::DetectionJson,
    who: Allowed<Export>,
    State(app): State<Arc<App>>,
) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let d = detections::full(&mut conn, id).await?.ok_or(Error::NotFound)?;
    let text = serde_json::to_vec_pretty(&d).map_err(anyhow::Error::from)?;
    file(&mut conn, &app, &who, id, ("report.json", "application/json"), text).await
}

/// `GET /detections/{id}/events.jsonl`: a line per cited event with the record as it was sent and its hash.
pub(crate) async fn records(
    paths::DetectionRecords { id }: paths::DetectionRecords,
    who: Allowed<Export>,
    State(app): State<Arc<App>>,
) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let mut text = String::new();
    for event in super::events::cited(&mut conn, id).await?.into_iter().take(MOST) {
        if let Some(stored) = events::find(&mut conn, event).await? {
            let raw = stored.raw.as_ref();
            let line = serde_json::json!({
                "event": event, "kind": stored.table, "fact": stored.fact, "received_at": stored.received_at,
                "sha256": raw.map(|raw| sha256(raw)), "raw": raw.map(|raw| String::from_utf8_lossy(raw)),
            });
            writeln!(text, "{line}").map_err(anyhow::Error::from)?;
        }
    }
    file(&mut conn, &app, &who, id, ("events.jsonl", "application/x-ndjson"), text.into_bytes()).await
}

/// `GET /events/{event}/raw`: the record, byte for byte.
pub(crate) async fn record(
    paths::EventRaw { event }: paths::EventRaw,
    who: Allowed<Export>,
    State(app): State<Arc<App>>,
) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let raw = events::find(&mut conn, event).await?.and_then(|stored| stored.raw).ok_or(Error::NotFound)?;
    audited(&mut conn, &app, &who, &event.to_string(), &raw).await?;
    Ok(attachment(&format!("event-{}.txt", name_of(event)), "application/octet-stream", raw))
}

fn name_of(event: EventRef) -> String {
    event.id.0.simple().to_string().chars().take(12).collect()
}

/// SHA-256 in lower-case hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap_or_default();
        out
    })
}

async fn file(
    conn: &mut PgConnection,
    app: &App,
    who: &Who,
    id: DetectionId,
    (name, kind): (&str, &'static str),
    bytes: Vec<u8>,
) -> Result<Response> {
    audited(conn, app, who, &format!("{id}/{name}"), &bytes).await?;
    Ok(attachment(&format!("detection-{id}-{name}"), kind, bytes))
}

/// What is taken out of the house is written down.
async fn audited(conn: &mut PgConnection, app: &App, who: &Who, object: &str, bytes: &[u8]) -> Result<()> {
    let mut tx = conn.begin().await?;
    let after = serde_json::json!({"bytes": bytes.len(), "sha256": sha256(bytes)});
    audit::append(
        &mut tx,
        &who.actor,
        Deed { action: "detection.export", object, before: None, after: Some(after) },
        app.clock.now(),
    )
    .await?;
    tx.commit().await?;
    Ok(())
}

fn attachment(name: &str, kind: &'static str, bytes: Vec<u8>) -> Response {
    let hash = sha256(&bytes);
    let mut response = bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for (header, value) in [
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (header::ETAG, format!("\"{hash}\"")),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(header, value);
        }
    }
    response
}

/// Event text inside Markdown: a code span that no backtick of the text can end, on one line.
fn code(text: &str) -> String {
    let text = reveal(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    if text.is_empty() { "none".to_owned() } else { format!("{fence} {text} {fence}") }
}

fn as_markdown(d: &Detection, journal: &[detections::JournalEntry]) -> String {
    let c = &d.content;
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("# Detection {}\n\n{}\n", d.id, code(&c.title)));
    line(format!(
        "- Verdict: {}, severity {} ({})",
        code(&view::verdict_words(c)),
        c.severity,
        code(&c.severity_reasons.join("; "))
    ));
    line(format!("- Host: {}", code(&d.host.name)));
    line(format!("- Event time: {} to {}", filters::utc_text(c.first_seen), filters::utc_text(c.last_seen)));
    line(format!("- Detected: {}", filters::utc_text(d.detected_at)));
    let decided = d.disposition.map_or("none", |v| view::disposition_words(v).0);
    line(format!(
        "- Status: {}, disposition: {decided}, owner: {}",
        view::status_words(d.status),
        code(d.assignee.as_deref().unwrap_or_default())
    ));
    line(format!("- Note: {}", code(d.note.as_deref().unwrap_or_default())));
    for a in &c.analytics {
        line(format!("- {}: {}, score {:.1} (raw {:.1})", a.id, a.verdict, a.score, a.raw_score));
    }
    line(format!("\n## Story\n\n{}\n\n## Evidence\n", code(&c.story)));
    for class in view::classes(c) {
        line(format!("- **{} {}**: {}", class.chip.class, class.title, code(&class.chip.words)));
        for e in class.evidence {
            line(format!("  - {} ({} points): {}", e.code, e.points, code(&e.summary)));
        }
    }
    if let Some(p) = &c.process {
        line("\n## Process\n".to_owned());
        for (name, text) in facts(p) {
            line(format!("- {name}: {}", code(text)));
        }
    }
    line("\n## Destinations\n".to_owned());
    for t in &c.destinations {
        let port = t.port.map(|p| format!(":{p}")).unwrap_or_default();
        let name = t.host.as_deref().or(t.ip.as_deref()).unwrap_or_default();
        line(format!(
            "- {}, {} to {}, {} connections",
            code(&format!("{name}{port}")),
            filters::utc_text(t.first_seen),
            filters::utc_text(t.last_seen),
            t.connections
        ));
    }
    line("\n## Persistence\n".to_owned());
    for p in &c.persistence {
        line(format!(
            "- {}: {} runs {}",
            p.kind.replace('_', " "),
            code(&p.name),
            code(p.command.as_deref().unwrap_or_default())
        ));
    }
    line("\n## Activity\n".to_owned());
    for j in journal.iter().rev() {
        line(format!(
            "- {} {} {}: {}",
            filters::utc_text(j.at),
            code(&j.actor),
            j.action.replace('_', " "),
            code(&j.detail)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn no_text_leaves_its_code_span() {
        for text in ["a`b", "``` x", "\n# title", "plain"] {
            let shown = code(text);
            let fence: String = shown.chars().take_while(|c| *c == '`').collect();
            let inside = shown.trim_start_matches('`').trim_end_matches('`');
            assert!(!inside.contains(&fence) && !shown.contains('\n'), "{shown}");
        }
    }
}
