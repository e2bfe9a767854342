//! Allowlist entries: made, approved, edited, revoked. An entry counts by event time alone; its state says whether it counts at all.
//!
//! Source of the four-eyes rules: trust design, section 7. Whether an entry covers a piece of evidence is judged in `analytics`.

use super::{
    audit::{self, Actor, Deed},
    marks::{self, Validity},
};
use crate::model::{
    detection::{Content, Disposition},
    exceptions::{self, DEFAULT_VALIDITY, Entry, EntryBody, Invalid},
    ids::{DetectionId, HostId, as_text},
    preview::{Hidden, Preview, would_hide},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sqlx::{PgConnection, types::Json};

/// How long an approval waits for the second one. Source: trust design, section 7.
const APPROVAL_LAPSES: TimeDelta = TimeDelta::days(14);
/// After this, an entry of a site with a single lead counts without a second one. Source: trust design, section 7.
const SINGLE_HANDED_AFTER: TimeDelta = TimeDelta::hours(24);

/// Who writes or approves.
#[derive(Debug, Clone, Copy)]
pub struct Person<'a> {
    /// For the audit log. Tokens act under the name of their owner.
    pub actor: &'a Actor,
    /// Lead or administrator.
    pub leads: bool,
}

/// A second pair of eyes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// Account name, or `console:NAME`.
    pub approver: String,
    /// Wall clock.
    pub at: DateTime<Utc>,
}

/// An entry as it is stored and served.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stored {
    /// Its number.
    #[serde(serialize_with = "as_text")]
    pub id: i64,
    /// As evidence names it: `AL-17`.
    pub label: String,
    /// `proposed`, `active` or `revoked`.
    pub state: String,
    /// Past its expiry on the wall clock: shown so, still right for events before it.
    pub expired: bool,
    /// What was written; `expires_at` is always there.
    #[serde(flatten)]
    pub body: EntryBody,
    /// How many leads or administrators must stand behind it.
    pub approvals_needed: i16,
    /// Who does.
    pub approvals: Vec<Approval>,
    /// Counts 24 hours after it was made, because the site has no second lead.
    pub single_handed: bool,
    /// Only its author approved it.
    pub self_approved: bool,
    /// Author.
    pub created_by: String,
    /// Wall clock.
    pub created_at: DateTime<Utc>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
    /// Wall clock.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Rises with every edit.
    pub version: i32,
    /// Detections it suppresses evidence of.
    pub hits: i64,
    /// Latest event time of those.
    pub last_hit: Option<DateTime<Utc>>,
    /// In force and without a hit for 60 days: taking it back is proposed.
    pub unused: bool,
}

/// After so long without a hit an entry is proposed for removal. Source: detection design, section 9.2.
const UNUSED_AFTER: TimeDelta = TimeDelta::days(60);

/// Name of an entry in evidence and on pages.
pub fn label(id: i64) -> String {
    format!("AL-{id}")
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No such entry.
    #[error("no such entry")]
    NotFound,
    /// Somebody was faster.
    #[error("it was changed meanwhile: version is {0} now")]
    Stale(i32),
    /// The same is there already.
    #[error("the same entry exists already")]
    Exists(i64),
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The body cannot be read.
    #[error("{0}")]
    Body(#[source] serde_json::Error),
    /// It is revoked, or active already.
    #[error("only a proposed entry can be approved; this one is {0}")]
    NotProposed(String),
    /// One person is not two.
    #[error("you stand behind this entry already: another lead or administrator must approve it")]
    Twice,
    /// The author made the approver's account lately.
    #[error("your account was made by the author of this entry less than 30 days ago")]
    Creature,
    /// Everything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Other(error.into())
    }
}

struct Row {
    entry_id: i64,
    body: Json<EntryBody>,
    state: String,
    expires_at: DateTime<Utc>,
    approvals_needed: i16,
    single_handed: bool,
    created_by: String,
    created_at: DateTime<Utc>,
    revoked_by: Option<String>,
    revoked_at: Option<DateTime<Utc>>,
    version: i32,
    approvals: Json<Vec<Approval>>,
    hits: Option<i64>,
    last_hit: Option<DateTime<Utc>>,
}

impl Row {
    fn stored(self, now: DateTime<Utc>) -> Stored {
        let Json(approvals) = self.approvals;
        let since = self.last_hit.map_or(self.created_at, |hit| hit.max(self.created_at));
        Stored {
            unused: self.state == "active" && self.expires_at > now && since + UNUSED_AFTER <= now,
            id: self.entry_id,
            label: label(self.entry_id),
            expired: self.expires_at <= now,
            body: EntryBody { expires_at: Some(self.expires_at), ..self.body.0 },
            self_approved: !approvals.is_empty() && approvals.iter().all(|a| a.approver == self.created_by),
            // A single-handed entry ripens by itself; the worker only has to notice.
            state: if is_ripe(&self.state, self.single_handed, self.created_at, now) { "active".to_owned() } else { self.state },
            approvals_needed: self.approvals_needed,
            approvals,
            single_handed: self.single_handed,
            created_by: self.created_by,
            created_at: self.created_at,
            revoked_by: self.revoked_by,
            revoked_at: self.revoked_at,
            version: self.version,
            hits: self.hits.unwrap_or_default(),
            last_hit: self.last_hit,
        }
    }
}

fn is_ripe(state: &str, single_handed: bool, created_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    state == "proposed" && single_handed && created_at + SINGLE_HANDED_AFTER <= now
}

/// Entries, newest first; `id` asks for one.
async fn rows(conn: &mut PgConnection, id: Option<i64>) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"with hit as (
             select e->>'suppressed_by' as label, count(distinct (host_id, detection_id)) as hits, max(last_seen) as last_hit
             from detection, jsonb_array_elements(content->'evidence') as e
             where e->>'suppressed_by' like 'AL-%' group by 1
           )
           select entry_id, body as "body: Json<EntryBody>", state, expires_at, approvals_needed, single_handed, created_by, created_at,
             revoked_by, revoked_at, version,
             (select coalesce(jsonb_agg(jsonb_build_object('approver', approver, 'at', at) order by at, approver), '[]')
              from approval a where a.entry_id = e.entry_id) as "approvals!: Json<Vec<Approval>>",
             h.hits as "hits?", h.last_hit as "last_hit?"
           from allowlist_entry e left join hit h on h.label = 'AL-' || entry_id
           where $1::bigint is null or entry_id = $1
           order by entry_id desc"#,
        id
    )
    .fetch_all(conn)
    .await
}

/// All entries, newest first, revoked ones included.
pub async fn list(conn: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<Vec<Stored>> {
    Ok(rows(conn, None).await?.into_iter().map(|row| row.stored(now)).collect())
}

/// One entry.
pub async fn find(conn: &mut PgConnection, id: i64, now: DateTime<Utc>) -> sqlx::Result<Option<Stored>> {
    Ok(rows(conn, Some(id)).await?.pop().map(|row| row.stored(now)))
}

/// Entries the worker applies: active ones, whatever their expiry, since event time decides. `now` ripens single-handed ones.
pub async fn in_force(conn: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<Vec<Entry>> {
    let rows = sqlx::query!(
        r#"select entry_id, body as "body: Json<EntryBody>", expires_at from allowlist_entry
           where state = 'active' or (state = 'proposed' and single_handed and created_at <= $1)
           order by entry_id"#,
        now - SINGLE_HANDED_AFTER
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|r| Entry { id: r.entry_id, body: r.body.0, expires_at: r.expires_at }).collect())
}

/// Activates single-handed entries whose day has passed and marks what they concern. For the worker, each minute or so.
pub async fn ripen(conn: &mut PgConnection, by: &Actor, now: DateTime<Utc>) -> anyhow::Result<usize> {
    let ripe = sqlx::query!(
        r#"update allowlist_entry set state = 'active', marked_at = $2
           where state = 'proposed' and single_handed and created_at <= $1
           returning entry_id, body as "body: Json<EntryBody>", expires_at"#,
        now - SINGLE_HANDED_AFTER,
        now
    )
    .fetch_all(&mut *conn)
    .await?;
    for entry in &ripe {
        mark(conn, &entry.body.0, entry.expires_at, now).await?;
    }
    for entry in &ripe {
        let deed = Deed { action: "allowlist.ripen", object: &label(entry.entry_id), before: None, after: Some(json!({"state":"active","single_handed":true})) };
        audit::append(conn, by, deed, now).await?;
    }
    Ok(ripe.len())
}

async fn mark(conn: &mut PgConnection, body: &EntryBody, until: DateTime<Utc>, now: DateTime<Utc>) -> sqlx::Result<u64> {
    marks::in_scope(conn, &body.scope, Validity { since: body.valid_from, until: Some(until) }, now).await
}

/// What must hold before an entry counts.
struct Terms {
    needed: i16,
    single_handed: bool,
}

async fn terms(conn: &mut PgConnection, body: &EntryBody, until: DateTime<Utc>, by: Person<'_>, now: DateTime<Utc>) -> Result<Terms, Refusal> {
    let hides_true_positive = !preview(conn, body, now).await?.true_positives.is_empty();
    let needed = body.approvals_needed(until, now, by.leads, hides_true_positive);
    let others = sqlx::query_scalar!(
        r#"select count(*) as "count!" from account where role in ('lead', 'admin') and disabled_at is null and name <> $1"#,
        by.actor.name
    )
    .fetch_one(conn)
    .await?;
    Ok(Terms { needed, single_handed: needed > 1 && by.leads && others == 0 })
}

async fn standing_behind(conn: &mut PgConnection, id: i64, now: DateTime<Utc>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from approval where entry_id = $1 and at > $2"#,
        id,
        now - APPROVAL_LAPSES
    )
    .fetch_one(conn)
    .await
}

async fn approve_as(conn: &mut PgConnection, id: i64, approver: &str, now: DateTime<Utc>) -> sqlx::Result<()> {
    // An approval that lapsed may be given again.
    sqlx::query!(
        "insert into approval (entry_id, approver, at) values ($1, $2, $3)
         on conflict (entry_id, approver) do update set at = excluded.at",
        id,
        approver,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes the entry active if enough people stand behind it.
async fn settle(conn: &mut PgConnection, id: i64, needed: i16, now: DateTime<Utc>) -> sqlx::Result<&'static str> {
    let state = if standing_behind(conn, id, now).await? >= i64::from(needed) { "active" } else { "proposed" };
    sqlx::query!("update allowlist_entry set state = $2 where entry_id = $1", id, state).execute(conn).await?;
    Ok(state)
}

/// Stores a new entry: active at once, or proposed until enough people stand behind it.
pub async fn create(conn: &mut PgConnection, body: EntryBody, by: Person<'_>, now: DateTime<Utc>) -> Result<Stored, Refusal> {
    body.check(now)?;
    let body = body.canonical();
    let until = body.expires_at.unwrap_or(now + DEFAULT_VALIDITY);
    let terms = terms(conn, &body, until, by, now).await?;
    let digest = exceptions::digest(&body).map_err(Refusal::Body)?;
    let inserted = sqlx::query_scalar!(
        "insert into allowlist_entry (body, digest, state, valid_from, expires_at, approvals_needed, single_handed, created_by, created_at, marked_at)
         values ($1, $2, 'proposed', $3, $4, $5, $6, $7, $8, $8) on conflict (digest) do nothing returning entry_id",
        Json(&body) as _,
        digest,
        body.valid_from,
        until,
        terms.needed,
        terms.single_handed,
        by.actor.name,
        now
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(id) = inserted else {
        let id = sqlx::query_scalar!("select entry_id from allowlist_entry where digest = $1", digest).fetch_one(conn).await?;
        return Err(Refusal::Exists(id));
    };
    if by.leads && terms.needed > 0 {
        approve_as(conn, id, &by.actor.name, now).await?;
    }
    if settle(conn, id, terms.needed, now).await? == "active" {
        mark(conn, &body, until, now).await?;
    }
    finish(conn, id, "allowlist.create", None, by, now).await
}

async fn finish(conn: &mut PgConnection, id: i64, action: &str, before: Option<&Stored>, by: Person<'_>, now: DateTime<Utc>) -> Result<Stored, Refusal> {
    let after = find(conn, id, now).await?.ok_or(Refusal::NotFound)?;
    let value = |stored: &Stored| serde_json::to_value(stored).map_err(Refusal::Body);
    let deed = Deed { action, object: &after.label, before: before.map(value).transpose()?, after: Some(value(&after)?) };
    audit::append(conn, by.actor, deed, now).await?;
    Ok(after)
}

async fn locked(conn: &mut PgConnection, id: i64, now: DateTime<Utc>) -> Result<Stored, Refusal> {
    sqlx::query!("select entry_id from allowlist_entry where entry_id = $1 for update", id).fetch_optional(&mut *conn).await?;
    find(conn, id, now).await?.ok_or(Refusal::NotFound)
}

/// A lead or administrator stands behind an entry. With the last one needed it is in force.
pub async fn approve(conn: &mut PgConnection, id: i64, by: Person<'_>, now: DateTime<Utc>) -> Result<Stored, Refusal> {
    let before = locked(conn, id, now).await?;
    if before.state != "proposed" {
        return Err(Refusal::NotProposed(before.state));
    }
    if before.approvals.iter().any(|a| a.approver == by.actor.name && a.at > now - APPROVAL_LAPSES) {
        return Err(Refusal::Twice);
    }
    let creature = sqlx::query_scalar!(
        r#"select exists (select from account where name = $1 and created_by = $2 and created_at > $3) as "creature!""#,
        by.actor.name,
        before.created_by,
        now - TimeDelta::days(30)
    )
    .fetch_one(&mut *conn)
    .await?;
    if creature {
        return Err(Refusal::Creature);
    }
    approve_as(conn, id, &by.actor.name, now).await?;
    if settle(conn, id, before.approvals_needed, now).await? == "active" {
        let until = before.body.expires_at.unwrap_or(now);
        mark(conn, &before.body, until, now).await?;
    }
    finish(conn, id, "allowlist.approve", Some(&before), by, now).await
}

/// Changes an entry. Whoever approved it approved its content: unless it only ends sooner, approvals are void.
pub async fn edit(
    conn: &mut PgConnection,
    id: i64,
    version: Option<i32>,
    patch: Map<String, Value>,
    by: Person<'_>,
    now: DateTime<Utc>,
) -> Result<Stored, Refusal> {
    let before = locked(conn, id, now).await?;
    if version.is_some_and(|v| v != before.version) {
        return Err(Refusal::Stale(before.version));
    }
    if before.state == "revoked" {
        return Err(Refusal::NotProposed(before.state));
    }
    let body = exceptions::amended(&before.body, patch).map_err(Refusal::Body)?.canonical();
    body.check(now)?;
    let until = body.expires_at.unwrap_or(now + DEFAULT_VALIDITY);
    let only_sooner = EntryBody { expires_at: before.body.expires_at, ..body.clone() } == before.body && before.body.expires_at >= Some(until);
    let digest = exceptions::digest(&body).map_err(Refusal::Body)?;
    let same = sqlx::query_scalar!("select entry_id from allowlist_entry where digest = $1 and entry_id <> $2", digest, id)
        .fetch_optional(&mut *conn)
        .await?;
    if let Some(other) = same {
        return Err(Refusal::Exists(other));
    }
    sqlx::query!(
        "update allowlist_entry set body = $2, digest = $3, valid_from = $4, expires_at = $5, version = version + 1, marked_at = $6
         where entry_id = $1",
        id,
        Json(&body) as _,
        digest,
        body.valid_from,
        until,
        now
    )
    .execute(&mut *conn)
    .await?;
    if !only_sooner {
        let terms = terms(conn, &body, until, by, now).await?;
        // Its day starts anew, else an old single-handed entry could be widened at once.
        sqlx::query!(
            "update allowlist_entry set approvals_needed = $2, single_handed = $3, created_at = case when $3 then $4 else created_at end
             where entry_id = $1",
            id,
            terms.needed,
            terms.single_handed,
            now
        )
        .execute(&mut *conn)
        .await?;
        sqlx::query!("delete from approval where entry_id = $1", id).execute(&mut *conn).await?;
        if by.leads && terms.needed > 0 {
            approve_as(conn, id, &by.actor.name, now).await?;
        }
        settle(conn, id, terms.needed, now).await?;
    }
    // Both what it covered and what it covers now.
    mark(conn, &before.body, before.body.expires_at.unwrap_or(now), now).await?;
    mark(conn, &body, until, now).await?;
    finish(conn, id, "allowlist.edit", Some(&before), by, now).await
}

/// Takes an entry out of force for all event times; what it hid comes back. An equal one may be made again.
pub async fn revoke(conn: &mut PgConnection, id: i64, by: Person<'_>, now: DateTime<Utc>) -> Result<Stored, Refusal> {
    let before = locked(conn, id, now).await?;
    if before.state == "revoked" {
        return Ok(before);
    }
    sqlx::query!(
        "update allowlist_entry set state = 'revoked', revoked_by = $2, revoked_at = $3, version = version + 1, marked_at = $3,
           digest = sha256(digest || int8send(entry_id))
         where entry_id = $1",
        id,
        by.actor.name,
        now
    )
    .execute(&mut *conn)
    .await?;
    mark(conn, &before.body, before.body.expires_at.unwrap_or(now), now).await?;
    finish(conn, id, "allowlist.revoke", Some(&before), by, now).await
}

/// Most detections a preview looks at, the latest first. Chosen: a second or so of work.
const PREVIEWED: i64 = 20_000;

/// What an entry would have hidden of the detections that are stored. Changes nothing.
pub async fn preview(conn: &mut PgConnection, body: &EntryBody, now: DateTime<Utc>) -> Result<Preview, Refusal> {
    let until = body.expires_at.unwrap_or(now + DEFAULT_VALIDITY);
    let hosts: Vec<i64> = super::hosts::in_scope(conn, &body.scope).await?.into_iter().map(|h| h.0).collect();
    let found = sqlx::query!(
        r#"select d.host_id, d.detection_id, h.name, d.disposition, d.last_seen, d.content as "content: Json<Content>"
           from detection d join host h using (host_id)
           where d.host_id = any($1) and d.first_seen < $2 and d.last_seen >= coalesce($3, '-infinity'::timestamptz)
             and d.verdict in ('alert', 'partial', 'early_warning')
           order by d.last_seen desc, d.host_id, d.detection_id limit $4"#,
        &hosts,
        until,
        body.valid_from,
        PREVIEWED
    )
    .fetch_all(conn)
    .await?;
    let hidden = found.into_iter().filter(|row| would_hide(body, until, &row.content)).map(|row| Hidden {
        id: DetectionId { host: HostId(row.host_id), own: row.detection_id },
        host: row.name,
        title: row.content.0.title,
        verdict: row.content.0.verdict,
        disposition: row.disposition.and_then(|d| d.parse::<Disposition>().ok()),
        last_seen: row.last_seen,
    });
    Ok(Preview::of(hidden.collect()))
}
