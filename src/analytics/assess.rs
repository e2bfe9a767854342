//! From a case to what a detection says: both analytics at every point in time, the strongest verdict, states, proof.

use super::{
    case::{Case, Instance, Item, UNATTRIBUTED},
    context,
    exceptions::{self, Applied},
    gates::{self, View},
    observability, severity, story,
    score::{self, Scores},
};
use crate::model::{
    code::{Class, Code, Force},
    detection::{Analytic, ClassState, Content, Destination, Evidence, Judged, Persistence, Process, State, Verdict},
    ids::{HostId, ProcessId},
};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet};

/// Anchors this far apart are two episodes. Source: detection design, section 8.1.
pub const EPISODE_GAP: TimeDelta = TimeDelta::days(7);
/// Proof listed per piece of evidence.
const MOST_EVENTS: usize = 20;

/// What the judgement settled before it is told.
#[derive(Debug, Default)]
pub struct Picture {
    /// State of each class.
    pub classes: BTreeMap<Class, ClassState>,
    /// Entries and windows.
    pub applied: Applied,
    primary: Option<i64>,
}

impl Picture {
    /// The process the detection is about: the one with the load, else the first of the group.
    pub fn process<'a>(&self, case: &'a Case) -> Option<&'a Instance> {
        self.primary.and_then(|id| case.instance(id)).or_else(|| case.own().min_by_key(|p| (p.started_at, p.id)))
    }
}

/// One analytic at its best point.
#[derive(Debug, Clone)]
struct Best {
    verdict: Verdict,
    score: f64,
    at: DateTime<Utc>,
    first_alert_at: Option<DateTime<Utc>>,
    miss: Option<String>,
}

/// Judges a case. `None` if neither analytic has anything to say, with or without exceptions.
pub fn assess(case: &Case) -> Option<Content> {
    Some(consider(case)).filter(|c| c.verdict >= Verdict::Suppressed)
}

/// What is to be said of a case, also if that is why it is nothing.
pub fn consider(case: &Case) -> Content {
    let mut items = case.found.clone();
    items.extend(context::find(case));
    items.retain(|i| i.hop > 0.0);
    order(&mut items);
    let unobservable = observability::unobservable(case);
    let applied = exceptions::apply(case, &mut items);
    let blind: BTreeSet<Class> = unobservable.keys().copied().collect();
    let points: BTreeSet<DateTime<Utc>> = items.iter().flat_map(|i| [i.known_at, i.active_until()]).collect();

    let mut analytics = Vec::new();
    let mut decisive = BTreeSet::new();
    let mut nearest: Option<Best> = None;
    for analytic in [Analytic::An0741, Analytic::An1489] {
        let raw = best(&items, &points, &blind, analytic, |_| true);
        let effective = best(&items, &points, &blind, analytic, |i| i.suppressed_by.is_none());
        let verdict = if raw.verdict.in_queue() && !effective.verdict.in_queue() { Verdict::Suppressed } else { effective.verdict };
        if verdict >= Verdict::Suppressed {
            decisive.insert(if verdict == Verdict::Suppressed { raw.at } else { effective.at });
        }
        if nearest.as_ref().is_none_or(|n| (effective.verdict, effective.score) > (n.verdict, n.score)) {
            nearest = Some(effective.clone());
        }
        analytics.push(Judged {
            id: analytic.to_string(),
            verdict,
            score: shown(effective.score),
            raw_score: shown(raw.score),
            band: gates::band(verdict, effective.score),
            first_alert_at: effective.first_alert_at,
            nearest_miss: effective.miss,
        });
    }
    let verdict = analytics.iter().map(|a| a.verdict).max().unwrap_or(Verdict::None);
    // Where nothing was decided, the point that came nearest is told.
    decisive.extend(nearest.filter(|_| decisive.is_empty()).map(|n| n.at));
    let at = decisive.first().copied().unwrap_or_default();

    let classes = states(&items, &unobservable, &applied, &decisive);
    let primary = items.iter().filter(|i| i.code.class() == Class::R && i.group == case.primary).find_map(|i| i.process);
    let picture = Picture { classes, applied, primary };
    let anchors: Vec<&Item> = items.iter().filter(|i| i.is_anchor()).collect();
    let first_seen = anchors.iter().map(|i| i.first_seen).min().unwrap_or(at);
    let last_seen = anchors.iter().map(|i| i.last_seen).max().unwrap_or(at);
    let (severity, severity_reasons) = severity::of(case, &analytics, &items, verdict);
    let band = analytics.iter().filter_map(|a| a.band).max();
    Content {
        title: story::title(case, &items),
        story: story::tell(case, &picture, &items, band),
        verdict,
        severity,
        severity_reasons,
        process: picture.process(case).filter(|p| p.id != UNATTRIBUTED).map(|p| process(case, p)),
        classes: picture.classes,
        destinations: destinations(case),
        persistence: persistence(case, &items),
        evidence: told_once(items).into_iter().map(|i| evidence(case, i)).collect(),
        analytics,
        first_seen,
        last_seen,
        quiet: false,
        tunables: case.tunables.version,
    }
}

/// By class, then size, then time: the order of pages, and one that does not depend on how the items came.
fn order(items: &mut [Item]) {
    items.sort_by(|a, b| {
        (a.code.class(), b.points * b.hop, a.code, a.first_seen, &a.subject, a.process)
            .partial_cmp(&(b.code.class(), a.points * a.hop, b.code, b.first_seen, &b.subject, b.process))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
}

fn shown(score: f64) -> f64 {
    (score.clamp(0.0, 100.0) * 10.0).round() / 10.0
}

/// The strongest verdict of one analytic over all points in time, then the highest score, then the earliest point.
fn best(
    items: &[Item],
    points: &BTreeSet<DateTime<Utc>>,
    blind: &BTreeSet<Class>,
    analytic: Analytic,
    counts: impl Fn(&Item) -> bool,
) -> Best {
    let mut best = Best { verdict: Verdict::None, score: 0.0, at: points.first().copied().unwrap_or_default(), first_alert_at: None, miss: None };
    let mut first = true;
    for at in points {
        let active: Vec<&Item> = items.iter().filter(|i| i.is_active(*at) && counts(i)).collect();
        let scores = Scores::of(active.iter().copied());
        let view = View {
            unobservable: blind.clone(),
            discriminator: score::discriminates(active.iter().copied(), &scores),
            hard_c_or_n: active.iter().any(|i| i.is_hard() && matches!(i.code.class(), Class::C | Class::N)),
            pool: active.iter().any(|i| matches!(i.code, Code::NIoc | Code::NStratum)),
            scores,
        };
        let (verdict, total) = (gates::verdict(&view, analytic), view.scores.total(analytic));
        if verdict == Verdict::Alert && best.first_alert_at.is_none() {
            best.first_alert_at = Some(*at);
        }
        if first || (verdict, total) > (best.verdict, best.score) {
            best = Best { verdict, score: total, at: *at, miss: gates::nearest_miss(&view, analytic), first_alert_at: best.first_alert_at };
            first = false;
        }
    }
    best
}

/// State of each class at the points that decided, an analytic each: the better one. Source: detection design, section 4.3.
fn states(
    items: &[Item],
    unobservable: &BTreeMap<Class, String>,
    applied: &Applied,
    decisive: &BTreeSet<DateTime<Utc>>,
) -> BTreeMap<Class, ClassState> {
    let scores: Vec<(Scores, Scores)> = decisive
        .iter()
        .map(|at| {
            let active = || items.iter().filter(|i| i.is_active(*at));
            (Scores::of(active()), Scores::of(active().filter(|i| i.suppressed_by.is_none())))
        })
        .collect();
    Class::ALL
        .into_iter()
        .map(|class| {
            let strongest = |of: &dyn Fn(&(Scores, Scores)) -> f64| scores.iter().map(of).fold(0.0, |best: f64, s| if s.abs() > best.abs() { s } else { best });
            let (raw, score) = (strongest(&|s| s.0.get(class)), strongest(&|s| s.1.get(class)));
            let met = if class == Class::B { score < 0.0 } else { score >= class.minimum() };
            let raw_met = class != Class::B && raw >= class.minimum();
            let (state, reason) = if let (true, Some((entry, code))) = (met && class != Class::B, applied.voided.first()) {
                (State::Void, Some(format!("{entry} voided by {code}")))
            } else if met {
                (State::Met, None)
            } else if raw_met {
                (State::Suppressed, Some(format!("covered by {}", applied.names.join(", "))))
            } else if let Some(reason) = unobservable.get(&class) {
                (State::Unobservable, Some(reason.clone()))
            } else if raw > 0.0 {
                (State::Below, Some(format!("{raw:.0} of {:.0} points", class.minimum())))
            } else {
                (State::ObservedAbsent, None)
            };
            (class, ClassState { state, score: (score * 10.0).round() / 10.0, raw_score: (raw * 10.0).round() / 10.0, reason })
        })
        .collect()
}

fn process_id(case: &Case, own: i64) -> ProcessId {
    ProcessId { host: HostId(case.host.id), own }
}

fn process(case: &Case, p: &Instance) -> Process {
    Process {
        id: process_id(case, p.id),
        guid: p.guid.clone(),
        pid: p.pid,
        image: p.image.clone(),
        command_line: p.command_line.clone(),
        original_file_name: p.original_file_name.clone(),
        sha256: p.sha256.clone(),
        signer: p.signer.clone(),
        user: p.user.clone(),
        parent_image: p.parent_image.clone(),
        started_at: p.start_observed.then_some(p.started_at),
        ended_at: p.ended_at,
    }
}

/// The same sentence of several instances or connections is told once, over the whole stretch, with all proof.
fn told_once(items: Vec<Item>) -> Vec<Item> {
    let mut out: Vec<Item> = Vec::with_capacity(items.len());
    for item in items {
        match out.iter_mut().find(|o| o.code == item.code && o.summary == item.summary && o.suppressed_by == item.suppressed_by) {
            Some(told) => {
                told.first_seen = told.first_seen.min(item.first_seen);
                told.last_seen = told.last_seen.max(item.last_seen);
                told.known_at = told.known_at.min(item.known_at);
                for event in item.events {
                    if !told.events.contains(&event) {
                        told.events.push(event);
                    }
                }
            }
            None => out.push(item),
        }
    }
    out
}

fn evidence(case: &Case, mut item: Item) -> Evidence {
    if item.events.len() > MOST_EVENTS {
        let last = item.events.last().copied();
        item.events.truncate(MOST_EVENTS - 1);
        item.events.extend(last);
    }
    Evidence {
        code: item.code,
        class: item.code.class(),
        points: item.points,
        hop: item.hop,
        first_seen: item.first_seen,
        last_seen: item.last_seen,
        known_at: item.known_at,
        hard: item.is_hard(),
        force: if item.hops > 2 { Force::Plain } else { item.force },
        summary: item.summary,
        suppressed_by: item.suppressed_by,
        process: item.process.filter(|p| *p != UNATTRIBUTED).map(|p| process_id(case, p)),
        rule: item.rule,
        events: item.events,
    }
}

/// External destinations of the case, listed and long-held ones first.
fn destinations(case: &Case) -> Vec<Destination> {
    let mut by_key: BTreeMap<(String, Option<i32>), Destination> = BTreeMap::new();
    for f in case.flows.iter().filter(|f| f.external && f.outbound && f.process.is_some_and(|p| case.distance(p).is_some())) {
        let end = f.ended_at.unwrap_or(f.started_at);
        let bytes = match (f.bytes_out, f.bytes_in) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
        };
        let d = by_key.entry((f.destination.clone(), f.remote_port)).or_insert_with(|| Destination {
            host: f.remote_host.clone(),
            ip: f.remote_ip.map(|ip| ip.to_string()),
            port: f.remote_port.map(i64::from),
            first_seen: f.started_at,
            last_seen: end,
            bytes: None,
            connections: 0,
            hosts: case.fleet.destinations.get(&f.destination).map(|p| p.hosts),
            indicator: None,
        });
        d.first_seen = d.first_seen.min(f.started_at);
        d.last_seen = d.last_seen.max(end);
        d.bytes = match (d.bytes, bytes) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
        };
        d.connections += 1;
        if let Some((category, _)) = &f.listed {
            d.indicator = Some(category.clone());
        }
    }
    let mut all: Vec<_> = by_key.into_values().collect();
    all.sort_by(|a, b| {
        let rank = |d: &Destination| (d.indicator.is_none(), std::cmp::Reverse(d.last_seen - d.first_seen), d.first_seen);
        rank(a).cmp(&rank(b))
    });
    all.truncate(100);
    all
}

/// Launch artefacts that the evidence cites.
fn persistence(case: &Case, items: &[Item]) -> Vec<Persistence> {
    let cited: BTreeSet<_> = items.iter().filter(|i| i.code.class() == Class::L).flat_map(|i| i.events.iter().copied()).collect();
    let mut out: Vec<Persistence> = Vec::new();
    for a in case.artefacts.iter().filter(|a| a.event.is_some_and(|e| cited.contains(&e))) {
        let kind = match a.kind.as_str() {
            "task" => "scheduled_task",
            "wmi_filter" | "wmi_consumer" | "wmi_binding" => "wmi_subscription",
            other => other,
        };
        let made = matches!(a.action.as_str(), "create" | "update");
        let Some(event) = a.event else { continue };
        match out.iter_mut().find(|p| p.kind == kind && p.name.eq_ignore_ascii_case(&a.name)) {
            Some(known) => {
                known.created_at = known.created_at.or(made.then_some(a.at));
                known.by = known.by.take().or_else(|| a.by_user.clone());
                known.command = known.command.take().or_else(|| a.command.clone());
            }
            None => out.push(Persistence {
                kind: kind.to_owned(),
                name: a.name.clone(),
                created_at: made.then_some(a.at),
                by: a.by_user.clone(),
                command: a.command.as_deref().map(|c| format!("{c} {}", a.arguments.as_deref().unwrap_or_default()).trim().to_owned()),
                event,
            }),
        }
    }
    out
}
