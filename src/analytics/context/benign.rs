//! Class B: what speaks for the process. Lowers scores, never suppresses. Source: detection design, section 5, B.

use super::super::case::{Case, Instance, Item, is_good_parent};
use crate::model::{
    code::{Class, Code},
    exceptions::wildcard,
    group::{base_name, comparable_path},
    names,
    tunables::Child,
};
use std::collections::BTreeSet;

pub(super) fn find(case: &Case, context: &[Item]) -> Vec<Item> {
    let mut out = Vec::new();
    baseline(case, &mut out);
    super::profile::baseline(case, &mut out);
    for process in case.own() {
        administration(case, process, &mut out);
        canonical(case, process, context, &mut out);
        interactive(case, process, context, &mut out);
    }
    shared_destinations(case, context, &mut out);
    out
}

/// An approved baseline covers each run whose mean is at most 10 points above it.
fn baseline(case: &Case, out: &mut Vec<Item>) {
    let Some(process) = case.own().next() else { return };
    let image = process.image.as_deref().unwrap_or_default();
    let Some(approved) = case.baselines.iter().filter(|b| wildcard(&b.image, image)).max_by(|a, b| a.cpu_share.total_cmp(&b.cpu_share)) else {
        return;
    };
    for run in case.found.iter().filter(|i| i.code.class() == Class::R && i.group == case.primary) {
        let shares: Vec<f64> = case.cpu.iter().filter(|(at, _)| *at >= run.first_seen && *at < run.last_seen).map(|c| c.1).collect();
        let mean = shares.iter().sum::<f64>() / (shares.len().max(1) as f64);
        if !shares.is_empty() && mean <= approved.cpu_share + 10.0 {
            let summary = format!("baseline for {} on {} hosts is {:.0} %; this run has {mean:.0} %", approved.image, approved.host_class, approved.cpu_share);
            out.push(Item { events: Vec::new(), ..Item::new(Code::BBaseline, process, run.first_seen, run.last_seen, summary) });
        }
    }
}

/// Direct parent, or one of the two ancestors above, is known automation in its place.
fn administration(case: &Case, process: &Instance, out: &mut Vec<Item>) {
    let mut above = Vec::new();
    let mut at = process;
    for _ in 0..3 {
        let parent = at.parent.and_then(|p| case.instance(p));
        above.extend(at.parent_image.as_deref().map(|image| {
            let child = Child { sha256: at.sha256.as_deref(), signer: at.signer.as_deref() };
            let good = is_good_parent(&comparable_path(image)) || case.tunables.is_good_parent(image, parent.and_then(|p| p.signer.as_deref()), child);
            (comparable_path(image), good)
        }));
        match parent {
            Some(parent) => {
                // Signed badly, it is somebody else under that name.
                if matches!(parent.signature.as_deref(), Some("unsigned" | "invalid")) {
                    above.pop();
                }
                at = parent;
            }
            None => break,
        }
    }
    if let Some((parent, _)) = above.iter().find(|(_, good)| *good) {
        out.push(Item::for_life(Code::BAdmin, process, format!("started by {}, known automation", base_name(parent))));
    }
}

/// Signed, in the Windows folder or Program Files; by Windows' maker or a signer that a tenth of the fleet has.
fn canonical(case: &Case, process: &Instance, context: &[Item], out: &mut Vec<Item>) {
    let path = process.path();
    let programs = path.get(2..).is_some_and(|p| p.starts_with("\\program files\\") || p.starts_with("\\program files (x86)\\"));
    let windows = names::in_system_folder(&path) || path.get(2..).is_some_and(|p| p.starts_with("\\programdata\\microsoft\\windows defender\\platform\\"));
    if !(programs || windows) || names::is_code_host(&path) {
        return;
    }
    let tampered = |code: Code| case.found.iter().chain(context).any(|i| i.code == code && i.group == process.group);
    if [Code::MTamper, Code::MHollow, Code::MSideload].into_iter().any(tampered) {
        return;
    }
    let good = match (process.signature.as_deref(), process.signer.as_deref()) {
        (Some("valid"), Some(signer)) => signer.to_lowercase().starts_with("microsoft") || case.fleet.is_common_signer(signer),
        // Not every agent reports signatures; Windows' own folders are not writable for users.
        (None, _) => windows && process.company.as_deref().is_none_or(|c| c.to_lowercase().contains("microsoft")),
        _ => false,
    };
    if good {
        let signer = process.signer.as_deref().unwrap_or("Windows' own folder");
        out.push(Item::for_life(Code::BSignedCanon, process, format!("in its proper place, {signer}")));
    }
}

/// All external destinations with an N or P item (else all) are ones the fleet shares.
fn shared_destinations(case: &Case, context: &[Item], out: &mut Vec<Item>) {
    let talked: Vec<_> = case
        .flows
        .iter()
        .filter(|f| f.external && f.outbound && f.process.is_some_and(|p| case.distance(p).is_some()))
        .collect();
    let telling: BTreeSet<&str> = case
        .found
        .iter()
        .chain(context)
        .filter(|i| matches!(i.code.class(), Class::N | Class::P))
        .map(|i| i.subject.rsplit_once(':').map_or(i.subject.as_str(), |(name, _)| name))
        .collect();
    let counted: Vec<_> = talked.iter().filter(|f| telling.is_empty() || telling.contains(f.destination.as_str())).collect();
    if counted.is_empty() || telling.iter().any(|t| !case.fleet.is_prevalent(t)) || !counted.iter().all(|f| case.fleet.is_prevalent(&f.destination)) {
        return;
    }
    let (Some(process), Some(first), Some(last)) =
        (case.own().next(), counted.iter().map(|f| f.started_at).min(), counted.iter().map(|f| f.ended_at.unwrap_or(f.started_at)).max())
    else {
        return;
    };
    let names: BTreeSet<&str> = counted.iter().map(|f| f.destination.as_str()).collect();
    let summary = format!("talks only to what the fleet shares: {}", names.into_iter().take(5).collect::<Vec<_>>().join(", "));
    // Prevalence is a fact of the UTC day.
    let day = |at: chrono::DateTime<chrono::Utc>| at.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    let mut item = Item::new(Code::BPrevDest, process, day(first), day(last) + chrono::TimeDelta::days(1), summary);
    item.events = counted.iter().take(3).map(|f| f.event).collect();
    out.push(item);
}

/// An ordinary user at the desktop: explorer above, not by task, service or WMI.
fn interactive(case: &Case, process: &Instance, context: &[Item], out: &mut Vec<Item>) {
    let user = process.user.as_deref().unwrap_or_default().to_lowercase();
    if user.is_empty() || user.ends_with("system") || user.contains("service") || user.ends_with('$') {
        return;
    }
    let launched = context.iter().any(|i| {
        i.process == Some(process.id) && matches!(i.code, Code::LTask | Code::LTaskSusp | Code::LSvc | Code::LSvcSusp | Code::LWmi | Code::LWmiSub | Code::LRunKey)
    });
    let by_desktop = case.chain(process).iter().any(|m| m.parent_image.as_deref().is_some_and(|p| base_name(&comparable_path(p)) == "explorer.exe"));
    if by_desktop && !launched {
        out.push(Item::for_life(Code::BInteractive, process, format!("started by {} at the desktop", process.user.as_deref().unwrap_or_default())));
    }
}
