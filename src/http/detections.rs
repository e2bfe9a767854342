//! `/detections/{id}`: one page, one decision. Every claim links to its raw event; what could explain it stands beside it.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Form, Read, Triage, Who},
        error::{Error, FieldError, Result},
        filters,
        page::{self, Chrome, Section},
        paths, queue,
        query::Fields,
        timeline::{self, Axis, Timeline},
        tree::{self, Launcher},
        view::{self, ClassView},
    },
    model::{
        code::Class,
        detection::{Detection, Disposition, Status},
        ids::{DetectionId, EventRef},
    },
    store::{
        cpu, detections, explain, flows, processes,
        queue as listing,
        triage::{self, Change, ChangeError},
        undo::{self, Kept},
    },
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use sqlx::{Connection as _, PgConnection};
use std::{collections::BTreeMap, sync::Arc};

/// The choices of the bar with their keys after `e`; the one that asks for more stands last, beside its field.
const DISPOSITIONS: [(Disposition, &str); 6] = [
    (Disposition::TruePositive, "t"),
    (Disposition::BenignPositive, "b"),
    (Disposition::FalsePositiveLogic, "fl"),
    (Disposition::FalsePositiveData, "fd"),
    (Disposition::Undetermined, "u"),
    (Disposition::Duplicate, "d"),
];

/// What stands beside the evidence.
struct Explanations {
    baselines: Vec<explain::Baseline>,
    entries: Vec<explain::Entry>,
    windows: Vec<explain::Window>,
    covered: Vec<String>,
}

/// What is known from before.
struct Before {
    hash: Option<flows::Sighting>,
    destinations: Vec<flows::Sighting>,
    this_host: Vec<detections::Line>,
    similar: Vec<detections::Line>,
}

/// An event that some evidence cites.
struct Cited {
    event: EventRef,
    codes: Vec<&'static str>,
}

/// What the visitor typed and why it was not taken.
#[derive(Default)]
struct Draft {
    note: String,
    duplicate_of: String,
    disposition: &'static str,
    faults: Vec<FieldError>,
}

#[derive(Template)]
#[template(path = "detection.html")]
struct DetectionPage<'a> {
    chrome: Chrome,
    d: &'a Detection,
    verdict: String,
    status: &'static str,
    decided: Option<(&'static str, &'static str)>,
    severity: &'static str,
    classes: Vec<ClassView<'a>>,
    explanations: Explanations,
    before: Before,
    timeline: Timeline,
    tree: Vec<tree::Row>,
    chain: Vec<(String, crate::model::ids::ProcessId)>,
    journal: Vec<detections::JournalEntry>,
    cited: Vec<Cited>,
    blind: Vec<(Class, String)>,
    from: String,
    draft: Draft,
    lasted: TimeDelta,
    has_duration: bool,
    /// Neighbours in the list it was opened from.
    around: (Option<DetectionId>, Option<DetectionId>),
    asleep: Option<DateTime<Utc>>,
}

impl DetectionPage<'_> {
    #[expect(clippy::unused_self, reason = "templates reach functions through values")]
    fn buttons(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static str)> {
        DISPOSITIONS.iter().map(|(disposition, key)| {
            (disposition.as_str(), view::disposition_label(*disposition), view::disposition_words(*disposition).1, *key)
        })
    }

    #[expect(clippy::unused_self, reason = "templates reach functions through values")]
    fn anchor(&self, event: &EventRef) -> String {
        view::event_anchor(event)
    }

    fn blind_for(&self, class: &str) -> bool {
        self.blind.iter().any(|(c, _)| c.to_string() == class)
    }

    fn blind_reason(&self, class: &str) -> &str {
        self.blind.iter().find(|(c, _)| c.to_string() == class).map_or("", |(_, reason)| reason)
    }

    fn there(&self, id: &DetectionId) -> String {
        let from = if self.from.is_empty() { String::new() } else { format!("?from={}", form_urlencoded::byte_serialize(self.from.as_bytes()).collect::<String>()) };
        format!("/detections/{id}{from}")
    }

    fn closed(&self) -> bool {
        self.d.status == Status::Closed
    }
}

/// `GET /detections/{id}`
pub(crate) async fn show(
    paths::Detection { id }: paths::Detection,
    who: Allowed<Read>,
    RawQuery(query): RawQuery,
    State(app): State<Arc<App>>,
) -> Result<Response> {
    let fields = Fields::parse(query.as_deref());
    let mut conn = app.db.web.acquire().await?;
    answer(&mut conn, &who, id, &fields, Draft::default(), StatusCode::OK, app.clock.now()).await
}

async fn answer(
    conn: &mut PgConnection,
    who: &Who,
    id: DetectionId,
    fields: &Fields,
    draft: Draft,
    status: StatusCode,
    now: DateTime<Utc>,
) -> Result<Response> {
    let from = fields.one("from").unwrap_or_default().to_owned();
    let d = detections::full(conn, id).await?.ok_or(Error::NotFound)?;
    let (group, groups) = detections::groups_of(conn, id).await?.ok_or(Error::NotFound)?;
    let content = &d.content;
    let axis = Axis::around(content.first_seen, content.last_seen);
    let lives = processes::of_groups(conn, id.host, &groups, axis.since, axis.until).await?;
    // A miner that started before its first evidence is drawn from its start, within reason.
    let started = content.process.as_ref().and_then(|p| p.started_at).filter(|at| content.first_seen - *at < TimeDelta::days(2));
    let axis = Axis::around(started.unwrap_or(content.first_seen).min(content.first_seen), content.last_seen);
    let (axis, zoomed) = axis.zoomed(fields, now)?;
    let load = cpu::lane(conn, id.host, group, axis.since, axis.until).await?;
    let flows = flows::of_groups(conn, id.host, &groups, axis.since, axis.until).await?;
    let lineage = match &content.process {
        Some(process) => processes::lineage(conn, process.id, processes::Reach::default()).await?,
        None => Vec::new(),
    };
    let launchers = launchers(&d);
    let filter = queue::filter(&Fields::parse(Some(&from)), who.name(), now)?;
    let page = DetectionPage {
        chrome: Chrome::load(conn, who, Section::Queue, now).await?,
        verdict: view::verdict_words(content),
        status: view::status_words(d.status),
        decided: d.disposition.map(view::disposition_words),
        severity: content.severity.as_str(),
        classes: view::classes(content),
        explanations: explanations(conn, &d).await?,
        before: before(conn, &d).await?,
        timeline: Timeline {
            zoomed,
            from: Some(from.clone()).filter(|from| !from.is_empty()),
            ..timeline::draw(axis, &lives, &load, &flows, &content.evidence)
        },
        tree: content.process.as_ref().map(|p| tree::rows(&lineage, p.id, &launchers)).unwrap_or_default(),
        chain: tree::chain(&lineage),
        journal: detections::journal(conn, id).await?,
        cited: cited(&d),
        blind: blind(&d),
        around: listing::neighbours(conn, &filter, id).await?,
        asleep: detections::snoozed_until(conn, id).await?.filter(|until| *until > now),
        from,
        draft,
        lasted: content.last_seen - content.first_seen,
        has_duration: content.last_seen - content.first_seen >= TimeDelta::minutes(1),
        d: &d,
    };
    page::render(status, &page)
}

/// Logical rows: artefacts the engine linked, else what its evidence of class L says.
fn launchers(d: &Detection) -> Vec<Launcher> {
    let named = |p: &crate::model::detection::Persistence| Launcher {
        kind: p.kind.replace('_', " "),
        text: p.command.as_ref().map_or_else(|| p.name.clone(), |command| format!("{} runs {command}", p.name)),
    };
    let linked: Vec<Launcher> = d.content.persistence.iter().take(4).map(named).collect();
    if !linked.is_empty() {
        return linked;
    }
    let said = d.content.evidence.iter().filter(|e| e.class == Class::L && e.hop >= 0.5);
    said.take(2).map(|e| Launcher { kind: launcher_kind(e.code.name()).to_owned(), text: e.summary.clone() }).collect()
}

/// Word for the launcher a code of class L is about.
pub(crate) fn launcher_kind(code: &str) -> &'static str {
    match code {
        "L.TASK" | "L.TASK_SUSP" => "scheduled task",
        "L.WMI" | "L.WMI_SUB" => "WMI",
        "L.PS" | "L.PS_SUSP" => "PowerShell",
        "L.SVC" | "L.SVC_SUSP" => "service",
        "L.EXPLOIT" => "server process",
        "L.RUNKEY" => "Run value",
        _ => "launcher",
    }
}

async fn explanations(conn: &mut PgConnection, d: &Detection) -> Result<Explanations> {
    let process = d.content.process.as_ref();
    let subject = explain::Subject {
        image: process.and_then(|p| p.image.clone()),
        host_class: d.host.class.clone(),
        sha256: process.and_then(|p| p.sha256.clone()),
        signer: process.and_then(|p| p.signer.clone()),
        user: process.and_then(|p| p.user.clone()),
        destinations: view::destination_keys(&d.content),
    };
    let mut covered: Vec<String> = d.content.evidence.iter().filter_map(|e| e.suppressed_by.clone()).collect();
    covered.sort_unstable();
    covered.dedup();
    Ok(Explanations {
        baselines: explain::baselines(conn, &subject).await?,
        entries: explain::entries(conn, &subject).await?,
        windows: explain::windows(conn, d.content.first_seen, d.content.last_seen).await?,
        covered,
    })
}

async fn before(conn: &mut PgConnection, d: &Detection) -> Result<Before> {
    let hash = d.content.process.as_ref().and_then(|p| p.sha256.clone());
    let hashes: Vec<String> = hash.clone().into_iter().collect();
    let mut names: Vec<String> =
        d.content.destinations.iter().filter_map(|t| t.host.clone().or_else(|| t.ip.clone())).collect();
    names.dedup();
    names.truncate(6);
    let this_host = detections::of_host(conn, d.id.host).await?;
    let similar = detections::similar(conn, d.id, hash.as_deref(), &view::destination_keys(&d.content)).await?;
    Ok(Before {
        hash: flows::sightings(conn, "image", &hashes, d.content.last_seen).await?.pop(),
        destinations: flows::sightings(conn, "destination", &names, d.content.last_seen).await?,
        this_host: this_host.into_iter().filter(|other| other.id != d.id).collect(),
        similar: similar.into_iter().filter(|other| other.id.host != d.id.host).collect(),
    })
}

/// Every event that evidence or persistence cites, once, by time.
fn cited(d: &Detection) -> Vec<Cited> {
    let mut by_event: BTreeMap<(DateTime<Utc>, EventRef), Vec<&'static str>> = BTreeMap::new();
    for e in &d.content.evidence {
        for event in &e.events {
            let codes = by_event.entry((event.at, *event)).or_default();
            if !codes.contains(&e.code.name()) {
                codes.push(e.code.name());
            }
        }
    }
    for p in &d.content.persistence {
        by_event.entry((p.event.at, p.event)).or_default();
    }
    by_event.into_iter().map(|((_, event), codes)| Cited { event, codes }).collect()
}

/// Classes the host's telemetry cannot show, with why.
fn blind(d: &Detection) -> Vec<(Class, String)> {
    let unobservable = d.content.classes.iter().filter(|(_, s)| s.state == crate::model::detection::State::Unobservable);
    unobservable.map(|(class, s)| (*class, s.reason.clone().unwrap_or_default())).collect()
}

/// The form of the bar.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decision {
    version: i32,
    disposition: Option<Disposition>,
    act: Option<Act>,
    note: Option<String>,
    duplicate_of: Option<String>,
    /// Of a snooze; 0 ends it.
    hours: Option<i64>,
    #[serde(default)]
    from: String,
}

/// What else the bar can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    /// Close with the chosen disposition.
    Close,
    /// Save the note.
    Note,
    /// Take it.
    Assign,
    /// Give it back.
    Release,
    /// Open it again.
    Reopen,
    /// Hide it for some hours.
    Snooze,
}

impl Decision {
    fn change(&self, d: &Detection, name: &str) -> Change {
        let mut change = Change { version: Some(self.version), note: self.note.clone().map(Some), ..Change::default() };
        if let Some(disposition) = self.closes() {
            change.status = Some(Status::Closed);
            change.disposition = Some(disposition);
            change.assignee = d.assignee.is_none().then(|| Some(name.to_owned()));
            if disposition == Disposition::Duplicate {
                change.duplicate_of = self.duplicate_of.clone().map(Some);
            }
            return change;
        }
        match self.act {
            Some(Act::Assign) => {
                change.assignee = Some(Some(name.to_owned()));
                change.status = (d.status == Status::New).then_some(Status::InProgress);
            }
            Some(Act::Release) => change.assignee = Some(None),
            Some(Act::Reopen) => change.status = Some(Status::New),
            Some(Act::Note | Act::Close | Act::Snooze) | None => {}
        }
        change
    }

    /// What it is closed as, if it is: another button leaves the choice for later.
    fn closes(&self) -> Option<Disposition> {
        self.disposition.filter(|_| matches!(self.act, None | Some(Act::Close)))
    }

    /// What the form itself asks beyond the rules of every change.
    fn faults(&self, d: &Detection) -> Vec<FieldError> {
        match self.closes() {
            None if self.act == Some(Act::Close) => vec![FieldError::new("disposition", "choose why it is closed")],
            Some(Disposition::Undetermined) if self.note.is_none() && d.note.is_none() => {
                vec![FieldError::new("note", "say what was looked at: undetermined needs a note")]
            }
            Some(Disposition::Duplicate) if self.duplicate_of.is_none() => {
                vec![FieldError::new("duplicate_of", "say which detection this one repeats")]
            }
            _ => Vec::new(),
        }
    }

    fn said(&self) -> String {
        match (self.closes(), self.act) {
            (Some(disposition), _) => format!("Closed: {}.", view::disposition_words(disposition).0.to_lowercase()),
            (None, Some(Act::Assign)) => "It is yours.".to_owned(),
            (None, Some(Act::Release)) => "Nobody has it now.".to_owned(),
            (None, Some(Act::Reopen)) => "Opened again.".to_owned(),
            (None, Some(Act::Snooze)) if self.hours == Some(0) => "Back in the queue.".to_owned(),
            (None, Some(Act::Snooze)) => "Snoozed.".to_owned(),
            (None, Some(Act::Note | Act::Close) | None) => "Note saved.".to_owned(),
        }
    }
}

/// `POST /detections/{id}`
pub(crate) async fn change(
    paths::Detection { id }: paths::Detection,
    who: Allowed<Triage>,
    State(app): State<Arc<App>>,
    Form(form): Form<Decision>,
) -> Result<Response> {
    let now = app.clock.now();
    let mut conn = app.db.web.acquire().await?;
    let d = detections::full(&mut conn, id).await?.ok_or(Error::NotFound)?;
    let mut faults = form.faults(&d);
    if faults.is_empty() {
        let mut tx = conn.begin().await?;
        match triage::change(&mut tx, id, Some(form.version), &form.change(&d, who.name()), &who.actor, now).await {
            Ok(applied) => {
                if let (Some(Act::Snooze), Some(hours)) = (form.act, form.hours) {
                    let until = (hours > 0).then(|| now + TimeDelta::hours(hours.min(24 * 90)));
                    triage::snooze(&mut tx, id, until, &who.actor, now).await?;
                }
                let kept: Vec<Kept> = Kept::of(id, &applied).into_iter().collect();
                let number = if kept.is_empty() { None } else { Some(undo::keep(&mut tx, who.name(), &form.said(), &kept, now).await?) };
                tx.commit().await?;
                app.marked.notify_one();
                return go_on(&mut conn, &d, &form, who.name(), number, now).await;
            }
            Err(ChangeError::NotFound) => return Err(Error::NotFound),
            Err(ChangeError::Stale(_)) => {
                drop(tx);
                return conflict(&mut conn, &who, id, form, now).await;
            }
            Err(ChangeError::Invalid(fault)) => faults.push(FieldError::new(fault.field, fault.reason)),
            Err(ChangeError::Other(error)) => return Err(error.into()),
        }
    }
    let draft = Draft { note: form.note.unwrap_or_default(), duplicate_of: form.duplicate_of.unwrap_or_default(), disposition: form.disposition.map_or("", Disposition::as_str), faults };
    let fields = Fields::default().with("from", Some(&form.from));
    answer(&mut conn, &who, id, &Fields::parse(fields.strip_prefix('?')), draft, StatusCode::UNPROCESSABLE_ENTITY, now).await
}

/// After closing: the next detection of the filter it was opened from. After anything else: the same page.
async fn go_on(conn: &mut PgConnection, d: &Detection, form: &Decision, me: &str, number: Option<i64>, now: DateTime<Utc>) -> Result<Response> {
    let query = |from: &str| {
        if from.is_empty() { String::new() } else { format!("?from={}", form_urlencoded::byte_serialize(from.as_bytes()).collect::<String>()) }
    };
    let here = |id: DetectionId| format!("{}{}", paths::Detection { id }, query(&form.from));
    if form.closes().is_none() {
        return Ok(page::go_with_undo(&here(d.id), &form.said(), number));
    }
    let filter = queue::filter(&Fields::parse(Some(&form.from)), me, now)?;
    let next = match listing::neighbours(conn, &filter, d.id).await? {
        (_, Some(next)) => Some(next),
        // the last of the list: begin again at its top
        _ => listing::ids(conn, &detections::Filter { after: None, ..filter }, 2).await?.into_iter().map(|(id, _)| id).find(|id| *id != d.id),
    };
    Ok(match next {
        Some(next) => page::go_with_undo(&here(next), &format!("{} This is the next one.", form.said()), number),
        None => page::go_with_undo(&format!("/{}", queue::canonical(&Fields::parse(Some(&form.from)))), &form.said(), number),
    })
}

/// A field that two people changed.
struct Difference {
    field: &'static str,
    now: String,
    yours: String,
}

#[derive(Template)]
#[template(path = "conflict.html")]
struct ConflictPage {
    chrome: Chrome,
    id: DetectionId,
    title: String,
    version: i32,
    who: String,
    at: Option<DateTime<Utc>>,
    differences: Vec<Difference>,
    form: Decision,
    act: &'static str,
}

/// 409: both values, the note kept, two buttons.
async fn conflict(conn: &mut PgConnection, who: &Who, id: DetectionId, form: Decision, now: DateTime<Utc>) -> Result<Response> {
    let d = detections::full(conn, id).await?.ok_or(Error::NotFound)?;
    let last = detections::journal(conn, id).await?.into_iter().next();
    let change = form.change(&d, who.name());
    let or_none = |v: Option<String>| v.unwrap_or_else(|| "none".to_owned());
    let yours = |new: Option<String>, old: String| new.unwrap_or(old);
    let disposition = or_none(d.disposition.map(|v| view::disposition_words(v).0.to_owned()));
    let status = view::status_words(d.status).to_owned();
    let (assignee, note) = (or_none(d.assignee.clone()), or_none(d.note.clone()));
    let differences = vec![
        Difference { field: "Status", yours: yours(change.status.map(|s| view::status_words(s).to_owned()), status.clone()), now: status },
        Difference {
            field: "Disposition",
            yours: yours(change.disposition.map(|v| view::disposition_words(v).0.to_owned()), disposition.clone()),
            now: disposition,
        },
        Difference { field: "Owner", yours: yours(change.assignee.map(or_none), assignee.clone()), now: assignee },
        Difference { field: "Note", yours: yours(change.note.map(or_none), note.clone()), now: note },
    ];
    let act = match form.act {
        Some(Act::Close) => "close",
        Some(Act::Snooze) => "snooze",
        Some(Act::Assign) => "assign",
        Some(Act::Release) => "release",
        Some(Act::Reopen) => "reopen",
        Some(Act::Note) | None => "note",
    };
    let page = ConflictPage {
        chrome: Chrome::load(conn, who, Section::Queue, now).await?,
        id,
        title: d.content.title.clone(),
        version: d.version,
        who: last.as_ref().map_or_else(|| "the engine".to_owned(), |l| l.actor.clone()),
        at: last.map(|l| l.at),
        differences,
        form,
        act,
    };
    page::render(StatusCode::CONFLICT, &page)
}
