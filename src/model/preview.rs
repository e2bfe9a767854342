//! What an allowlist entry would have hidden: stored detections judged again without the evidence it covers. Pure.
//!
//! An approximation for people who write entries: it re-adds class scores and asks whether the classes that carried a verdict
//! still carry it. What then happens is decided by the worker, from all evidence.

use crate::model::{
    code::Class,
    detection::{Analytic, Content, Disposition, State, Verdict},
    exceptions::{EntryBody, Subject},
    ids::DetectionId,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Would the entry take this detection out of the queue? Its scope is settled before; `until` is its expiry.
pub fn would_hide(entry: &EntryBody, until: DateTime<Utc>, found: &Content) -> bool {
    if !found.verdict.in_queue() || !entry.matches(&subject(found, &destinations(found))) {
        return false;
    }
    let applies = |at: DateTime<Utc>| at < until && entry.valid_from.is_none_or(|from| at >= from);
    let covered = |e: &crate::model::detection::Evidence| applies(e.first_seen) && entry.covers_code(e.code, e.hard);
    // A hard item that the entry does not name voids it.
    if found.evidence.iter().any(|e| e.hard && !covered(e)) {
        return false;
    }
    let still_met = |class: Class| {
        let was_met = found.classes.get(&class).is_some_and(|c| c.state == State::Met);
        let mut left: Vec<f64> =
            found.evidence.iter().filter(|e| e.class == class && !covered(e)).map(|e| e.points * e.hop).collect();
        left.sort_by(|a, b| b.total_cmp(a));
        let score: f64 = left.iter().zip(0i32..).map(|(points, n)| points * 0.5f64.powi(n)).sum();
        was_met && score.min(class.cap()) >= class.minimum()
    };
    let lost = |class: &Class| found.classes.get(class).is_some_and(|c| c.state == State::Met) && !still_met(*class);
    found.analytics.iter().filter(|judged| judged.verdict.in_queue()).all(|judged| {
        if judged.id == Analytic::An0741.as_str() {
            // R, C and N carry it, whichever of them were met.
            [Class::R, Class::C, Class::N].iter().any(lost)
        } else {
            // R, and two of the others.
            let carriers = [Class::L, Class::P, Class::M, Class::A];
            let before = carriers.iter().filter(|c| found.classes.get(c).is_some_and(|s| s.state == State::Met)).count();
            let after = carriers.iter().filter(|c| still_met(**c)).count();
            lost(&Class::R) || (after < before && after < 2)
        }
    })
}

/// Names and addresses a detection's cluster talked to.
fn destinations(found: &Content) -> Vec<&str> {
    found.destinations.iter().flat_map(|d| [d.host.as_deref(), d.ip.as_deref()]).flatten().collect()
}

/// What entries see of a detection: its primary process, the first thing that starts it, its destinations.
fn subject<'a>(found: &'a Content, destinations: &'a [&'a str]) -> Subject<'a> {
    let process = found.process.as_ref();
    Subject {
        sha256: process.and_then(|p| p.sha256.as_deref()),
        signer: process.and_then(|p| p.signer.as_deref()),
        image: process.and_then(|p| p.image.as_deref()),
        original_file_name: process.and_then(|p| p.original_file_name.as_deref()),
        command_line: process.and_then(|p| p.command_line.as_deref()),
        parent_image: process.and_then(|p| p.parent_image.as_deref()),
        launch_root: found.persistence.first().map(|p| p.name.as_str()),
        user: process.and_then(|p| p.user.as_deref()),
        destinations,
    }
}

/// One detection that an entry would hide.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hidden {
    /// The detection.
    pub id: DetectionId,
    /// Its host.
    pub host: String,
    /// One line.
    pub title: String,
    /// Verdict it has now.
    pub verdict: Verdict,
    /// How it was closed; absent = open.
    pub disposition: Option<Disposition>,
    /// Event time.
    pub last_seen: DateTime<Utc>,
}

/// What an entry would have hidden.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preview {
    /// How many detections.
    pub would_hide: usize,
    /// By disposition; `open` = not closed.
    pub dispositions: BTreeMap<&'static str, usize>,
    /// Names of their hosts.
    pub hosts: BTreeSet<String>,
    /// Confirmed hijacks among them: reason for a second look.
    pub true_positives: Vec<DetectionId>,
    /// The latest of them, at most 200.
    pub items: Vec<Hidden>,
}

impl Preview {
    /// Sums up; `hidden` is ordered latest first.
    pub fn of(mut hidden: Vec<Hidden>) -> Self {
        let mut dispositions = BTreeMap::new();
        for item in &hidden {
            *dispositions.entry(item.disposition.map_or("open", Disposition::as_str)).or_default() += 1;
        }
        let hosts = hidden.iter().map(|h| h.host.clone()).collect();
        let true_positives =
            hidden.iter().filter(|h| h.disposition == Some(Disposition::TruePositive)).map(|h| h.id).collect();
        let would_hide = hidden.len();
        hidden.truncate(200);
        Self { would_hide, dispositions, hosts, true_positives, items: hidden }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn content(codes: &[(&str, &str, f64, bool)], met: &[&str]) -> Content {
        let evidence: Vec<_> = codes
            .iter()
            .map(|(code, class, points, hard)| {
                json!({"code":code,"class":class,"points":points,"hop":1.0,"first_seen":"2026-03-01T00:00:00Z","last_seen":"2026-03-01T01:00:00Z",
                       "known_at":"2026-03-01T00:20:00Z","summary":"","hard":hard,"force":"plain","suppressed_by":null,"process":null,"events":[]})
            })
            .collect();
        let classes: serde_json::Map<String, serde_json::Value> =
            met.iter().map(|c| ((*c).to_owned(), json!({"state":"met","score":20.0,"raw_score":20.0}))).collect();
        serde_json::from_value(json!({
            "title":"","story":"","verdict":"alert","severity":"high","severity_reasons":[],
            "analytics":[{"id":"AN0741","verdict":"none","score":10.0,"raw_score":10.0,"band":null,"first_alert_at":null,"nearest_miss":null},
                         {"id":"AN1489","verdict":"alert","score":70.0,"raw_score":70.0,"band":"probable","first_alert_at":null,"nearest_miss":null}],
            "process":{"id":"7-00000000000000aa","guid":null,"pid":4,"image":"C:\\build\\cl.exe","command_line":null,"original_file_name":null,
                       "sha256":"ab".repeat(32),"signer":"Example Corp","user":null,"parent_image":null,"started_at":null,"ended_at":null},
            "classes":classes,"evidence":evidence,"destinations":[],"persistence":[],
            "first_seen":"2026-03-01T00:00:00Z","last_seen":"2026-03-01T01:00:00Z","quiet":false
        }))
        .unwrap()
    }

    fn entry(covers: &[&str]) -> EntryBody {
        serde_json::from_value(json!({"match":{"signer":"example corp","image":"cl.exe"},"scope":{"everywhere":true},"covers":covers,"reason":"builds"})).unwrap()
    }

    const LATER: DateTime<Utc> = DateTime::<Utc>::MAX_UTC;

    #[test]
    fn covering_the_load_hides_and_covering_nothing_needed_does_not() {
        let found = content(
            &[("R.PERSISTENT", "R", 22.0, false), ("L.TASK_SUSP", "L", 20.0, false), ("P.LONG30", "P", 15.0, false), ("M.OFN", "M", 15.0, false)],
            &["R", "L", "P", "M"],
        );
        assert!(would_hide(&entry(&["R"]), LATER, &found));
        assert!(!would_hide(&entry(&["M"]), LATER, &found), "L and P are left");
        assert!(would_hide(&entry(&["M", "P"]), LATER, &found), "L alone is not enough");
        assert!(!would_hide(&entry(&["R"]), found.first_seen, &found), "it had expired");
    }

    #[test]
    fn hard_evidence_that_is_not_named_stays_visible() {
        let found = content(&[("R.PERSISTENT", "R", 22.0, false), ("M.TAMPER", "M", 25.0, true), ("L.TASK_SUSP", "L", 20.0, false)], &["R", "L", "M"]);
        assert!(!would_hide(&entry(&["R", "M"]), LATER, &found));
        assert!(would_hide(&entry(&["R", "M.TAMPER"]), LATER, &found));
    }
}
