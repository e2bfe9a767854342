//! Classes N and P: where the cluster's processes talk to, how long and how regularly. Source: detection design, sections 5 and 13.3.
//!
//! Only outbound connections to external destinations; connections to one destination with gaps up to 5 minutes are one.

use super::super::{
    case::{Case, Flow, Instance, Item},
    observability::is_browser,
};
use crate::model::{code::Code, networks::is_doh_resolver};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;

/// Ports that pools use (`MinePorts`). Source: detection design, N.MINEPORT.
pub(super) const MINE_PORTS: &[i32] = &[
    3333, 3334, 3335, 3336, 3353, 4444, 5555, 7777, 10060, 10128, 10300, 10343, 13333, 14000, 14433, 14444, 15555, 16060, 19335, 20128,
    20580, 33333, 45700, 58080,
];
/// Ports of coin nodes: inside the network they feed a miner as a pool does (`N.INTPROXY`).
pub(super) const NODE_PORTS: &[i32] = &[18081, 18082, 18089, 8332, 8545];
/// Ports of proxies and onion routers (`N.PROXYNET`).
const PROXY_PORTS: &[i32] = &[1080, 4145, 9050, 9150];
/// Programs made to tunnel (`TunnelClients`).
const TUNNEL_CLIENTS: &[&str] =
    &["ngrok.exe", "cloudflared.exe", "frpc.exe", "chisel.exe", "plink.exe", "ssh.exe", "gost.exe", "rathole.exe", "devtunnel.exe"];
/// How long before another connection a resolver over HTTPS tells.
const RESOLVED: TimeDelta = TimeDelta::minutes(10);
/// Connections this close are one.
const GAP: TimeDelta = TimeDelta::minutes(5);

/// A destination of one process group.
#[derive(Debug)]
struct Talk<'a> {
    owner: &'a Instance,
    destination: &'a str,
    port: Option<i32>,
    flows: Vec<&'a Flow>,
}

/// Connections without a long gap, as one.
#[derive(Debug, Clone)]
struct Held<'a> {
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    flows: Vec<&'a Flow>,
}

pub(super) fn find(case: &Case, out: &mut Vec<Item>) {
    local(case, out);
    for talk in talks(case) {
        let first = out.len();
        let held = held(&talk.flows);
        persistent(&talk, &held, out);
        beacon(&talk, out);
        inferred(case, &talk, out);
        listed(&talk, &held, out);
        let long: Vec<Item> = out.get(first..).unwrap_or_default().to_vec();
        let (rare, prevalent) = (case.fleet.is_rare(talk.destination), case.fleet.is_prevalent(talk.destination));
        let hosts = case.fleet.destinations.get(talk.destination).map_or(1, |p| p.hosts.max(1));
        let shared = format!("{} ({hosts} of {} hosts in 30 days)", talk.name(), case.fleet.active.max(1));
        for run in &held {
            let item = |code, summary| talk.item(code, run.since, run.until, summary, &run.flows);
            if run.flows.iter().any(|f| f.inside) {
                out.push(item(Code::NIntProxy, format!("{} is inside, on a pool's or wallet's port, and no infrastructure", talk.name())));
                continue;
            }
            if talk.port.is_some_and(|p| MINE_PORTS.contains(&p)) && !prevalent {
                out.push(item(Code::NMinePort, format!("port {} is one that pools use", talk.port.unwrap_or_default())));
            }
            if rare {
                out.push(item(Code::NRare, format!("few hosts talk to {shared}")));
            }
            relayed(&talk, run, rare, &item, out);
            if case.coverage.dns > 0 && !prevalent && run.flows.iter().all(|f| f.remote_host.is_none() && f.remote_ip.is_some()) {
                out.push(item(Code::NDirectIp, format!("no look-up led to {}", talk.name())));
            }
        }
        for p in &long {
            let shape = matches!(p.code, Code::PLong30 | Code::PLong4h | Code::PBeacon | Code::PInferred);
            let mut beside = |code: Code, summary: String| {
                out.push(Item { code, points: code.entry().points, force: code.entry().force, summary, ..p.clone() });
            };
            if shape && (!prevalent || talk.flows.iter().any(|f| f.inside)) {
                let why = match case.fleet.active {
                    active if 2 * hosts < active => "which the fleet does not share",
                    active if active < 20 => "in a fleet too small to know what is usual",
                    _ => "which the fleet has not known for a week",
                };
                beside(Code::NPersist, format!("held {shared}, {why}"));
            }
            if rare && !talk.flows.iter().any(|f| f.inside) {
                beside(Code::PRare, format!("the held destination is rare: {shared}"));
            }
        }
    }
}

/// Onion routing, proxies and tunnels. Source: detection design, N.TOR, N.PROXYNET, N.TUNNEL.
fn relayed(talk: &Talk<'_>, run: &Held<'_>, rare: bool, item: &impl Fn(Code, String) -> Item, out: &mut Vec<Item>) {
    let listed = |category: &str| run.flows.iter().any(|f| f.listed.as_ref().is_some_and(|(c, fresh)| c == category && *fresh));
    let name = talk.owner.name();
    let is_tor = name == "tor.exe" || talk.owner.original_file_name.as_deref().is_some_and(|o| o.eq_ignore_ascii_case("tor.exe"));
    if listed("tor") {
        out.push(item(Code::NTor, format!("{} is a listed onion relay", talk.name())));
    } else if is_tor {
        out.push(item(Code::NTor, format!("{name} connects to {}", talk.name())));
    }
    if listed("proxy") {
        out.push(item(Code::NProxyNet, format!("{} is a listed proxy", talk.name())));
    } else if rare && talk.port.is_some_and(|p| PROXY_PORTS.contains(&p)) {
        out.push(item(Code::NProxyNet, format!("{} is rare, on a proxy's port", talk.name())));
    }
    let connect = run.flows.iter().any(|f| f.application.as_deref() == Some("connect"));
    let length = (run.until - run.since).num_seconds();
    let bytes: i64 = run.flows.iter().map(|f| f.bytes_in.unwrap_or(0) + f.bytes_out.unwrap_or(0)).sum();
    let slow = length >= 1_800 && (bytes as f64) / 1_000.0 / (length as f64) <= 3.0;
    if TUNNEL_CLIENTS.contains(&name.as_str()) {
        out.push(item(Code::NTunnel, format!("{name} connects to {}", talk.name())));
    } else if connect && rare && !is_browser(&name) && (talk.port != Some(443) || slow) {
        out.push(item(Code::NTunnel, format!("tunnel through the proxy to {} for {} min", talk.name(), length / 60)));
    }
}

/// A local onion router while the program runs, or names resolved over HTTPS just before another connection.
fn local(case: &Case, out: &mut Vec<Item>) {
    for flow in case.flows.iter().filter(|f| f.outbound) {
        let Some(owner) = flow.process.and_then(|p| case.instance(p)).filter(|p| case.distance(p.id).is_some()) else { continue };
        let until = flow.ended_at.unwrap_or_else(|| owner.life_end().min(flow.started_at + TimeDelta::hours(24)));
        let mut push = |code: Code, summary: String| {
            let mut item = Item::new(code, owner, flow.started_at, until, summary);
            item.subject.clone_from(&flow.destination);
            item.events = vec![flow.event];
            out.push(item);
        };
        if flow.remote_ip.is_some_and(|ip| ip.to_canonical().is_loopback()) && matches!(flow.remote_port, Some(9050 | 9150)) {
            push(Code::NTor, format!("connects to a local onion router on port {}", flow.remote_port.unwrap_or_default()));
        }
        let doh = flow.listed.as_ref().is_some_and(|(c, _)| c == "doh") || flow.remote_port == Some(443) && is_doh_resolver(&flow.destination);
        let next = || {
            case.flows.iter().find(|f| {
                f.process == flow.process && f.external && f.outbound && f.destination != flow.destination
                    && f.started_at >= flow.started_at && f.started_at <= flow.started_at + RESOLVED
            })
        };
        if doh && !is_browser(&owner.name()) && let Some(next) = next() {
            push(Code::NDoh, format!("asked {} over HTTPS, then connected to {}", flow.destination, next.destination));
        }
    }
}

/// External outbound destinations of the cluster's processes and their kin, by group, name and port.
fn talks(case: &Case) -> Vec<Talk<'_>> {
    let mut by_key: BTreeMap<(i64, &str, Option<i32>), Talk<'_>> = BTreeMap::new();
    for flow in case.flows.iter().filter(|f| f.external && f.outbound && !f.destination.is_empty()) {
        let Some(owner) = flow.process.and_then(|p| case.instance(p)).filter(|p| case.distance(p.id).is_some()) else { continue };
        by_key
            .entry((owner.group, flow.destination.as_str(), flow.remote_port))
            .or_insert_with(|| Talk { owner, destination: &flow.destination, port: flow.remote_port, flows: Vec::new() })
            .flows
            .push(flow);
    }
    let mut talks: Vec<_> = by_key.into_values().collect();
    for talk in &mut talks {
        talk.flows.sort_by_key(|f| (f.started_at, f.event));
    }
    talks
}

fn held<'a>(flows: &[&'a Flow]) -> Vec<Held<'a>> {
    let mut out: Vec<Held<'a>> = Vec::new();
    for flow in flows {
        let until = flow.ended_at.unwrap_or(flow.started_at).max(flow.started_at);
        match out.last_mut() {
            Some(last) if flow.started_at <= last.until + GAP => {
                last.until = last.until.max(until);
                last.flows.push(flow);
            }
            _ => out.push(Held { since: flow.started_at, until, flows: vec![flow] }),
        }
    }
    out
}

impl Talk<'_> {
    fn name(&self) -> String {
        self.port.map_or_else(|| self.destination.to_owned(), |port| format!("{}:{port}", self.destination))
    }

    fn item(&self, code: Code, since: DateTime<Utc>, until: DateTime<Utc>, summary: String, flows: &[&Flow]) -> Item {
        let mut item = Item::new(code, self.owner, since, until, summary);
        item.subject = self.name();
        item.process = flows.first().and_then(|f| f.process).or(item.process);
        item.events = proof(flows);
        item
    }
}

/// The first and last connections: enough to prove a stretch.
fn proof(flows: &[&Flow]) -> Vec<crate::model::ids::EventRef> {
    let mut events: Vec<_> = flows.iter().take(3).chain(flows.iter().skip(3).last()).map(|f| f.event).collect();
    events.dedup();
    events
}

fn minutes(d: TimeDelta) -> i64 {
    d.num_minutes()
}

fn persistent(talk: &Talk<'_>, held: &[Held<'_>], out: &mut Vec<Item>) {
    for run in held.iter().filter(|r| r.flows.iter().any(|f| f.ended_at.is_some())) {
        let length = run.until - run.since;
        let code = if length >= TimeDelta::hours(4) {
            Code::PLong4h
        } else if length >= TimeDelta::minutes(30) {
            Code::PLong30
        } else {
            continue;
        };
        let mut long = |code: Code, after: TimeDelta| {
            let summary = format!("connected to {} for {} min", talk.name(), minutes(length));
            let mut item = talk.item(code, run.since, run.until, summary, &run.flows);
            item.known_at = run.since + after;
            out.push(item);
        };
        long(Code::PLong30, TimeDelta::minutes(30));
        if code == Code::PLong4h {
            long(Code::PLong4h, TimeDelta::hours(4));
        }
        let bytes = |f: fn(&Flow) -> Option<i64>| run.flows.iter().filter_map(|x| f(x)).reduce(|a, b| a + b);
        if let (Some(up), Some(down)) = (bytes(|f| f.bytes_out), bytes(|f| f.bytes_in)) {
            let seconds = length.num_seconds().max(1) as f64;
            let rates = [up as f64 / 1_000.0 / seconds, down as f64 / 1_000.0 / seconds];
            if rates.iter().all(|r| (0.01..=3.0).contains(r)) {
                let summary = format!("{:.2} kB/s up and {:.2} kB/s down over {} min to {}", rates[0], rates[1], minutes(length), talk.name());
                let mut item = talk.item(Code::PLowRate, run.since, run.until, summary, &run.flows);
                item.known_at = run.since + TimeDelta::minutes(30);
                out.push(item);
            }
        }
    }
}

/// Quartiles of sorted values, continuous.
fn quartiles(sorted: &[f64]) -> [f64; 3] {
    [0.25, 0.5, 0.75].map(|q| {
        let at = q * (sorted.len().saturating_sub(1)) as f64;
        let (low, high) = (at.floor() as usize, at.ceil() as usize);
        let value = |n: usize| sorted.get(n).copied().unwrap_or_default();
        value(low) + (value(high) - value(low)) * (at - at.floor())
    })
}

/// Regularity in 0..=1 of gaps or sizes. Source: `activecm/rita`, `analysis/beacons.go`, as in the detection design, 13.3.
fn regularity(values: &[f64], smallest_spread: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let [q1, q2, q3] = quartiles(&sorted);
    let skew = if q3 - q1 < smallest_spread || q2 <= q1 || q2 >= q3 { 0.0 } else { (q1 + q3 - 2.0 * q2) / (q3 - q1) };
    let mut deviations: Vec<f64> = sorted.iter().map(|v| (v - q2).abs()).collect();
    deviations.sort_by(f64::total_cmp);
    let [_, mad, _] = quartiles(&deviations);
    let spread = if q2 < 1.0 { 0.0 } else { ((q2 - mad) / q2).max(0.0) };
    0.5 * (1.0 - skew.abs()) + 0.5 * spread
}

fn beacon(talk: &Talk<'_>, out: &mut Vec<Item>) {
    let day = TimeDelta::hours(24);
    let mut best: Option<(usize, usize, f64)> = None;
    let mut since = 0;
    for (n, flow) in talk.flows.iter().enumerate() {
        while talk.flows.get(since).is_some_and(|f| flow.started_at - f.started_at > day) {
            since += 1;
        }
        let Some(window) = talk.flows.get(since..=n).filter(|w| w.len() >= 6) else { continue };
        let gaps: Vec<f64> = window
            .windows(2)
            .filter_map(|p| match p {
                [a, b] => Some((b.started_at - a.started_at).num_milliseconds() as f64 / 1_000.0),
                _ => None,
            })
            .filter(|g| *g > 0.0)
            .collect();
        let span = window.last().map_or(0, |l| (l.started_at - window[0].started_at).num_minutes());
        let mut sorted = gaps.clone();
        sorted.sort_by(f64::total_cmp);
        if gaps.len() < 5 || span < 120 || quartiles(&sorted)[1] < 10.0 {
            continue;
        }
        let sizes: Option<Vec<f64>> = window.iter().map(|f| Some((f.bytes_out? + f.bytes_in?) as f64)).collect();
        let timing = regularity(&gaps, 10.0);
        let fires = match &sizes {
            Some(sizes) => 0.5 * timing + 0.5 * regularity(sizes, 10.0) >= 0.8,
            None => timing >= 0.9,
        };
        if fires {
            best = match best {
                Some((first, _, t)) => Some((first, n, t.max(timing))),
                None => Some((since, n, timing)),
            };
        }
    }
    if let Some((first, last, timing)) = best
        && let Some(flows) = talk.flows.get(first..=last)
        && let (Some(a), Some(b)) = (flows.first(), flows.last())
    {
        let summary = format!("{} connections to {} at regular gaps (regularity {timing:.2}, limit 0.8)", flows.len(), talk.name());
        let mut item = talk.item(Code::PBeacon, a.started_at, b.ended_at.unwrap_or(b.started_at), summary, flows);
        // Known once six connections over two hours were there.
        item.known_at = flows.get(5).map_or(b.started_at, |f| f.started_at).max(a.started_at + TimeDelta::hours(2)).min(b.started_at);
        out.push(item);
    }
}

/// One record without a duration, and the process stayed busy for 30 minutes without another external destination.
fn inferred(case: &Case, talk: &Talk<'_>, out: &mut Vec<Item>) {
    let [only] = talk.flows.as_slice() else { return };
    if only.ended_at.is_some() || talk.owner.group != case.primary {
        return;
    }
    let until = only.started_at + TimeDelta::minutes(30);
    let alive = only.process.and_then(|p| case.instance(p)).is_some_and(|p| p.life_end() >= until);
    let alone = !case.flows.iter().any(|f| {
        f.group == Some(case.primary) && f.external && f.destination != only.destination && f.started_at >= only.started_at && f.started_at < until
    });
    let inside: Vec<f64> = case.cpu.iter().filter(|(at, _)| *at >= only.started_at - TimeDelta::minutes(4) && *at < until - TimeDelta::minutes(4)).map(|c| c.1).collect();
    if alive && alone && inside.len() >= 5 && inside.iter().all(|share| *share >= 20.0) {
        let busy_until = case.cpu.iter().filter(|(_, share)| *share >= 20.0).map(|(at, _)| *at + TimeDelta::minutes(5)).max().unwrap_or(until);
        let summary = format!("one connection to {}, and the process stayed busy for {} min", talk.name(), minutes(busy_until - only.started_at));
        let mut item = talk.item(Code::PInferred, only.started_at, busy_until.max(until), summary, &talk.flows);
        item.known_at = until;
        out.push(item);
    }
}

/// A listed destination that is held for 5 minutes or contacted again 5 minutes apart.
fn listed(talk: &Talk<'_>, held: &[Held<'_>], out: &mut Vec<Item>) {
    let fresh: Vec<&Flow> = talk.flows.iter().copied().filter(|f| f.listed.as_ref().is_some_and(|(c, fresh)| c == "pool" && *fresh)).collect();
    let (Some(first), Some(last)) = (fresh.first(), fresh.last()) else { return };
    let five = TimeDelta::minutes(5);
    let long = held.iter().any(|h| h.until - h.since >= five && h.flows.iter().any(|f| fresh.iter().any(|x| x.event == f.event)));
    if long || last.started_at - first.started_at >= five {
        let until = held.last().map_or(last.started_at, |h| h.until);
        let mut item = talk.item(Code::PIoc, first.started_at, until, format!("stayed with listed destination {}", talk.name()), &fresh);
        item.known_at = first.started_at + five;
        out.push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_gaps_are_regular_and_human_ones_are_not() {
        let even: Vec<f64> = (0..20).map(|n| 1_800.0 + f64::from(n % 3)).collect();
        assert!(regularity(&even, 10.0) > 0.95);
        let human = [4.0, 900.0, 12.0, 3_600.0, 60.0, 7.0, 5_400.0, 30.0];
        assert!(regularity(&human, 10.0) < 0.6);
    }

    #[test]
    fn quartiles_are_continuous() {
        assert_eq!(quartiles(&[1.0, 2.0, 3.0, 4.0]), [1.75, 2.5, 3.25]);
    }
}
