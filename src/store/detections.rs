//! Detections as pages and API read them. What people change is in `store::triage`, what the worker records in its own file.

use crate::{
    model::{
        detection::{Analytic, Content, Detection, HostSummary, Severity, Status, Verdict},
        ids::{DetectionId, GroupKey, HostId},
    },
    store::{
        queue::{self, Cursor, Order, read},
        terms::Terms,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{FromRow as _, PgConnection, QueryBuilder, Row as _, types::Json};

/// Counts on pages stop here: `1,000+`.
pub const COUNT_CAP: i64 = 1_000;

/// How many detections the queue's default view holds, up to [`COUNT_CAP`].
pub async fn open_count(conn: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "n!" from (
             select from detection
             where status <> 'closed' and verdict in ('alert', 'partial', 'early_warning') and (snoozed_until is null or snoozed_until <= $2)
             limit $1) open"#,
        COUNT_CAP,
        now
    )
    .fetch_one(conn)
    .await
}

/// Events are stored that nobody has evaluated for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// Host buckets waiting, up to 100,000.
    pub pending: i64,
    /// How long the oldest has waited.
    pub waited: TimeDelta,
}

/// Whether evaluation is more than two minutes behind. Source of the limit: trust design, section 15.
pub async fn behind(conn: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<Option<Behind>> {
    let oldest = sqlx::query_scalar!("select min(marked_at) from mark").fetch_one(&mut *conn).await?;
    let Some(waited) = oldest.map(|at| now - at).filter(|w| *w > TimeDelta::minutes(2)) else {
        return Ok(None);
    };
    let pending = sqlx::query_scalar!(
        r#"select count(*) as "n!" from (select from (select distinct host_id, bucket from mark) b limit 100000) m"#
    )
    .fetch_one(conn)
    .await?;
    Ok(Some(Behind { pending, waited }))
}

/// Which detections to list. Empty lists mean any.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Full or short name.
    pub host: Option<String>,
    /// One of them has a say.
    pub analytics: Vec<Analytic>,
    /// Of the detection.
    pub verdicts: Vec<Verdict>,
    /// Triage status.
    pub statuses: Vec<Status>,
    /// Severity.
    pub severities: Vec<Severity>,
    /// Text, with or without fields.
    pub terms: Terms,
    /// Account names; empty text = nobody.
    pub owners: Vec<String>,
    /// Whether snoozed ones are shown.
    pub snoozed: Snoozed,
    /// Seen at or after this event time.
    pub since: Option<DateTime<Utc>>,
    /// Seen before this event time.
    pub until: Option<DateTime<Utc>>,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// How they are sorted.
    pub order: Order,
    /// At most so many.
    pub limit: i64,
}

/// What becomes of snoozed detections, at an instant of the wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub enum Snoozed {
    /// They are like others.
    #[default]
    Either,
    /// They are left out.
    Awake(DateTime<Utc>),
    /// Only they.
    Asleep(DateTime<Utc>),
}

/// Verdicts of the queue.
pub const QUEUE: [Verdict; 3] = [Verdict::Alert, Verdict::Partial, Verdict::EarlyWarning];

/// A detection without evidence for so long before its host's latest event is quiet. Chosen: a day.
const QUIET_AFTER: TimeDelta = TimeDelta::hours(24);

/// One page of detections.
#[derive(Debug, Clone)]
pub struct Page {
    /// Worst first.
    pub items: Vec<Detection>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

#[derive(sqlx::FromRow)]
struct Row {
    host_id: i64,
    detection_id: i64,
    version: i32,
    content: Json<Content>,
    status: String,
    disposition: Option<String>,
    assignee: Option<String>,
    note: Option<String>,
    duplicate_of: Option<String>,
    recurrence_of: Option<String>,
    campaign: Option<String>,
    detected_at: DateTime<Utc>,
    name: String,
    tier: Option<i16>,
    role: Option<String>,
    tags: Vec<String>,
    class: Option<String>,
    /// Latest event of the host.
    heard: Option<DateTime<Utc>>,
}

impl Row {
    fn detection(mut self) -> sqlx::Result<Detection> {
        // A host goes on after its last evidence was judged.
        self.content.quiet = self.heard.is_some_and(|heard| heard - self.content.last_seen > QUIET_AFTER);
        Ok(Detection {
            id: DetectionId { host: HostId(self.host_id), own: self.detection_id },
            version: self.version,
            host: HostSummary {
                id: self.host_id.to_string(),
                name: self.name,
                tier: self.tier,
                role: self.role,
                tags: self.tags,
                class: self.class,
            },
            status: read(&self.status)?,
            disposition: self.disposition.as_deref().map(read).transpose()?,
            assignee: self.assignee,
            note: self.note,
            duplicate_of: self.duplicate_of.as_deref().map(read).transpose()?,
            content: self.content.0,
            detected_at: self.detected_at,
            recurrence_of: self.recurrence_of.as_deref().map(read).transpose()?,
            campaign: self.campaign,
        })
    }
}

/// Detections as the API lists them.
pub async fn list(conn: &mut PgConnection, filter: &Filter) -> sqlx::Result<Page> {
    let mut sql = QueryBuilder::new(
        "-- store::detections::list\nselect d.host_id, d.detection_id, d.version, d.content, d.status, d.disposition, d.assignee, d.note,
         d.duplicate_of, d.recurrence_of, d.campaign, d.detected_at, h.name, h.tier, h.role, h.tags, h.class, h.last_seen as heard, ",
    );
    sql.push(queue::place(filter.order));
    queue::narrow(&mut sql, filter);
    queue::paged(&mut sql, filter, filter.limit + 1);
    let mut rows = sql.build().fetch_all(conn).await?;
    let limit = usize::try_from(filter.limit).unwrap_or(0);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| row.try_get::<Json<Cursor>, _>("place")).transpose()?.map(|json| json.0);
    let items = rows.iter().map(|row| Row::from_row(row)?.detection()).collect::<sqlx::Result<_>>()?;
    Ok(Page { items, next })
}

/// One detection with all its evidence.
pub async fn full(conn: &mut PgConnection, id: DetectionId) -> sqlx::Result<Option<Detection>> {
    let row = sqlx::query_as!(
        Row,
        r#"select d.host_id, d.detection_id, d.version, d.content as "content: Json<Content>", d.status,
             d.disposition, d.assignee, d.note, d.duplicate_of, d.recurrence_of, d.campaign, d.detected_at,
             h.name, h.tier, h.role, h.tags, h.class, h.last_seen as heard
           from detection d join host h using (host_id)
           where d.host_id = $1 and d.detection_id = $2"#,
        id.host.0,
        id.own
    )
    .fetch_optional(conn)
    .await?;
    row.map(Row::detection).transpose()
}

/// Until when the queue does not show it, wall clock.
pub async fn snoozed_until(conn: &mut PgConnection, id: DetectionId) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        "-- store::detections::snoozed_until
        select snoozed_until from detection where host_id = $1 and detection_id = $2",
        id.host.0,
        id.own
    )
    .fetch_one(conn)
    .await
}

/// The detection of a host that reaches furthest, if there is one.
pub async fn latest_of(conn: &mut PgConnection, host: HostId) -> sqlx::Result<Option<Detection>> {
    let id = sqlx::query_scalar!(
        "select detection_id from detection where host_id = $1 order by last_seen desc, score desc, detection_id limit 1",
        host.0
    )
    .fetch_optional(&mut *conn)
    .await?;
    match id {
        Some(own) => full(conn, DetectionId { host, own }).await,
        None => Ok(None),
    }
}

/// The groups a detection is about: that of its primary process, and all.
pub async fn groups_of(conn: &mut PgConnection, id: DetectionId) -> sqlx::Result<Option<(GroupKey, Vec<i64>)>> {
    let row = sqlx::query!("select group_key, groups from detection where host_id = $1 and detection_id = $2", id.host.0, id.own)
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|r| (GroupKey(r.group_key), r.groups)))
}

/// One line of a detection's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// Wall clock.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// In words.
    pub detail: String,
}

/// History of a detection, latest first, at most 200 lines.
pub async fn journal(conn: &mut PgConnection, id: DetectionId) -> sqlx::Result<Vec<JournalEntry>> {
    sqlx::query_as!(
        JournalEntry,
        "select at, actor, action, detail from detection_journal where host_id = $1 and detection_id = $2 order by entry_id desc limit 200",
        id.host.0,
        id.own
    )
    .fetch_all(conn)
    .await
}

/// A detection in one line, for lists beside another.
#[derive(Debug, Clone)]
pub struct Line {
    /// Public id.
    pub id: DetectionId,
    /// Title.
    pub title: String,
    /// Host name.
    pub host: String,
    /// Of the detection.
    pub verdict: String,
    /// Of the detection.
    pub severity: String,
    /// Triage.
    pub status: String,
    /// If closed.
    pub disposition: Option<String>,
    /// Latest evidence.
    pub last_seen: DateTime<Utc>,
}

macro_rules! lines {
    ($rows:expr) => {
        $rows
            .into_iter()
            .map(|r| Line {
                id: DetectionId { host: HostId(r.host_id), own: r.detection_id },
                title: r.title,
                host: r.name,
                verdict: r.verdict,
                severity: r.severity,
                status: r.status,
                disposition: r.disposition,
                last_seen: r.last_seen,
            })
            .collect()
    };
}

/// Detections of a host, latest first, at most 50.
pub async fn of_host(conn: &mut PgConnection, host: HostId) -> sqlx::Result<Vec<Line>> {
    let rows = sqlx::query!(
        "select d.host_id, d.detection_id, d.title, h.name, d.verdict, d.severity, d.status, d.disposition, d.last_seen
         from detection d join host h using (host_id) where d.host_id = $1 order by d.last_seen desc, d.detection_id limit 50",
        host.0
    )
    .fetch_all(conn)
    .await?;
    Ok(lines!(rows))
}

/// Other detections with the same image hash or a common destination, latest first, at most 20.
pub async fn similar(conn: &mut PgConnection, id: DetectionId, sha256: Option<&str>, destinations: &[String]) -> sqlx::Result<Vec<Line>> {
    let rows = sqlx::query!(
        "select d.host_id, d.detection_id, d.title, h.name, d.verdict, d.severity, d.status, d.disposition, d.last_seen
         from detection d join host h using (host_id)
         where (d.host_id, d.detection_id) <> ($1, $2)
           and (d.content->'process'->>'sha256' = $3
             or exists (select from jsonb_array_elements(d.content->'destinations') t
                        where coalesce(t->>'host', t->>'ip') = any($4) or t->>'ip' = any($4)))
         order by d.last_seen desc, d.host_id, d.detection_id limit 20",
        id.host.0,
        id.own,
        sha256,
        destinations
    )
    .fetch_all(conn)
    .await?;
    Ok(lines!(rows))
}

/// Whether anything was ever stored: without, pages explain how to begin.
pub async fn any_event(conn: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"select exists (select from host where last_seen is not null) or exists (select from segment) as "any!""#)
        .fetch_one(conn)
        .await
}

/// How alive the evaluation is, for an empty queue.
#[derive(Debug, Clone, Default)]
pub struct Pulse {
    /// Hosts known.
    pub hosts: i64,
    /// Hosts with samples of processes in the last hour of their own event time.
    pub with_cpu: i64,
    /// End of the last pass.
    pub last_pass: Option<DateTime<Utc>>,
}

/// See [`Pulse`].
pub async fn pulse(conn: &mut PgConnection) -> sqlx::Result<Pulse> {
    let row = sqlx::query!(
        r#"select (select count(*) from host where kind = 'computer') as "hosts!",
             (select count(*) from host h where exists (
                select from host_bucket b where b.host_id = h.host_id and b.cpu_samples > 0
                  and b.bucket > h.last_seen - interval '1 hour' and b.bucket <= h.last_seen)) as "with_cpu!",
             (select finished_at from worker_pass) as last_pass"#
    )
    .fetch_one(conn)
    .await?;
    Ok(Pulse { hosts: row.hosts, with_cpu: row.with_cpu, last_pass: row.last_pass })
}
