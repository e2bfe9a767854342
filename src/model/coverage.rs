//! Health of a host's telemetry, class by class: what people see before they trust a silence.
//!
//! Source: detection design, sections 4.2 and 10. Verdicts do not use this; they judge the span of their episode. Pure.

use crate::model::{code::Class, detection::Analytic};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use std::collections::BTreeMap;

/// Classes that depend on what a host sends.
pub const CLASSES: [Class; 6] = [Class::R, Class::C, Class::N, Class::L, Class::P, Class::M];

/// What came from a host in the 24 hours before its latest event, counted in five-minute buckets.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "columns of host_bucket, summed; `_at` = latest bucket with one")]
pub struct Seen {
    pub first_seen: Option<DateTime<Utc>>,
    pub last_seen: Option<DateTime<Utc>>,
    /// Buckets with any event.
    pub alive: i64,
    /// Buckets with CPU per process.
    pub with_cpu: i64,
    pub cpu_at: Option<DateTime<Utc>>,
    /// Buckets with CPU of the whole host.
    pub with_host_cpu: i64,
    pub starts: i64,
    pub starts_at: Option<DateTime<Utc>>,
    pub starts_with_command: i64,
    pub starts_with_parent: i64,
    pub starts_with_metadata: i64,
    pub connections: i64,
    pub flows: i64,
    pub network_at: Option<DateTime<Utc>>,
    pub dns: i64,
    pub scripts: i64,
    pub tasks: i64,
}

/// How well a class can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All there.
    Healthy,
    /// Judged, but something that helps is missing.
    Degraded,
    /// Was there, is not any more.
    Stale,
    /// Not there.
    Absent,
    /// Less than a day of data.
    Unknown,
}

impl Health {
    /// As shown and served.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Stale => "stale",
            Self::Absent => "absent",
            Self::Unknown => "unknown",
        }
    }

    /// Whether evidence of the class would be seen.
    pub fn is_observable(self) -> bool {
        matches!(self, Self::Healthy | Self::Degraded | Self::Unknown)
    }
}

/// Health of one class, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassHealth {
    /// See [`Health`].
    pub state: Health,
    /// Latest event time of what the class needs.
    pub last_event_at: Option<DateTime<Utc>>,
    /// What is missing and what would bring it, unless healthy.
    pub reason: Option<String>,
}

/// Share of starts that must carry a field, percent. Source: detection design, section 4.2.
const COMPLETE: i64 = 95;
/// Share of alive buckets with CPU, percent. Source: as above.
const CPU_COVERED: i64 = 80;

/// Judges every class. `now` is the wall clock: coverage is the one place that asks for it.
pub fn judge(seen: &Seen, now: DateTime<Utc>) -> BTreeMap<Class, ClassHealth> {
    CLASSES.into_iter().map(|class| (class, class_health(class, seen, now))).collect()
}

fn class_health(class: Class, seen: &Seen, now: DateTime<Utc>) -> ClassHealth {
    let percent = |part: i64, whole: i64| if whole > 0 { part * 100 / whole } else { 0 };
    let (any, last_event_at) = match class {
        Class::R => (seen.with_cpu > 0, seen.cpu_at),
        Class::N | Class::P => (seen.connections + seen.flows > 0, seen.network_at),
        _ => (seen.starts > 0, seen.starts_at),
    };
    // What decides, then what would help; both in words that name the source.
    let (enough, missing) = match class {
        Class::R => (
            percent(seen.with_cpu, seen.alive) >= CPU_COVERED,
            "CPU per process with pid or path: Metricbeat system.process, Telegraf procstat or win_perf_counters",
        ),
        Class::C => (percent(seen.starts_with_command, seen.starts) >= COMPLETE, "command lines of process starts: Sysmon 1, or 4688 with command lines"),
        Class::N | Class::P => (any, "connections or flows: Sysmon 3, Zeek, Suricata or firewall logs"),
        Class::L => (percent(seen.starts_with_parent, seen.starts) >= COMPLETE, "parents of process starts: Sysmon 1, or 4688 of Windows 10 and later"),
        _ => (seen.starts_with_metadata > 0, "original file name, signature or hash of process starts: Sysmon 1 with hashes"),
    };
    let extra = match class {
        Class::R if seen.with_host_cpu == 0 => Some("CPU of the whole host"),
        Class::C if seen.scripts == 0 => Some("script blocks (4104)"),
        Class::N if seen.dns == 0 => Some("DNS look-ups (Sysmon 22, Zeek)"),
        Class::P if seen.flows == 0 => Some("flows with a duration (Zeek, Suricata, firewall)"),
        _ => None,
    };
    let late = if class == Class::R { TimeDelta::minutes(10) } else { TimeDelta::hours(24) };
    let silent = seen.last_seen.is_none_or(|at| now - at > TimeDelta::hours(24));
    let young = seen.first_seen.is_none_or(|first| seen.last_seen.is_none_or(|last| last - first < TimeDelta::hours(24)));
    let since = |at: Option<DateTime<Utc>>| at.map_or_else(|| "ever".to_owned(), |t| t.format("%Y-%m-%d %H:%M UTC").to_string());
    let (state, reason) = if seen.last_seen.is_none() {
        (Health::Unknown, Some("nothing was received from this host yet".to_owned()))
    } else if silent {
        (Health::Stale, Some(format!("the host has been silent since {}", since(seen.last_seen))))
    } else if !any {
        (Health::Absent, Some(format!("missing: {missing}")))
    } else if last_event_at.zip(seen.last_seen).is_some_and(|(at, last)| last - at > late) {
        (Health::Stale, Some(format!("none since {}: {missing}", since(last_event_at))))
    } else if !enough {
        (Health::Absent, Some(format!("incomplete: {missing}")))
    } else if young {
        (Health::Unknown, Some("less than a day of data".to_owned()))
    } else if let Some(extra) = extra {
        (Health::Degraded, Some(format!("would help: {extra}")))
    } else {
        (Health::Healthy, None)
    };
    ClassHealth { state, last_event_at, reason }
}

/// Whether an analytic can say anything about a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Assessable {
    /// `AN0741` or `AN1489`.
    pub id: &'static str,
    /// `assessable`, `partial` or `not_assessable`.
    pub state: &'static str,
    /// Classes that cannot be observed.
    pub missing: Vec<Class>,
}

/// Both analytics. Source of the rules: detection design, section 6.3, rows `partial` and `not_assessable`.
pub fn assessable(classes: &BTreeMap<Class, ClassHealth>) -> [Assessable; 2] {
    let blind = |wanted: &[Class]| -> Vec<Class> {
        wanted.iter().copied().filter(|c| classes.get(c).is_none_or(|h| !h.state.is_observable())).collect()
    };
    let words = |missing: &[Class], blinded: bool| match missing {
        [] => "assessable",
        _ if blinded => "not_assessable",
        _ => "partial",
    };
    let first = blind(&[Class::R, Class::C, Class::N]);
    let second = blind(&[Class::R, Class::L, Class::P, Class::M]);
    let no_load = second.contains(&Class::R);
    let launches = second.len() - usize::from(no_load);
    [
        Assessable { id: Analytic::An0741.as_str(), state: words(&first, first.len() >= 2), missing: first },
        Assessable { id: Analytic::An1489.as_str(), state: words(&second, launches == 3 || (no_load && launches > 1)), missing: second },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hours)
    }

    fn whole() -> Seen {
        let last = Some(at(100));
        Seen {
            first_seen: Some(at(0)),
            last_seen: last,
            alive: 288,
            with_cpu: 288,
            cpu_at: last,
            with_host_cpu: 288,
            starts: 100,
            starts_at: last,
            starts_with_command: 100,
            starts_with_parent: 100,
            starts_with_metadata: 100,
            connections: 50,
            flows: 50,
            network_at: last,
            dns: 5,
            scripts: 5,
            tasks: 0,
        }
    }

    fn states(seen: &Seen, now: DateTime<Utc>) -> Vec<&'static str> {
        judge(seen, now).values().map(|h| h.state.as_str()).collect()
    }

    #[test]
    fn each_class_follows_what_it_needs() {
        // R C N L P M, in the order of `Class`.
        assert_eq!(states(&whole(), at(100)), ["healthy"; 6]);
        assert_eq!(states(&whole(), at(130)), ["stale"; 6], "a silent host");
        assert_eq!(states(&Seen::default(), at(0)), ["unknown"; 6]);
        assert_eq!(states(&Seen { first_seen: Some(at(90)), ..whole() }, at(100)), ["unknown"; 6]);
        let got = states(&Seen { with_cpu: 0, cpu_at: None, starts_with_command: 94, flows: 0, dns: 0, ..whole() }, at(100));
        assert_eq!(got, ["absent", "absent", "degraded", "healthy", "degraded", "healthy"]);
        let got = states(&Seen { cpu_at: Some(at(99)), ..whole() }, at(100));
        assert_eq!(got[0], "stale", "no CPU for an hour while the host is alive");
    }

    #[test]
    fn a_blind_host_is_not_a_clean_one() {
        let state = |seen: &Seen| assessable(&judge(seen, at(100))).map(|a| a.state);
        assert_eq!(state(&whole()), ["assessable", "assessable"]);
        assert_eq!(state(&Seen { with_cpu: 0, ..whole() }), ["partial", "partial"]);
        assert_eq!(state(&Seen { starts: 0, ..whole() }), ["partial", "partial"], "connections are left");
        assert_eq!(state(&Seen { starts: 0, with_cpu: 0, ..whole() }), ["not_assessable", "not_assessable"]);
        assert_eq!(state(&Seen { starts: 0, connections: 0, flows: 0, ..whole() }), ["not_assessable", "not_assessable"]);
    }
}
