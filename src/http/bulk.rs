//! Many detections at once: one form around the queue's table, versions included; and taking decisions back.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Form, Read, Triage, Who},
        error::{Error, FieldError, Result},
        filters,
        page::{self, Chrome, Section},
        paths,
        query::Fields,
        queue, view,
    },
    model::{
        detection::{Disposition, Status},
        ids::DetectionId,
        permission::Permission,
    },
    store::{
        detections, queue as listing,
        triage::{self, Change, ChangeError},
        undo::{self, Kept},
        views,
    },
};
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use sqlx::{Connection as _, PgConnection};
use std::sync::Arc;

crate::http::route_table! {
    post "/bulk"                   Triage => apply;
    post "/undo"                   Triage => take_back;
    post "/views"                  Read   => save_view;
    post "/views/delete"           Read   => delete_view;
    get  "/_f/detections/{id}/peek" Read  => peek;
}

/// Most detections of one action. Chosen: a fleet-wide false alarm, still one page of the audit log.
const MOST: i64 = 2_000;
/// Rows of one transaction. Source: interface design, section 7.2.
const AT_ONCE: usize = 500;

/// What is done to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Act {
    /// With a disposition.
    Close,
    /// To somebody, or nobody.
    Assign,
    /// The note alone.
    Note,
    /// For some hours.
    Snooze,
}

impl Act {
    fn as_str(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Assign => "assign",
            Self::Note => "note",
            Self::Snooze => "snooze",
        }
    }
}

/// The form of the queue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bulk {
    /// `detection.version`, one per ticked row.
    #[serde(default)]
    id: Vec<String>,
    /// Everything that matches `query` instead.
    all: Option<String>,
    /// Canonical query of the page.
    #[serde(default)]
    query: String,
    act: Act,
    disposition: Option<Disposition>,
    note: Option<String>,
    /// Account name; `nobody` takes it away.
    assignee: Option<String>,
    /// 0 wakes.
    hours: Option<i64>,
    /// How many the visitor was told would change.
    confirmed: Option<i64>,
}

impl Bulk {
    fn change(&self, me: &str) -> std::result::Result<Change, Vec<FieldError>> {
        let mut change = Change { note: self.note.clone().map(Some), ..Change::default() };
        match self.act {
            Act::Close => {
                let Some(disposition) = self.disposition else {
                    return Err(vec![FieldError::new("disposition", "choose why they are closed")]);
                };
                if disposition == Disposition::Duplicate {
                    return Err(vec![FieldError::new(
                        "disposition",
                        "a duplicate names its original: close it on its own page",
                    )]);
                }
                if disposition == Disposition::Undetermined && self.note.is_none() {
                    return Err(vec![FieldError::new("note", "say what was looked at: undetermined needs a note")]);
                }
                change.status = Some(Status::Closed);
                change.disposition = Some(disposition);
            }
            Act::Assign => {
                let name = self.assignee.as_deref().unwrap_or(me);
                change.assignee = Some((name != "nobody").then(|| name.to_owned()));
            }
            Act::Note if self.note.is_none() => return Err(vec![FieldError::new("note", "write one")]),
            Act::Note | Act::Snooze => {}
        }
        Ok(change)
    }

    fn picked(&self) -> Result<Vec<(DetectionId, i32)>> {
        let read = |text: &String| {
            let (id, version) = text.rsplit_once('.')?;
            Some((id.parse().ok()?, version.parse().ok()?))
        };
        let all: Option<Vec<_>> = self.id.iter().map(read).collect();
        all.filter(|list| list.len() <= 200)
            .ok_or_else(|| Error::Malformed("`id`: expected rows of the queue, at most 200".to_owned()))
    }

    fn back(&self) -> String {
        format!("/{}", queue::canonical(&Fields::parse(Some(&self.query))))
    }
}

/// What a bulk action did.
#[derive(Default)]
struct Done {
    done: usize,
    kept: Vec<Kept>,
    skipped: Vec<(DetectionId, &'static str)>,
}

#[derive(Template)]
#[template(path = "bulk.html")]
struct BulkPage<'a> {
    chrome: Chrome,
    /// Before: how many would change. After: none.
    asks: Option<i64>,
    form: &'a Bulk,
    said: String,
    skipped: Vec<(DetectionId, &'static str)>,
}

/// `POST /bulk`: ticked rows with the versions that were read, or all that match after a page that says how many.
pub(crate) async fn apply(
    who: Allowed<Triage>,
    State(app): State<Arc<App>>,
    Form(form): Form<Bulk>,
) -> Result<Response> {
    let now = app.clock.now();
    let change = form.change(who.name()).map_err(Error::Invalid)?;
    let mut conn = app.db.web.acquire().await?;
    let rows = if form.all.is_some() {
        let filter = queue::filter(&Fields::parse(Some(&form.query)), who.name(), now)?;
        let rows = listing::ids(&mut conn, &detections::Filter { after: None, ..filter }, MOST + 1).await?;
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        if count > MOST {
            return Err(Error::Malformed(format!("more than {MOST} match: narrow the filter first")));
        }
        if form.confirmed.is_none_or(|told| told < count) {
            return confirm(&mut conn, &who, &form, count, now).await;
        }
        rows
    } else {
        form.picked()?
    };
    if rows.is_empty() {
        return Err(Error::Invalid(vec![FieldError::new("id", "tick at least one row")]));
    }
    let until = form.hours.filter(|h| (1..=24 * 90).contains(h)).map(|h| now + TimeDelta::hours(h));
    let mut result = Done::default();
    for part in rows.chunks(AT_ONCE) {
        let mut tx = conn.begin().await?;
        for (id, version) in part {
            one(&mut tx, &mut result, (*id, *version), &form, &change, until, &who, now).await?;
        }
        tx.commit().await?;
    }
    app.marked.notify_one();
    let said = said(&form, result.done);
    let number = if result.kept.is_empty() {
        None
    } else {
        Some(undo::keep(&mut conn, who.name(), &said, &result.kept, now).await?)
    };
    if result.skipped.is_empty() {
        return Ok(page::go_with_undo(&form.back(), &said, number));
    }
    let said = format!("{said} {} skipped:", result.skipped.len());
    let chrome = Chrome::load(&mut conn, &who, Section::Queue, now).await?;
    page::render(StatusCode::OK, &BulkPage { chrome, asks: None, form: &form, said, skipped: result.skipped })
}

#[expect(clippy::too_many_arguments, reason = "one row of a loop")]
async fn one(
    tx: &mut PgConnection,
    result: &mut Done,
    (id, version): (DetectionId, i32),
    form: &Bulk,
    change: &Change,
    until: Option<DateTime<Utc>>,
    who: &Who,
    now: DateTime<Utc>,
) -> Result<()> {
    if form.act == Act::Snooze {
        if triage::snooze(tx, id, until, &who.actor, now).await? {
            result.done += 1;
        } else {
            result.skipped.push((id, "nothing to change"));
        }
        return Ok(());
    }
    match triage::change(tx, id, Some(version), change, &who.actor, now).await {
        Ok(applied) => match Kept::of(id, &applied) {
            Some(kept) => {
                result.done += 1;
                result.kept.push(kept);
            }
            None => result.skipped.push((id, "nothing to change")),
        },
        Err(ChangeError::Stale(_)) => result.skipped.push((id, "changed by somebody meanwhile")),
        Err(ChangeError::NotFound) => result.skipped.push((id, "is gone: later facts refuted it")),
        Err(ChangeError::Invalid(fault)) => {
            return Err(Error::Invalid(vec![FieldError::new(fault.field, fault.reason)]));
        }
        Err(ChangeError::Other(error)) => return Err(error.into()),
    }
    Ok(())
}

fn said(form: &Bulk, done: usize) -> String {
    match (form.act, form.disposition) {
        (Act::Close, Some(disposition)) => {
            format!("{done} closed: {}.", view::disposition_words(disposition).0.to_lowercase())
        }
        (Act::Close, None) => format!("{done} closed."),
        (Act::Assign, _) => format!("{done} assigned."),
        (Act::Note, _) => format!("{done} noted."),
        (Act::Snooze, _) if form.hours == Some(0) => format!("{done} back in the queue."),
        (Act::Snooze, _) => format!("{done} snoozed."),
    }
}

async fn confirm(conn: &mut PgConnection, who: &Who, form: &Bulk, count: i64, now: DateTime<Utc>) -> Result<Response> {
    let chrome = Chrome::load(conn, who, Section::Queue, now).await?;
    page::render(
        StatusCode::OK,
        &BulkPage { chrome, asks: Some(count), form, said: String::new(), skipped: Vec::new() },
    )
}

/// The button of a toast.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Undo {
    undo: i64,
    #[serde(default)]
    next: String,
}

/// `POST /undo`
pub(crate) async fn take_back(
    who: Allowed<Triage>,
    State(app): State<Arc<App>>,
    Form(form): Form<Undo>,
) -> Result<Response> {
    let mut tx = app.db.web.begin().await?;
    let undone = undo::take_back(&mut tx, form.undo, &who.actor, app.clock.now()).await?;
    tx.commit().await?;
    app.marked.notify_one();
    let said = match undone {
        None => "That can no longer be taken back.".to_owned(),
        Some((n, changed)) if changed.is_empty() => format!("Taken back: {n}."),
        Some((n, changed)) => {
            format!("Taken back: {n}. {} were changed by somebody since and stay as they are.", changed.len())
        }
    };
    Ok(page::go(&page::safe_next(&form.next), &said))
}

/// The form behind "Save view".
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewView {
    name: Option<String>,
    #[serde(default)]
    query: String,
    shared: Option<String>,
    opens: Option<String>,
}

/// `POST /views`: a name for the present address. Views for the team need the right to tune.
pub(crate) async fn save_view(
    who: Allowed<Read>,
    State(app): State<Arc<App>>,
    Form(form): Form<NewView>,
) -> Result<Response> {
    let shared = form.shared.is_some();
    if shared && !who.may(Permission::Tune) {
        return Err(Error::Forbidden(Permission::Tune));
    }
    let name = form.name.as_deref().map(str::trim).unwrap_or_default().to_owned();
    if name.is_empty() || name.chars().count() > 60 {
        return Err(Error::Invalid(vec![FieldError::new("name", "1 to 60 characters")]));
    }
    let query = queue::canonical(&Fields::parse(Some(&form.query)));
    let query = query.strip_prefix('?').unwrap_or_default().to_owned();
    if query.is_empty() || query.len() > 2_000 {
        return Err(Error::Invalid(vec![FieldError::new(
            "query",
            "filter or sort the queue first: this is how it opens anyway",
        )]));
    }
    let view =
        views::View { view_id: 0, owner: who.name().to_owned(), name, query, shared, opens: form.opens.is_some() };
    let mut tx = app.db.web.begin().await?;
    views::save(&mut tx, &view).await?;
    tx.commit().await?;
    Ok(page::go(&format!("/?{}", view.query), "View saved."))
}

/// Which view.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OldView {
    view: i64,
}

/// `POST /views/delete`
pub(crate) async fn delete_view(
    who: Allowed<Read>,
    State(app): State<Arc<App>>,
    Form(form): Form<OldView>,
) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    if !views::delete(&mut conn, form.view, who.name()).await? {
        return Err(Error::NotFound);
    }
    Ok(page::go(&"/?view=0", "View deleted."))
}

#[derive(Template)]
#[template(path = "peek.html")]
struct Peek {
    story: String,
    leads: Vec<(view::Chip, String)>,
}

/// `GET /_f/detections/{id}/peek`: the row's story in place; for scripts only, the row's link is the other way.
pub(crate) async fn peek(
    paths::DetectionPeek { id }: paths::DetectionPeek,
    who: Allowed<Read>,
    State(app): State<Arc<App>>,
) -> Result<Response> {
    if !who.visit.hx.is_fragment() {
        return Err(Error::NotFound);
    }
    let mut conn = app.db.web.acquire().await?;
    let d = detections::full(&mut conn, id).await?.ok_or(Error::NotFound)?;
    let leads =
        view::classes(&d.content).into_iter().filter_map(|c| Some((c.chip, c.evidence.first()?.summary.clone())));
    page::render(StatusCode::OK, &Peek { leads: leads.collect(), story: d.content.story.clone() })
}
