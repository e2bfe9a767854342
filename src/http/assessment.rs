//! `/api/v1/hosts/{name}/assessment`: per analytic and class, why it fired on this host or why not.
//!
//! With a detection or candidate the answer is the engine's own, as stored. Without one the engine is asked what it makes of the last
//! day: states, nearest miss and proof are its own. Where nothing starts a judgement, what each analytic asks for is told.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Read},
        coverage_api::Coverage,
        error::{Error, Result},
        hosts_api, paths,
    },
    model::{
        code::Class,
        coverage::ClassHealth,
        detection::{Analytic, ClassState, Evidence, Judged, State as Met, Verdict},
        ids::DetectionId,
    },
    store::{
        coverage::{self as store, Trace},
        detections,
        hosts::Host,
    },
    time::Span,
    worker::what_if,
};
use axum::{Json, extract::State};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};

crate::http::route_table! {
    get "/api/v1/hosts/{name}/assessment" Read => show;
}

/// What the engine thinks of a host.
#[derive(Debug, Serialize)]
pub(crate) struct Assessment {
    host: Host,
    /// Latest event time of the host.
    as_of: Option<DateTime<Utc>>,
    /// The detection this is about; absent = nothing fired.
    detection: Option<DetectionId>,
    verdict: Verdict,
    story: Option<String>,
    analytics: Vec<Judged>,
    classes: BTreeMap<Class, ClassState>,
    /// Of the detection.
    evidence: Vec<Evidence>,
    /// Evidence that no detection rests on: what was seen and was not enough.
    traces: Vec<Trace>,
    coverage: Coverage,
}

/// `GET /api/v1/hosts/{name}/assessment`
pub(crate) async fn show(_: Allowed<Read>, at: paths::ApiHostAssessment, State(app): State<Arc<App>>) -> Result<Json<Assessment>> {
    let mut conn = app.db.web.acquire().await?;
    let host = hosts_api::find(&mut conn, &at.name).await?;
    let filter = store::Filter { name: Some(host.name.clone()), limit: 1, ..store::Filter::default() };
    let seen = store::hosts(&mut conn, &filter).await?.pop().ok_or(Error::NotFound)?;
    let coverage = Coverage::of(seen, app.clock.now());
    let as_of = host.last_seen;
    if let Some(found) = detections::latest_of(&mut conn, host.id).await? {
        return Ok(Json(Assessment {
            as_of,
            detection: Some(found.id),
            verdict: found.content.verdict,
            story: Some(found.content.story),
            analytics: found.content.analytics,
            classes: found.content.classes,
            evidence: found.content.evidence,
            traces: Vec::new(),
            coverage,
            host,
        }));
    }
    let since = as_of.unwrap_or_default() - TimeDelta::hours(24);
    let traces = store::traces(&mut conn, host.id.0, since).await?;
    let day = as_of.and_then(|at| Span::new(since, at + TimeDelta::seconds(1)));
    let hashes: Vec<Vec<u8>> = app.rules.current().map(|hash| hash.to_vec()).collect();
    if let Some(day) = day.filter(|_| !traces.is_empty())
        && let Some(considered) = what_if::assess(&mut conn, host.id, day, &hashes, app.clock.now()).await?
    {
        return Ok(Json(Assessment {
            as_of,
            detection: None,
            verdict: considered.verdict,
            story: Some(considered.story),
            analytics: considered.analytics,
            classes: considered.classes,
            evidence: considered.evidence,
            traces,
            coverage,
            host,
        }));
    }
    let classes = states(&traces, &coverage.classes);
    let analytics = coverage.analytics.iter().map(|a| judged(a.id, a.state, &classes)).collect::<Vec<_>>();
    let verdict = analytics.iter().map(|a| a.verdict).max().unwrap_or(Verdict::None);
    Ok(Json(Assessment { as_of, detection: None, verdict, story: None, analytics, classes, evidence: Vec::new(), traces, coverage, host }))
}

/// Class states of the group with the most points: traces of different groups do not add up.
fn states(traces: &[Trace], health: &BTreeMap<Class, ClassHealth>) -> BTreeMap<Class, ClassState> {
    let mut groups: BTreeMap<i64, BTreeMap<Class, Vec<f64>>> = BTreeMap::new();
    for trace in traces {
        if let Ok(code) = trace.code.parse::<crate::model::code::Code>() {
            groups.entry(trace.group_key).or_default().entry(code.class()).or_default().push(trace.points);
        }
    }
    // Same sum as the engine's: sorted by size, each next item counts half.
    let scores = groups.into_values().map(|classes| {
        let scored = classes.into_iter().map(|(class, mut points)| {
            points.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
            let sum: f64 = points.iter().zip(0i32..).map(|(p, n)| p * 0.5f64.powi(n)).sum();
            (class, if class == Class::B { sum.max(class.cap()) } else { sum.min(class.cap()) })
        });
        scored.collect::<BTreeMap<_, _>>()
    });
    let strongest = scores.max_by(|a, b| a.values().sum::<f64>().total_cmp(&b.values().sum())).unwrap_or_default();
    let state_of = |class: Class| {
        let score = strongest.get(&class).copied().unwrap_or_default();
        let blind = health.get(&class).filter(|h| !h.state.is_observable());
        let met = if class == Class::B { score < 0.0 } else { score >= class.minimum() };
        let (state, reason) = match (met, blind) {
            (true, _) => (Met::Met, None),
            (false, Some(blind)) => (Met::Unobservable, blind.reason.clone()),
            (false, None) if score > 0.0 => (Met::Below, None),
            (false, None) => (Met::ObservedAbsent, None),
        };
        ClassState { state, score, raw_score: score, reason }
    };
    Class::ALL.into_iter().map(|class| (class, state_of(class))).collect()
}

/// One analytic that did not fire, with what it lacks.
fn judged(id: &str, assessable: &str, classes: &BTreeMap<Class, ClassState>) -> Judged {
    let is_met = |class: &Class| classes.get(class).is_some_and(|c| c.state == Met::Met);
    let missing = |wanted: &[Class]| {
        let words = wanted.iter().filter(|c| !is_met(c)).map(|class| {
            let state = classes.get(class).map_or(Met::ObservedAbsent, |c| c.state);
            let score = classes.get(class).map_or(0.0, |c| c.score);
            match state {
                Met::Below => format!("{class} ({score:.0} of {:.0} points)", class.minimum()),
                other => format!("{class} ({})", other.as_str().replace('_', " ")),
            }
        });
        words.collect::<Vec<_>>().join(", ")
    };
    let nearest_miss = if id == Analytic::An0741.as_str() {
        match missing(&[Class::R, Class::C, Class::N]) {
            lacks if lacks.is_empty() => "R, C and N are met, the score is below 50".to_owned(),
            lacks => format!("needs R, C and N; lacks {lacks}"),
        }
    } else {
        let carriers = [Class::L, Class::P, Class::M, Class::A];
        match (is_met(&Class::R), carriers.iter().filter(|c| is_met(c)).count()) {
            (true, 2..) => "R and two of L, P, M and A are met; lacks a discriminator, or the score is below 50".to_owned(),
            (true, _) => format!("needs two of L, P, M and A; lacks {}", missing(&carriers)),
            (false, 2..) => format!("needs R; lacks {}", missing(&[Class::R])),
            (false, _) => format!("needs R and two of L, P, M and A; lacks {}", missing(&[Class::R, Class::L, Class::P, Class::M, Class::A])),
        }
    };
    let verdict = if assessable == "not_assessable" { Verdict::NotAssessable } else { Verdict::None };
    let sum: f64 = classes.values().map(|c| c.score).sum();
    let score = (sum.clamp(0.0, 100.0) * 10.0).round() / 10.0;
    Judged { id: id.to_owned(), verdict, score, raw_score: score, band: None, first_alert_at: None, nearest_miss: Some(nearest_miss) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(group_key: i64, code: &str, points: f64) -> Trace {
        let at = DateTime::UNIX_EPOCH;
        Trace { group_key, code: code.to_owned(), points, hard: false, summary: String::new(), first_seen: at, last_seen: at }
    }

    #[test]
    fn traces_of_different_groups_do_not_add_up() {
        let classes = states(&[trace(1, "R.PERSISTENT", 22.0), trace(1, "N.RARE", 8.0), trace(2, "C.WALLET", 25.0)], &BTreeMap::new());
        let state = |c| classes.get(&c).unwrap().state;
        assert_eq!((state(Class::R), state(Class::N), state(Class::C)), (Met::Met, Met::Below, Met::ObservedAbsent));
        let miss = judged("AN0741", "assessable", &classes).nearest_miss.unwrap();
        assert_eq!(miss, "needs R, C and N; lacks C (observed absent), N (8 of 15 points)");
        let second = judged("AN1489", "not_assessable", &classes);
        assert_eq!(second.verdict, Verdict::NotAssessable);
        assert!(second.nearest_miss.unwrap().starts_with("needs two of L, P, M and A"));
    }
}
