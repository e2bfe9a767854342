//! What people decide about a detection: one change, its journal lines and its audit row in one transaction.
//!
//! Reading detections is in `detections`; what the worker writes is not here.

use super::{
    audit::{self, Actor, Deed},
    marks,
};
use crate::model::{
    detection::{Disposition, Status},
    exceptions::Invalid,
    ids::{BadId, DetectionId},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use sqlx::PgConnection;

/// Longest note in characters. Chosen: a page of text.
const LONGEST_NOTE: usize = 10_000;

/// What to change; absent fields stay. `null` takes assignee, note or original away.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// New status. `new` opens a closed one again.
    #[serde(default)]
    pub status: Option<Status>,
    /// Needed to close.
    #[serde(default)]
    pub disposition: Option<Disposition>,
    /// Account name.
    #[serde(default, deserialize_with = "present")]
    pub assignee: Option<Option<String>>,
    /// Replaces the note; the journal keeps the old one.
    #[serde(default, deserialize_with = "present")]
    pub note: Option<Option<String>>,
    /// Public id of the detection this one repeats.
    #[serde(default, deserialize_with = "present")]
    pub duplicate_of: Option<Option<String>>,
    /// Version the change was made from.
    #[serde(default)]
    pub version: Option<i32>,
}

/// Tells `null` from absent.
#[expect(clippy::option_option, reason = "outer: the field is there; inner: it is not null")]
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(d).map(Some)
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No such detection.
    #[error("no such detection")]
    NotFound,
    /// It was changed meanwhile; holds its version.
    #[error("it was changed meanwhile: version is {0} now")]
    Stale(i32),
    /// A value that cannot be.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Everything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl From<sqlx::Error> for ChangeError {
    fn from(error: sqlx::Error) -> Self {
        Self::Other(error.into())
    }
}

/// Triage fields of a detection, as the audit log keeps them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Triage {
    status: Status,
    disposition: Option<Disposition>,
    assignee: Option<String>,
    note: Option<String>,
    duplicate_of: Option<String>,
}

fn wrong(field: &'static str, reason: impl Into<String>) -> ChangeError {
    ChangeError::Invalid(Invalid { field, reason: reason.into() })
}

impl Triage {
    /// The change that leads back to this state.
    pub(super) fn restoring(&self) -> Change {
        Change {
            status: Some(self.status),
            disposition: self.disposition,
            assignee: Some(self.assignee.clone()),
            note: Some(self.note.clone()),
            duplicate_of: Some(self.duplicate_of.clone()),
            version: None,
        }
    }

    /// The state after a change.
    fn after(&self, change: &Change) -> Result<Self, ChangeError> {
        let mut next = self.clone();
        let text = |value: &Option<String>| value.as_deref().map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned);
        if let Some(status) = change.status {
            next.status = status;
            // What is open again is undecided again.
            if self.status == Status::Closed && status != Status::Closed {
                next.disposition = None;
            }
        }
        next.disposition = change.disposition.or(next.disposition);
        if let Some(assignee) = &change.assignee {
            next.assignee = text(assignee);
        }
        if let Some(note) = &change.note {
            next.note = text(note);
        }
        if let Some(original) = &change.duplicate_of {
            next.duplicate_of = text(original);
        }
        if next.status == Status::Closed && next.disposition.is_none() {
            return Err(wrong("disposition", "say why it is closed"));
        }
        if next.note.as_ref().is_some_and(|n| n.chars().count() > LONGEST_NOTE) {
            return Err(wrong("note", format!("at most {LONGEST_NOTE} characters")));
        }
        Ok(next)
    }

    /// Journal lines: what a reader of the case wants to know.
    fn changes(&self, next: &Self) -> Vec<(&'static str, String)> {
        let or_none = |v: &Option<String>| v.clone().unwrap_or_else(|| "nobody".to_owned());
        let mut lines = Vec::new();
        if self.status != next.status {
            let action = match (self.status, next.status) {
                (Status::Closed, _) => "reopened",
                (_, Status::Closed) => "closed",
                _ => "status",
            };
            lines.push((action, format!("{} -> {}", self.status, next.status)));
        }
        if let Some(disposition) = next.disposition.filter(|d| Some(*d) != self.disposition) {
            lines.push(("disposition", disposition.to_string()));
        }
        if self.assignee != next.assignee {
            lines.push(("assigned", or_none(&next.assignee)));
        }
        if self.note != next.note {
            lines.push(("note", next.note.clone().unwrap_or_default()));
        }
        if self.duplicate_of != next.duplicate_of {
            lines.push(("duplicate_of", next.duplicate_of.clone().unwrap_or_default()));
        }
        lines
    }
}

/// What a change did.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Version of the detection now.
    pub version: i32,
    /// As it was; absent if nothing changed.
    pub before: Option<Triage>,
}

/// Applies a change. Call inside a transaction; nothing to change changes nothing.
///
/// # Errors
/// [`ChangeError::Stale`] when `version` is given and is not the present one.
pub async fn change(
    conn: &mut PgConnection,
    id: DetectionId,
    version: Option<i32>,
    change: &Change,
    by: &Actor,
    now: DateTime<Utc>,
) -> Result<Applied, ChangeError> {
    let row = sqlx::query!(
        "select version, status, disposition, assignee, note, duplicate_of, last_seen from detection
         where host_id = $1 and detection_id = $2 for update",
        id.host.0,
        id.own
    )
    .fetch_optional(&mut *conn)
    .await?
    .ok_or(ChangeError::NotFound)?;
    if version.or(change.version).is_some_and(|v| v != row.version) || change.version.is_some_and(|v| v != row.version) {
        return Err(ChangeError::Stale(row.version));
    }
    let before = Triage {
        status: row.status.parse().map_err(anyhow::Error::from)?,
        disposition: row.disposition.map(|d| d.parse()).transpose().map_err(anyhow::Error::from)?,
        assignee: row.assignee,
        note: row.note,
        duplicate_of: row.duplicate_of,
    };
    let after = before.after(change)?;
    if after == before {
        return Ok(Applied { version: row.version, before: None });
    }
    check_references(conn, id, &before, &after).await?;
    let reached = (after.status == Status::Closed).then_some(row.last_seen);
    let version = sqlx::query_scalar!(
        "update detection set status = $3, disposition = $4, assignee = $5, note = $6, duplicate_of = $7, version = version + 1, updated_at = $8,
           closed_reach = case when $9::timestamptz is null then null else coalesce(closed_reach, $9) end
         where host_id = $1 and detection_id = $2 returning version",
        id.host.0,
        id.own,
        after.status.as_str(),
        after.disposition.map(Disposition::as_str),
        after.assignee,
        after.note,
        after.duplicate_of,
        now,
        reached
    )
    .fetch_one(&mut *conn)
    .await?;
    let (actions, details): (Vec<String>, Vec<String>) = before.changes(&after).into_iter().map(|(a, d)| (a.to_owned(), d)).unzip();
    sqlx::query!(
        "insert into detection_journal (host_id, detection_id, at, actor, action, detail)
         select $1, $2, $3, $4, action, detail from unnest($5::text[], $6::text[]) as line (action, detail)",
        id.host.0,
        id.own,
        now,
        by.name,
        &actions,
        &details
    )
    .execute(&mut *conn)
    .await?;
    if (before.status, before.disposition) != (after.status, after.disposition) {
        // Verdicts of what follows depend on how this one was decided.
        marks::add(conn, &[(id.host, row.last_seen)], now).await?;
    }
    let json = |t: &Triage| serde_json::to_value(t).map_err(anyhow::Error::from);
    let object = id.to_string();
    let deed = Deed { action: "detection.change", object: &object, before: Some(json(&before)?), after: Some(json(&after)?) };
    audit::append(conn, by, deed, now).await?;
    Ok(Applied { version, before: Some(before) })
}

/// Hides an open detection from the queue until an instant of the wall clock, or shows it again. Answers whether anything changed.
pub async fn snooze(conn: &mut PgConnection, id: DetectionId, until: Option<DateTime<Utc>>, by: &Actor, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "-- store::triage::snooze
        update detection set snoozed_until = $3, updated_at = $4
        where host_id = $1 and detection_id = $2 and status <> 'closed' and snoozed_until is distinct from $3",
        id.host.0,
        id.own,
        until,
        now
    )
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    let (action, detail) = until.map_or(("woken", String::new()), |at| ("snoozed", format!("until {}", at.format("%Y-%m-%d %H:%MZ"))));
    sqlx::query!(
        "-- store::triage::snooze: the journal
        insert into detection_journal (host_id, detection_id, at, actor, action, detail) values ($1, $2, $3, $4, $5, $6)",
        id.host.0,
        id.own,
        now,
        by.name,
        action,
        detail
    )
    .execute(&mut *conn)
    .await?;
    let object = id.to_string();
    let after = serde_json::json!({"snoozed_until": until});
    audit::append(conn, by, Deed { action: "detection.snooze", object: &object, before: None, after: Some(after) }, now).await?;
    Ok(true)
}

/// The assignee is an account in use; the original is another detection that exists.
async fn check_references(conn: &mut PgConnection, id: DetectionId, before: &Triage, after: &Triage) -> Result<(), ChangeError> {
    if let Some(assignee) = after.assignee.as_ref().filter(|a| Some(*a) != before.assignee.as_ref()) {
        let known = sqlx::query_scalar!(
            r#"select exists (select from account where name = $1 and disabled_at is null) as "known!""#,
            assignee
        )
        .fetch_one(&mut *conn)
        .await?;
        if !known {
            return Err(wrong("assignee", "no such account"));
        }
    }
    if let Some(original) = after.duplicate_of.as_ref().filter(|o| Some(*o) != before.duplicate_of.as_ref()) {
        let other: DetectionId = original.parse().map_err(|e: BadId| wrong("duplicate_of", e.to_string()))?;
        if other == id {
            return Err(wrong("duplicate_of", "a detection cannot repeat itself"));
        }
        let known = sqlx::query_scalar!(
            r#"select exists (select from detection where host_id = $1 and detection_id = $2) as "known!""#,
            other.host.0,
            other.own
        )
        .fetch_one(conn)
        .await?;
        if !known {
            return Err(wrong("duplicate_of", "no such detection"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Triage = Triage { status: Status::New, disposition: None, assignee: None, note: None, duplicate_of: None };

    fn change(json: serde_json::Value) -> Change {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn closing_needs_a_disposition_and_opening_again_takes_it_away() {
        let refused = OPEN.after(&change(serde_json::json!({"status":"closed"})));
        assert!(matches!(refused, Err(ChangeError::Invalid(Invalid { field: "disposition", .. }))));
        let closed = OPEN.after(&change(serde_json::json!({"status":"closed","disposition":"true_positive"}))).unwrap();
        assert_eq!(closed.disposition, Some(Disposition::TruePositive));
        let open = closed.after(&change(serde_json::json!({"status":"new"}))).unwrap();
        assert_eq!(open, OPEN);
        assert_eq!(closed.changes(&open), [("reopened", "closed -> new".to_owned())]);
    }

    #[test]
    fn null_takes_away_and_absent_keeps() {
        let held = Triage { assignee: Some("kim".to_owned()), note: Some("look".to_owned()), ..OPEN };
        let next = held.after(&change(serde_json::json!({"assignee":null}))).unwrap();
        assert_eq!((next.assignee, next.note), (None, Some("look".to_owned())));
    }

    #[test]
    fn what_is_not_for_people_to_change_is_refused_by_name() {
        let err = serde_json::from_value::<Change>(serde_json::json!({"severity":"low"})).unwrap_err();
        assert!(err.to_string().contains("unknown field `severity`"));
    }
}
