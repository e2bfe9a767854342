//! What learned baselines say of the load: R.ANOM where it stands out, B.BASELINE where the class usually does as much. Source: detection
//! design, sections 5 and 9.1.

use super::super::case::{Case, Item};
use crate::model::{
    code::{Class, Code},
    profile::Profile,
};

/// Runs of the primary group, each with its mean share and the profile of its hour.
fn runs(case: &Case) -> impl Iterator<Item = (&Item, f64, &Profile)> {
    let of_group = |i: &&Item| i.code.class() == Class::R && i.group == case.primary && i.process.is_some();
    case.found.iter().filter(of_group).filter_map(|run| {
        let shares: Vec<f64> = case.cpu.iter().filter(|(at, _)| *at >= run.first_seen && *at < run.last_seen).map(|c| c.1).collect();
        let mean = shares.iter().sum::<f64>() / (shares.len().max(1) as f64);
        Profile::at(&case.profiles, run.first_seen).filter(|_| !shares.is_empty()).map(|profile| (run, mean, profile))
    })
}

/// Load far above what the class usually has.
pub(super) fn anomaly(case: &Case, out: &mut Vec<Item>) {
    for (run, mean, profile) in runs(case).filter(|(run, mean, p)| matches!(run.code, Code::RSustained | Code::RThrottled) && p.is_anomaly(*mean)) {
        let summary = format!(
            "{mean:.0} % where {} hosts usually have {:.0} % ({:.1} deviations, limit 3.5)",
            profile.hosts,
            profile.median,
            profile.score(mean)
        );
        let entry = Code::RAnom.entry();
        out.push(Item { code: Code::RAnom, points: entry.points, force: entry.force, summary, ..run.clone() });
    }
}

/// Load that a tenth of the class has had for two weeks.
pub(super) fn baseline(case: &Case, out: &mut Vec<Item>) {
    for (run, mean, profile) in runs(case).filter(|(_, mean, p)| p.covers(*mean)) {
        let summary = format!("learned on {} of {} hosts of the class: up to {:.0} %; this run has {mean:.0} %", profile.hosts, profile.class_hosts, profile.p95);
        let entry = Code::BBaseline.entry();
        out.push(Item { code: Code::BBaseline, points: entry.points, force: entry.force, summary, events: Vec::new(), rule: None, ..run.clone() });
    }
}
