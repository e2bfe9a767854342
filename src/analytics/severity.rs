//! How much a verdict matters on this host, with the reasons. Source: detection design, section 7.

use super::case::{Case, Item};
use crate::model::{
    code::{Class, Code},
    detection::{Band, Judged, Severity, Verdict},
};
use std::collections::BTreeSet;

/// Severity and its reasons.
pub fn of(case: &Case, analytics: &[Judged], items: &[Item], verdict: Verdict) -> (Severity, Vec<String>) {
    if !verdict.in_queue() {
        return (Severity::Info, vec![format!("{verdict} is not in the queue")]);
    }
    let mut reasons = Vec::new();
    let tier = case.host.tier.unwrap_or_else(|| {
        reasons.push("asset context missing".to_owned());
        if case.host.server == Some(true) { 2 } else { 3 }
    });
    let band = analytics.iter().filter_map(|a| a.band).max();
    let hard: BTreeSet<Class> = items.iter().filter(|i| i.is_hard() && i.suppressed_by.is_none()).map(|i| i.code.class()).collect();
    let base = match (tier, band) {
        (1, None | Some(Band::Tentative)) => Severity::Medium,
        (1, Some(Band::Probable)) => Severity::High,
        (1, Some(Band::Strong)) => Severity::Critical,
        (2, None) if hard.is_empty() => Severity::Low,
        (2, None | Some(Band::Tentative)) => Severity::Medium,
        (2, Some(Band::Probable | Band::Strong)) => Severity::High,
        (3, None) if hard.len() >= 2 => Severity::Medium,
        (3, None | Some(Band::Tentative)) => Severity::Low,
        (3, Some(Band::Probable)) => Severity::Medium,
        (3, Some(Band::Strong)) => Severity::High,
        (_, Some(Band::Strong)) => Severity::Medium,
        _ => Severity::Low,
    };
    let what = band.map_or_else(|| verdict.to_string(), |b| format!("{b} alert"));
    reasons.push(format!("{what} on a tier {tier} host"));
    let both = analytics.iter().filter(|a| a.verdict == Verdict::Alert).count() == 2;
    let user = case.own().next().and_then(|p| p.user.clone()).unwrap_or_default().to_uppercase();
    let privileged = tier <= 2 && (user.ends_with("SYSTEM") || user.ends_with("SERVICE"));
    let tampered = items.iter().any(|i| matches!(i.code, Code::ADefExcl | Code::ADefOff | Code::AKill) && i.suppressed_by.is_none());
    let up = [
        both.then(|| "both analytics alert".to_owned()),
        tampered.then(|| "protection was tampered with".to_owned()),
        case.standing.recurrence.then(|| "goes on after it was closed as a true positive".to_owned()),
        case.standing.outbreak.as_ref().map(|thing| format!("at least three hosts share it within 24 hours: {thing}")),
        privileged.then(|| "runs as a system account on an important host".to_owned()),
    ];
    let before = reasons.len();
    reasons.extend(up.into_iter().flatten());
    // One step, however many reasons.
    let mut severity = match base {
        _ if reasons.len() == before => base,
        Severity::Info | Severity::Low => Severity::Medium,
        Severity::Medium => Severity::High,
        Severity::High | Severity::Critical => Severity::Critical,
    };
    if verdict < Verdict::Alert && tier > 1 {
        severity = severity.min(Severity::Medium);
    }
    (severity, reasons)
}
