//! Keeps detections equal to what the judgement found, across passes and triage. Source: detection design, section 8.
//!
//! An episode that overlaps a known detection of the same groups keeps its id; the version rises only when something visible
//! changed. What facts refute is deleted, unless a person touched it.

use super::campaigns;
use crate::model::{
    detection::{Content, Disposition, Status, Verdict},
    ids::{DetectionId, HostId},
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, types::Json};

/// Episodes this close belong together.
pub const EPISODE_GAP: TimeDelta = TimeDelta::days(7);
/// A closed true positive that goes on this much longer is a new detection.
pub const RECURS_AFTER: TimeDelta = TimeDelta::minutes(15);

/// A judged case worth keeping.
#[derive(Debug, Clone)]
pub struct Assessed {
    /// The host.
    pub host: HostId,
    /// Primary group.
    pub group: i64,
    /// All groups of the cluster.
    pub groups: Vec<i64>,
    /// What to say.
    pub content: Content,
}

struct Known {
    id: i64,
    version: i32,
    groups: Vec<i64>,
    content: Content,
    status: Status,
    disposition: Option<Disposition>,
    closed_reach: Option<DateTime<Utc>>,
    touched: bool,
    first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
    taken: bool,
}

/// Records the cases of one host. `evaluated` says whether a stored detection lay in what was judged: if so and nothing was found
/// for it, it is refuted.
///
/// # Errors
/// Whatever the database says; a stored content that cannot be read.
pub async fn record(
    db: &mut PgConnection,
    host: HostId,
    mut found: Vec<Assessed>,
    evaluated: impl Fn(DateTime<Utc>, DateTime<Utc>) -> bool,
    now: DateTime<Utc>,
) -> anyhow::Result<usize> {
    let mut known = known(db, host).await?;
    let mut changes = 0;
    found.sort_by_key(|f| (f.content.first_seen, f.group));
    for case in found {
        let mine = |k: &&mut Known| {
            !k.taken
                && k.groups.iter().any(|g| case.groups.contains(g))
                && k.first_seen <= case.content.last_seen + EPISODE_GAP
                && case.content.first_seen <= k.last_seen + EPISODE_GAP
        };
        // The latest case of the cluster carries on; a closed one only for what it had reached.
        let matched = known.iter_mut().filter(|k| mine(k)).max_by_key(|k| (k.status != Status::Closed, k.last_seen, k.id));
        match matched {
            Some(k) if recurs(k, &case) => {
                k.taken = true;
                let earlier = DetectionId { host, own: k.id };
                insert(db, &case, Some(earlier), now).await?;
                changes += 1;
            }
            Some(k) => {
                k.taken = true;
                if k.content != case.content || k.groups != case.groups {
                    update(db, host, k, &case, now).await?;
                    changes += 1;
                }
            }
            None => {
                insert(db, &case, None, now).await?;
                changes += 1;
            }
        }
    }
    for k in known.iter().filter(|k| !k.taken && evaluated(k.first_seen, k.last_seen)) {
        refute(db, host, k, now).await?;
        changes += 1;
    }
    Ok(changes)
}

/// Closed as a true positive, and the activity went on.
fn recurs(k: &Known, case: &Assessed) -> bool {
    k.status == Status::Closed
        && k.disposition == Some(Disposition::TruePositive)
        && k.closed_reach.is_some_and(|reach| case.content.last_seen > reach + RECURS_AFTER)
}

async fn known(db: &mut PgConnection, host: HostId) -> anyhow::Result<Vec<Known>> {
    let rows = sqlx::query!(
        r#"-- store::record::known
        select detection_id, version, groups, content as "content: Json<Content>", status, disposition, closed_reach, first_seen, last_seen,
          (assignee is not null or note is not null or status <> 'new' or disposition is not null) as "touched!"
        from detection where host_id = $1 order by detection_id for update"#,
        host.0
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|r| {
            Ok(Known {
                id: r.detection_id,
                version: r.version,
                groups: r.groups,
                content: r.content.0,
                status: r.status.parse()?,
                disposition: r.disposition.map(|d| d.parse()).transpose()?,
                closed_reach: r.closed_reach,
                touched: r.touched,
                first_seen: r.first_seen,
                last_seen: r.last_seen,
                taken: false,
            })
        })
        .collect()
}

/// Columns that the queue sorts and filters by.
struct Columns {
    verdict: &'static str,
    severity: &'static str,
    severity_rank: i16,
    score: f32,
    analytics: Vec<String>,
}

impl Columns {
    fn of(content: &Content) -> Self {
        Self {
            verdict: content.verdict.as_str(),
            severity: content.severity.as_str(),
            severity_rank: content.severity as i16,
            score: content.analytics.iter().map(|a| a.score).fold(0.0, f64::max) as f32,
            analytics: content.analytics.iter().filter(|a| a.verdict >= Verdict::Suppressed).map(|a| a.id.clone()).collect(),
        }
    }
}

async fn insert(db: &mut PgConnection, case: &Assessed, earlier: Option<DetectionId>, now: DateTime<Utc>) -> anyhow::Result<()> {
    let id = DetectionId { host: case.host, own: rand::random::<i64>() & i64::MAX };
    let c = Columns::of(&case.content);
    sqlx::query!(
        "-- store::record::insert
        insert into detection (host_id, detection_id, group_key, groups, verdict, severity, severity_rank, score, analytics, title,
          first_seen, last_seen, content, recurrence_of, detected_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)",
        id.host.0,
        id.own,
        case.group,
        &case.groups,
        c.verdict,
        c.severity,
        c.severity_rank,
        c.score,
        &c.analytics,
        case.content.title,
        case.content.first_seen,
        case.content.last_seen,
        Json(&case.content) as _,
        earlier.map(|e| e.to_string()),
        now
    )
    .execute(&mut *db)
    .await?;
    campaigns::note(db, id, &case.content).await?;
    journal(db, id, "detected", &format!("{}: {}", case.content.verdict, case.content.title), now).await
}

async fn update(db: &mut PgConnection, host: HostId, k: &Known, case: &Assessed, now: DateTime<Utc>) -> anyhow::Result<()> {
    let c = Columns::of(&case.content);
    // Whoever put it aside did so for what it was.
    let worse = case.content.verdict > k.content.verdict || case.content.severity > k.content.severity;
    sqlx::query!(
        "-- store::record::update
        update detection set version = version + 1, group_key = $3, groups = $4, verdict = $5, severity = $6, severity_rank = $7, score = $8,
          analytics = $9, title = $10, first_seen = $11, last_seen = $12, content = $13, updated_at = $14,
          snoozed_until = case when $16 then null else snoozed_until end
        where host_id = $1 and detection_id = $2 and version = $15",
        host.0,
        k.id,
        case.group,
        &case.groups,
        c.verdict,
        c.severity,
        c.severity_rank,
        c.score,
        &c.analytics,
        case.content.title,
        case.content.first_seen,
        case.content.last_seen,
        Json(&case.content) as _,
        now,
        k.version,
        worse
    )
    .execute(&mut *db)
    .await?;
    let id = DetectionId { host, own: k.id };
    campaigns::note(db, id, &case.content).await?;
    if let Some(detail) = difference(&k.content, &case.content) {
        journal(db, id, "changed", &detail, now).await?;
    }
    Ok(())
}

/// What an analyst would want to know of a change; a run that only grew is none.
fn difference(before: &Content, after: &Content) -> Option<String> {
    let mut words = Vec::new();
    if before.verdict != after.verdict {
        words.push(format!("verdict {} -> {}", before.verdict, after.verdict));
    }
    if before.severity != after.severity {
        words.push(format!("severity {} -> {}", before.severity, after.severity));
    }
    let codes = |c: &Content| c.evidence.iter().map(|e| e.code).collect::<std::collections::BTreeSet<_>>();
    let (old, new) = (codes(before), codes(after));
    words.extend(new.difference(&old).map(|c| format!("+{c}")));
    words.extend(old.difference(&new).map(|c| format!("-{c}")));
    (!words.is_empty()).then(|| words.join(", "))
}

async fn refute(db: &mut PgConnection, host: HostId, k: &Known, now: DateTime<Utc>) -> anyhow::Result<()> {
    campaigns::forget(db, DetectionId { host, own: k.id }).await?;
    if !k.touched {
        sqlx::query!("delete from detection_journal where host_id = $1 and detection_id = $2", host.0, k.id).execute(&mut *db).await?;
        sqlx::query!("delete from detection where host_id = $1 and detection_id = $2", host.0, k.id).execute(db).await?;
        return Ok(());
    }
    if k.content.verdict == Verdict::None {
        return Ok(());
    }
    let content = Content { verdict: Verdict::None, ..k.content.clone() };
    sqlx::query!(
        "-- store::record::refute: a person touched it, so it stays to be seen
        update detection set version = version + 1, verdict = 'none', content = $3, updated_at = $4 where host_id = $1 and detection_id = $2",
        host.0,
        k.id,
        Json(&content) as _,
        now
    )
    .execute(&mut *db)
    .await?;
    journal(db, DetectionId { host, own: k.id }, "changed", "later facts or exceptions leave nothing of it", now).await
}

async fn journal(db: &mut PgConnection, id: DetectionId, action: &str, detail: &str, now: DateTime<Utc>) -> anyhow::Result<()> {
    sqlx::query!(
        "-- store::record::journal
        insert into detection_journal (host_id, detection_id, at, actor, action, detail) values ($1, $2, $3, 'engine', $4, $5)",
        id.host.0,
        id.own,
        now,
        action,
        detail
    )
    .execute(db)
    .await?;
    Ok(())
}
