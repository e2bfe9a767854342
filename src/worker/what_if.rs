//! The engine asked instead of told: what it thinks of a host now and why not more, and what it would think with other settings.
//!
//! Reads only: the same finders, cases and judgement as a pass, on stored facts and evidence. Source: detection design, section 12.

use super::{
    cases::{self, Configuration},
    find,
    spans::Spans,
    traces,
    tuning::Tuning,
};
use crate::{
    analytics::{self, case::Item},
    model::{
        detection::{Content, Disposition, Verdict},
        ids::{DetectionId, HostId},
        tunables::Settings,
    },
    store::evidence::Found,
    time::Span,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// History that other settings are tried on, up to each host's latest event. Source: detection design, section 12.4.
const HISTORY: TimeDelta = TimeDelta::days(30);

/// The strongest thing that can be said of a host about a stretch of time; `None` if there is no evidence that starts a judgement.
///
/// # Errors
/// Whatever the database says.
pub async fn assess(db: &mut PgConnection, host: HostId, span: Span, hashes: &[Vec<u8>], now: DateTime<Utc>) -> anyhow::Result<Option<Content>> {
    let conf = Configuration::read(db, now).await?;
    let mut spans = Spans::default();
    spans.add(host, span);
    let traces = traces::load(db, &spans, hashes).await?;
    let cases = cases::load(db, host, &[span], &conf, &traces).await?;
    let best = |c: &Content| (c.verdict, c.analytics.iter().map(|a| a.score).fold(0.0, f64::max));
    Ok(cases.iter().map(analytics::consider).max_by(|a, b| best(a).partial_cmp(&best(b)).unwrap_or(std::cmp::Ordering::Equal)))
}

/// A verdict that other settings would make differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The detection it is about now, if there is one.
    pub detection: Option<DetectionId>,
    /// Name of the host.
    pub host: String,
    /// One line.
    pub title: String,
    /// Verdict with the settings in force.
    pub before: Verdict,
    /// Verdict with the others.
    pub after: Verdict,
    /// How the detection was closed; absent = open.
    pub disposition: Option<Disposition>,
    /// Event time.
    pub first_seen: DateTime<Utc>,
    /// Event time.
    pub last_seen: DateTime<Utc>,
    /// What is missing with the other settings.
    pub nearest_miss: Option<String>,
}

/// What other settings would have done to the stored history.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Backtest {
    /// Hosts judged by this call.
    pub evaluated_hosts: usize,
    /// Hosts left after it.
    pub remaining_hosts: usize,
    /// Where to go on; absent = done.
    pub next_cursor: Option<String>,
    /// Nothing before, something after.
    pub added: Vec<Difference>,
    /// Something before, nothing after.
    pub removed: Vec<Difference>,
    /// Another verdict.
    pub changed: Vec<Difference>,
    /// Confirmed hijacks that would leave the queue.
    pub true_positives_lost: Vec<DetectionId>,
}

/// Which hosts a backtest looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those with load or evidence.
    All,
    /// Those with a confirmed hijack: what a change must not lose unnoticed.
    Confirmed,
}

/// Judges the last 30 days of hosts again with other settings, from `after` on in the order of their keys, for about `budget`.
///
/// # Errors
/// Whatever the database says.
pub async fn backtest(
    db: &mut PgConnection,
    settings: (Settings, Settings),
    hashes: &[Vec<u8>],
    (which, after, budget): (Which, Option<HostId>, Duration),
    now: DateTime<Utc>,
) -> anyhow::Result<Backtest> {
    let started = Instant::now();
    let before = Configuration { tuning: Tuning::with(db, settings.0).await?, ..Configuration::read(db, now).await? };
    let other = Tuning::with(db, settings.1).await?;
    let hosts = hosts(db, which, after).await?;
    let concerned: Vec<_> = hosts.into_iter().filter(|h| before.tuning.of(h.id).version != other.of(h.id).version).collect();
    let after = Configuration { tuning: other, ..Configuration::read(db, now).await? };
    let mut out = Backtest::default();
    for (n, host) in concerned.iter().enumerate() {
        if started.elapsed() >= budget && n > 0 {
            out.remaining_hosts = concerned.len() - n;
            out.next_cursor = concerned.get(n - 1).map(|h| h.id.0.to_string());
            break;
        }
        compare(db, host, (&before, &after), hashes, &mut out).await?;
        out.evaluated_hosts += 1;
    }
    Ok(out)
}

struct Host {
    id: HostId,
    name: String,
    last_seen: DateTime<Utc>,
}

async fn hosts(db: &mut PgConnection, which: Which, after: Option<HostId>) -> sqlx::Result<Vec<Host>> {
    sqlx::query_as!(
        Host,
        r#"-- worker::what_if::hosts
        select h.host_id as "id: HostId", h.name, h.last_seen as "last_seen!" from host h
        where h.kind = 'computer' and h.last_seen is not null and h.host_id > $1
          and (not $2 or exists (select from detection d where d.host_id = h.host_id and d.disposition = 'true_positive'))
        order by h.host_id"#,
        after.map_or(i64::MIN, |h| h.0),
        which == Which::Confirmed
    )
    .fetch_all(db)
    .await
}

async fn compare(
    db: &mut PgConnection,
    host: &Host,
    (before, after): (&Configuration, &Configuration),
    hashes: &[Vec<u8>],
    out: &mut Backtest,
) -> anyhow::Result<()> {
    let Some(span) = Span::new(host.last_seen - HISTORY, host.last_seen + TimeDelta::seconds(1)) else { return Ok(()) };
    let mut spans = Spans::default();
    spans.add(host.id, span);
    let stored = cases::evidence(db, host.id.0, &span.widened(TimeDelta::days(35), TimeDelta::days(1))).await?;
    let found = find::set(db, &spans.aligned(), hashes, &after.tuning).await?;
    // Beyond the history what is stored stands.
    let ours = |i: &Item| find::SET.contains(&i.code) && i.last_seen >= span.since();
    let mut changed: Vec<Item> = stored.iter().filter(|i| !ours(i)).cloned().collect();
    changed.extend(found.into_iter().map(item));
    let traces = traces::load(db, &spans, hashes).await?;
    let judged = async |db: &mut PgConnection, items: Vec<Item>, conf: &Configuration| -> anyhow::Result<Vec<(BTreeSet<i64>, Content)>> {
        let cases = cases::of(db, host.id, items, &[span], conf, &traces).await?;
        Ok(cases.iter().map(|c| (c.groups.iter().copied().collect(), analytics::consider(c))).collect())
    };
    let old = judged(db, stored, before).await?;
    let mut new = judged(db, changed, after).await?;
    let known = detections(db, host.id, span).await?;
    for (groups, was) in &old {
        let at = new.iter().position(|(g, c)| same(groups, was, g, c));
        let is = at.map(|n| new.swap_remove(n).1);
        note(out, host, &known, groups, Some(was), is.as_ref());
    }
    for (groups, is) in &new {
        note(out, host, &known, groups, None, Some(is));
    }
    Ok(())
}

fn item(f: Found) -> Item {
    Item {
        code: f.code,
        points: f.points,
        force: f.force,
        hop: 1.0,
        hops: 0,
        group: f.group,
        process: f.process,
        subject: f.subject,
        first_seen: f.first_seen,
        last_seen: f.last_seen,
        known_at: f.known_at,
        summary: f.summary,
        rule: f.rule,
        events: f.events,
        suppressed_by: None,
    }
}

/// Whether two judgements are about one episode.
fn same(a: &BTreeSet<i64>, was: &Content, b: &BTreeSet<i64>, is: &Content) -> bool {
    !a.is_disjoint(b) && was.first_seen <= is.last_seen + TimeDelta::days(7) && is.first_seen <= was.last_seen + TimeDelta::days(7)
}

/// A stored detection of the host.
struct Known {
    id: DetectionId,
    groups: BTreeSet<i64>,
    disposition: Option<Disposition>,
    first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
}

async fn detections(db: &mut PgConnection, host: HostId, span: Span) -> anyhow::Result<Vec<Known>> {
    let rows = sqlx::query!(
        "-- worker::what_if::detections
        select detection_id, groups, disposition, first_seen, last_seen from detection
        where host_id = $1 and last_seen >= $2 and first_seen < $3 order by last_seen desc, detection_id",
        host.0,
        span.since(),
        span.until()
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|r| {
            Ok(Known {
                id: DetectionId { host, own: r.detection_id },
                groups: r.groups.into_iter().collect(),
                disposition: r.disposition.map(|d| d.parse()).transpose()?,
                first_seen: r.first_seen,
                last_seen: r.last_seen,
            })
        })
        .collect()
}

/// Says what differs, if anything does that people see.
fn note(out: &mut Backtest, host: &Host, known: &[Known], groups: &BTreeSet<i64>, was: Option<&Content>, is: Option<&Content>) {
    let verdict = |c: Option<&Content>| c.map(|c| c.verdict).filter(|v| *v >= Verdict::Suppressed).unwrap_or(Verdict::None);
    let (before, after) = (verdict(was), verdict(is));
    let Some(content) = was.filter(|_| before > after).or(is).or(was) else { return };
    if before == after {
        return;
    }
    let near = |k: &&Known| !k.groups.is_disjoint(groups) && k.first_seen <= content.last_seen && content.first_seen <= k.last_seen;
    let detection = known.iter().find(near);
    let difference = Difference {
        detection: detection.map(|k| k.id),
        host: host.name.clone(),
        title: content.title.clone(),
        before,
        after,
        disposition: detection.and_then(|k| k.disposition),
        first_seen: content.first_seen,
        last_seen: content.last_seen,
        nearest_miss: match is {
            Some(content) => content.analytics.iter().find_map(|a| a.nearest_miss.clone()),
            None => Some("no evidence is left that starts a judgement".to_owned()),
        },
    };
    if before.in_queue() && !after.in_queue() && difference.disposition == Some(Disposition::TruePositive) {
        out.true_positives_lost.extend(difference.detection);
    }
    let list = match (before, after) {
        (Verdict::None, _) => &mut out.added,
        (_, Verdict::None) => &mut out.removed,
        _ => &mut out.changed,
    };
    list.push(difference);
}
