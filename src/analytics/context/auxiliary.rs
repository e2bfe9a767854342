//! Class A: traces that speak for a miner only where they concern this program. Source: detection design, section 5, A.
//!
//! Rules say what happened on the host; here a trace is linked by lineage, by a path it names, or by time.

use super::super::case::{Case, Dark, Instance, Item, Memory, Trace, Watched};
use crate::model::{
    code::{Class, Code},
    group::{base_name, comparable_path, folder},
};
use chrono::{DateTime, TimeDelta, Utc};
use regex::Regex;
use std::{collections::BTreeSet, sync::LazyLock};

/// How far from a start a driver or privilege may be.
const NEAR_START: TimeDelta = TimeDelta::minutes(10);
/// How far from the first start protection may stop.
const NEAR_FIRST: TimeDelta = TimeDelta::minutes(60);
/// How soon a program that hides ends after a watcher starts, and starts after that ends.
const HIDES: (TimeDelta, TimeDelta) = (TimeDelta::seconds(30), TimeDelta::minutes(10));
/// Acts, and in how long, that make a row.
const ROW: (usize, TimeDelta) = (3, TimeDelta::minutes(10));

static EXCLUDED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\\exclusions\\(?:paths|processes|extensions)\\([^\r\n]+)|-exclusion(?:path|process|extension)\s+([^\r\n]+)|/v\s+([^\r\n/]+)").expect("a constant pattern")
});
static ENDS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)\b(?: taskkill(?:\.exe)?\b[^&|;]*/(?:im|pid) | sc(?:\.exe)?\s+(?:stop|delete)\s | net1?(?:\.exe)?\s+stop\s | schtasks(?:\.exe)?\b[^&|;]*/(?:delete|end)\b
        | stop-process\b | stop-service\b | remove-service\b | unregister-scheduledtask\b | wmic(?:\.exe)?\s+process\b[^&|;]*\b(?:delete|terminate)\b )",
    )
    .expect("a constant pattern")
});
static SECURITY_PRODUCT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(?:windefend|msmpeng|mssense|sense|wdnissvc|nissrv|sysmon(?:64)?|csfalcon\w*|sentinelagent|cb|cbdefense|ekrn|avp|bdservicehost|ccsvchst|savservice|mbamservice)\b")
        .expect("a constant pattern")
});

pub(super) fn find(case: &Case, out: &mut Vec<Item>) {
    let Some(first) = case.own().filter(|p| p.image.is_some()).min_by_key(|p| (p.started_at, p.id)) else { return };
    let end = case.own().map(Instance::life_end).max().unwrap_or(first.started_at);
    for trace in case.traces.iter().filter(|t| t.code.class() == Class::A && t.at <= end) {
        let by = maker(case, trace);
        let linked = by.is_some() || concerns(case, trace, first);
        if linked {
            let owner = by.unwrap_or(first);
            let summary = format!("{}: {}", trace.code.entry().says, trace.excerpt);
            let mut item = Item::new(trace.code, owner, first.started_at, end, summary);
            (item.points, item.force, item.rule) = (trace.points, trace.force, Some(trace.rule.clone()));
            item.known_at = trace.at.max(first.started_at);
            item.events = vec![trace.event];
            out.push(item);
        }
    }
    pauses(case, out);
    kills(case, out);
    dark(case, first, end, out);
    memory(case, out);
}

/// Nothing was said of processes and scripts for an hour around the begin of the load.
fn dark(case: &Case, first: &Instance, end: DateTime<Utc>, out: &mut Vec<Item>) {
    let loads: Vec<DateTime<Utc>> = case.found.iter().filter(|i| i.code.class() == Class::R && i.group == case.primary).map(|i| i.first_seen).collect();
    let around = |d: &&Dark| loads.iter().any(|at| *at >= d.since - NEAR_FIRST && *at <= d.until + NEAR_FIRST);
    if let Some(d) = case.dark.iter().find(around) {
        let minutes = (d.until - d.since).num_minutes();
        let summary = format!("no process or script was reported for {minutes} min, where {:.0} an hour are usual", d.hourly);
        let mut item = Item::new(Code::ADark, first, first.started_at.min(d.since), end.max(d.until), summary);
        item.known_at = d.since + TimeDelta::minutes(60);
        item.events.clear();
        out.push(item);
    }
}

/// Bytes that `RandomX` takes: its data set, or its cache alone. Source: detection design, `A.RXMEM`.
const RANDOMX: [std::ops::RangeInclusive<f64>; 2] = [2.0 * GIB..=2.6 * GIB, 250.0 * MIB..=320.0 * MIB];
const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1_024.0 * MIB;

fn memory(case: &Case, out: &mut Vec<Item>) {
    let of = |m: &Memory| case.own().find(|p| p.id == m.process).filter(|_| RANDOMX.iter().any(|range| range.contains(&m.bytes)));
    if let Some((m, owner)) = case.memory.iter().find_map(|m| of(m).map(|p| (m, p))) {
        let summary = format!("{:.0} MiB of memory, constant for {} min under load", m.bytes / MIB, (m.until - m.since).num_minutes());
        let mut item = Item::for_life(Code::ARxMem, owner, summary);
        item.known_at = m.until;
        out.push(item);
    }
}

/// The process of the lineage that the event names as its own.
fn maker<'a>(case: &'a Case, trace: &Trace) -> Option<&'a Instance> {
    case.instances.iter().filter(|i| case.distance(i.id).is_some()).find(|i| match &trace.guid {
        Some(guid) => i.guid.as_ref() == Some(guid),
        None => {
            let slack = TimeDelta::seconds(2);
            trace.pid.is_some() && trace.pid == i.pid && i.started_at - slack <= trace.at && i.ended_at.is_none_or(|end| trace.at <= end + slack)
        }
    })
}

/// Whether a trace that no process of the lineage made is about the program all the same.
fn concerns(case: &Case, trace: &Trace, first: &Instance) -> bool {
    let kin = || case.instances.iter().filter(|i| case.distance(i.id).is_some() && i.image.is_some());
    let near = |limit: TimeDelta| case.own().any(|p| (trace.at - p.started_at).abs() <= limit);
    match trace.code {
        Code::AAvMiner | Code::AAvAlert => kin().any(|i| trace.text.lines().any(|l| comparable_path(l) == i.path())),
        Code::ADefExcl => case.own().any(|p| excluded(&trace.text).any(|what| covers(what, &p.path()))),
        Code::ADefOff => (trace.at - first.started_at).abs() <= NEAR_FIRST,
        Code::AWinRing0 => near(NEAR_START) || case.own().any(|p| !folder(&p.path()).is_empty() && trace.text.contains(&format!("{}\\", folder(&p.path())))),
        Code::ALockMem => near(NEAR_START) && case.own().any(|p| same_user(p.user.as_deref(), trace.user.as_deref())),
        Code::AFw => {
            let ports: BTreeSet<i32> = case.flows.iter().filter(|f| f.external).filter_map(|f| f.remote_port).filter(|p| !matches!(p, 80 | 443)).collect();
            case.own().any(|p| p.path().contains('\\') && trace.text.contains(&p.path()))
                || ports.iter().any(|port| trace.text.contains(&format!("port={port}")) || trace.text.contains(&format!("port {port}")))
        }
        _ => false,
    }
}

/// Paths, programs and extensions that an exclusion names.
fn excluded(text: &str) -> impl Iterator<Item = &str> {
    EXCLUDED.captures_iter(text).flat_map(|c| {
        let (whole, registry) = (c.get(1).or_else(|| c.get(2)).or_else(|| c.get(3)).map_or("", |m| m.as_str()), c.get(1).is_some());
        // A value's name is one path; a command lists several.
        whole.split(move |ch: char| !registry && matches!(ch, ',' | ';' | '|' | '\'' | '"')).flat_map(move |part| {
            let part = part.trim().trim_matches(['"', '\'']);
            let word = if registry || part.contains(":\\") && !part.contains(" -") { part } else { part.split_whitespace().next().unwrap_or_default() };
            [part, word].into_iter().filter(|w| !w.is_empty())
        })
    })
}

/// Whether an exclusion of this path, folder, name or extension covers the image.
fn covers(what: &str, path: &str) -> bool {
    let what = comparable_path(what);
    let what = what.trim_end_matches(['\\', '*']);
    if what.is_empty() || path.is_empty() {
        return false;
    }
    let below = path.strip_prefix(what).is_some_and(|rest| rest.is_empty() || rest.starts_with('\\'));
    let extension = path.rsplit_once('.').is_some_and(|(_, e)| what.trim_start_matches('.') == e);
    below || what == base_name(path) || extension
}

fn same_user(a: Option<&str>, b: Option<&str>) -> bool {
    let name = |u: &str| u.rsplit('\\').next().unwrap_or(u).to_lowercase();
    a.zip(b).is_some_and(|(a, b)| name(a) == name(b))
}

/// Ends soon after somebody looks at the processes and is back soon after they stop; or idles meanwhile.
fn pauses(case: &Case, out: &mut Vec<Item>) {
    let lives: Vec<&Instance> = case.own().filter(|p| p.image.is_some()).collect();
    let hides = |w: &&Watched| {
        let ended = lives.iter().any(|p| p.started_at < w.since && p.ended_at.is_some_and(|end| end >= w.since && end <= w.since + HIDES.0));
        let back = lives.iter().any(|p| p.started_at >= w.until && p.started_at <= w.until + HIDES.1);
        ended && back || idles(case, w)
    };
    let hidden: Vec<&Watched> = case.watched.iter().filter(hides).collect();
    let (Some(begin), Some(last), Some(owner)) = (hidden.first(), hidden.last(), lives.first()) else { return };
    let Some(second) = hidden.get(1).filter(|second| second.since - begin.since <= TimeDelta::days(14)) else { return };
    let summary = format!("{} times out of the way while {} was open", hidden.len(), begin.by);
    let mut item = Item::new(Code::APause, owner, begin.since, last.until, summary);
    item.known_at = second.until;
    item.events = hidden.iter().filter_map(|w| w.event).collect();
    out.push(item);
}

/// Buckets wholly inside the watcher's life at a fifth of the two before, and at four fifths again in the two after.
fn idles(case: &Case, w: &Watched) -> bool {
    let bucket = TimeDelta::minutes(5);
    let between = |since: DateTime<Utc>, until: DateTime<Utc>| -> Vec<f64> { case.cpu.iter().filter(|(at, _)| *at >= since && *at + bucket <= until).map(|c| c.1).collect() };
    let mean = |v: &[f64]| v.iter().sum::<f64>() / (v.len().max(1) as f64);
    let before: Vec<f64> = case.cpu.iter().rev().filter(|(at, _)| *at + bucket <= w.since && *at + bucket * 3 > w.since).map(|c| c.1).collect();
    let after: Vec<f64> = case.cpu.iter().filter(|(at, _)| *at >= w.until && *at < w.until + bucket * 3).take(2).map(|c| c.1).collect();
    // No bucket is stored for a group that idles: a whole bucket without one is idle too.
    let whole = (w.until - w.since) >= bucket * 2;
    let (inside, before, after) = (between(w.since, w.until), mean(&before), mean(&after));
    whole && before >= 20.0 && inside.iter().all(|share| *share <= 0.2 * before) && after >= 0.8 * before
}

/// Ends other programs, services or tasks in a row, or any security product.
fn kills(case: &Case, out: &mut Vec<Item>) {
    let kin = case.instances.iter().filter(|i| case.distance(i.id).is_some());
    // A shell and the program it runs say the same thing: the program counts.
    let acts = |i: &Instance| {
        let line = i.command_line.as_deref().unwrap_or_default();
        let shell = matches!(i.name().as_str(), "cmd.exe") && case.instances.iter().any(|c| c.parent == Some(i.id));
        if shell { 0 } else { ENDS.find_iter(line).count() }
    };
    let mut all: Vec<(DateTime<Utc>, &Instance)> = kin.flat_map(|i| std::iter::repeat_n((i.started_at, i), acts(i))).collect();
    all.sort_by_key(|(at, i)| (*at, i.id));
    let row = all.windows(ROW.0).find(|w| w.first().zip(w.last()).is_some_and(|(a, b)| b.0 - a.0 <= ROW.1));
    let product = all.iter().find(|(_, i)| SECURITY_PRODUCT.is_match(i.command_line.as_deref().unwrap_or_default()));
    let (proof, known, why) = match (product, row) {
        (Some(one), _) => (vec![one.1], one.0, "ended a security product"),
        (None, Some(row)) => (row.iter().map(|r| r.1).collect(), row.last().map_or(row[0].0, |r| r.0), "ended three programs, services or tasks in ten minutes"),
        _ => return,
    };
    let Some(by) = proof.first() else { return };
    let mut item = Item::for_life(Code::AKill, by, format!("{why}: {}", by.command_line.as_deref().unwrap_or_default()));
    item.last_seen = case.own().map(Instance::life_end).max().unwrap_or(item.last_seen).max(item.last_seen);
    item.known_at = known;
    item.events = proof.iter().filter_map(|p| p.event).collect();
    out.push(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusion_covers_what_lies_below_it() {
        let path = r"c:\programdata\upd\upd.exe";
        for text in [
            r"hklm\software\microsoft\windows defender\exclusions\paths\c:\programdata",
            r"hklm\software\microsoft\windows defender\exclusions\processes\upd.exe",
            r"hklm\software\microsoft\windows defender\exclusions\extensions\exe",
            r"powershell add-mppreference -exclusionpath 'c:\programdata\upd','c:\x' -force",
            r"powershell add-mppreference -exclusionpath c:\programdata -force",
            r#"reg add "hklm\software\microsoft\windows defender\exclusions\paths" /v c:\programdata\upd /t reg_dword /d 0"#,
        ] {
            assert!(excluded(text).any(|what| covers(what, path)), "{text}: {:?}", excluded(text).collect::<Vec<_>>());
        }
        for text in [
            r"hklm\software\microsoft\windows defender\exclusions\paths\c:\program",
            r"powershell add-mppreference -exclusionpath 'c:\build','c:\x'",
            r"powershell add-mppreference -exclusionextension dll",
        ] {
            assert!(!excluded(text).any(|what| covers(what, path)), "{text}: {:?}", excluded(text).collect::<Vec<_>>());
        }
    }

    #[test]
    fn ending_programs_is_read_off_command_lines() {
        for line in ["taskkill /F /IM a.exe", "sc stop Sysmon64", "schtasks.exe /end /tn x", "powershell Stop-Process -Name a", "net stop WinDefend"] {
            assert!(ENDS.is_match(line), "{line}");
        }
        for line in ["tasklist /fi x", "sc query x", "schtasks /create /tn x", "net start x", "disc stop x"] {
            assert!(!ENDS.is_match(line), "{line}");
        }
    }
}
