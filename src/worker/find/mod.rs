//! Finders of evidence that starts a judgement: load, rule hits, listed destinations. Each finds for spans; [`record`] makes
//! the table equal to what was found there.
//!
//! What only matters beside such evidence (lineage, connections, masquerade, benign context) is judged per cluster in
//! `analytics::context`. A new SQL code: one query here and one line in [`all`].

pub(super) mod load;
mod named;
mod script;

use super::{derive::flow::Flow, spans::Spans, tuning::Tuning};
use crate::{
    model::{
        code::{Code, Force},
        ids::{EventId, EventRef, HostId},
        networks::is_at_or_below,
        tunables::Tunables,
    },
    rules::Ruleset,
    store::evidence::Found,
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use std::{collections::HashMap, net::IpAddr};

/// Everything found in the spans, and the codes that were looked for.
pub(super) async fn all(
    db: &mut PgConnection,
    spans: &Spans,
    flows: &[Flow],
    lists: &Indicators,
    rules: &Ruleset,
    tuning: &Tuning,
) -> anyhow::Result<Vec<Found>> {
    let hashes: Vec<Vec<u8>> = rules.current().map(|hash| hash.to_vec()).collect();
    let mut found = resource(db, spans, tuning).await?;
    found.extend(load::runs(db, spans, tuning).await?);
    found.extend(load::duty(db, spans).await?);
    found.extend(hits(db, spans, &hashes, tuning).await?);
    found.extend(named::find(db, spans, tuning).await?);
    found.extend(script::joined(db, spans, rules).await?);
    found.extend(listed(flows, lists));
    found.extend(looked_up(db, spans, lists).await?);
    Ok(found)
}

/// Codes that a change of settings alone can add or take away.
pub(super) const SET: &[Code] =
    &[Code::RSustained, Code::RPersistent, Code::RThrottled, Code::RPlateau, Code::CMinerName, Code::MOfnMiner, Code::MSysPath];

/// What would be found of [`SET`] with these settings.
pub(super) async fn set(db: &mut PgConnection, spans: &Spans, hashes: &[Vec<u8>], tuning: &Tuning) -> anyhow::Result<Vec<Found>> {
    let mut found = resource(db, spans, tuning).await?;
    found.extend(hits(db, spans, hashes, tuning).await?);
    found.extend(named::find(db, spans, tuning).await?);
    found.retain(|f| SET.contains(&f.code));
    Ok(found)
}

async fn resource(db: &mut PgConnection, spans: &Spans, tuning: &Tuning) -> sqlx::Result<Vec<Found>> {
    let mut found = Vec::new();
    for (tunables, spans) in tuning.groups(spans) {
        found.extend(runs(db, &spans, &tunables).await?);
    }
    Ok(found)
}

async fn runs(db: &mut PgConnection, spans: &Spans, tunables: &Tunables) -> sqlx::Result<Vec<Found>> {
    let (threshold, minutes) = (tunables.cpu_threshold, tunables.time_window_minutes);
    let a = spans.arrays();
    let rows = sqlx::query_file!(
        "src/worker/find/resource.sql",
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last,
        threshold,
        tunables.cpu_exit(),
        minutes
    )
    .fetch_all(db)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    for r in rows {
        let Ok(code) = r.code.parse::<Code>() else { continue };
        let cores = match (r.cores, r.logical_cpus) {
            (Some(cores), Some(of)) => format!(", {cores:.1} of {of} processors"),
            _ => String::new(),
        };
        let summary = match r.variation {
            Some(variation) => format!("even load for {:.0} min: {:.0} % of CPU{cores}, variation {variation:.2} (limit 0.15)", r.minutes, r.share),
            None => format!("{:.0} % of CPU for {:.0} min{cores} (threshold {threshold:.0} %, {minutes} min)", r.share, r.minutes),
        };
        found.push(Found {
            host: HostId(r.host_id),
            group: r.group_key,
            code,
            subject: String::new(),
            first_seen: r.since,
            last_seen: r.until,
            known_at: r.known_at,
            points: code.entry().points,
            force: code.entry().force,
            process: r.process_id,
            summary,
            rule: None,
            events: Vec::new(),
        });
    }
    Ok(found)
}

/// Hits of current rules, owned by the process they belong to.
async fn hits(db: &mut PgConnection, spans: &Spans, hashes: &[Vec<u8>], tuning: &Tuning) -> sqlx::Result<Vec<Found>> {
    let a = spans.arrays();
    let rows = sqlx::query!(
        r#"-- worker::find::hits: what did current rules say, and which process does it belong to?
        select h.host_id, h.occurred_at, h.event_id as "event_id: EventId", h.rule_id, h.code, h.points, h.force, h.excerpt, h.fact,
          p.process_id as "process_id?", p.group_key as "group_key?", p.started_at as "started_at?", p.last_sign as "last_sign?",
          p.image as "image?"
        from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        join rule_hit h on h.host_id = s.host_id and h.occurred_at >= s.since and h.occurred_at < s.until
        left join lateral (
          select q.process_id, q.group_key, q.started_at, q.image, greatest(q.last_sign, coalesce(q.ended_at, q.last_sign)) as last_sign from process q
          where q.host_id = h.host_id and (q.guid = h.guid or h.guid is null and q.pid = h.pid
            and q.started_at <= h.occurred_at + interval '2 seconds' and (q.ended_at is null or q.ended_at > h.occurred_at - interval '2 seconds'))
          order by q.started_at desc, q.process_id limit 1
        ) p on h.guid is not null or h.pid is not null
        where h.occurred_at between $4 and $5 and h.rule_hash = any($6) and h.fact <> 'persistence' and h.code <> all($7)
        order by h.host_id, h.occurred_at, h.event_id, h.rule_id"#,
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last,
        hashes,
        &super::traces::linked().map(Code::name).collect::<Vec<_>>() as &[&str]
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|r| {
            let code: Code = r.code.parse().ok()?;
            if !named::stands(tuning.of(HostId(r.host_id)), &r.rule_id, code, r.image.as_deref()) {
                return None;
            }
            let event = EventRef { host: HostId(r.host_id), at: r.occurred_at, id: r.event_id };
            Some(Found {
                host: HostId(r.host_id),
                group: r.group_key?,
                code,
                // One per process and rule: the interval is the life of the owning instance.
                subject: format!("{} {:016x}", r.rule_id, r.process_id?),
                first_seen: r.started_at?.min(r.occurred_at),
                last_seen: r.last_sign?.max(r.occurred_at),
                known_at: r.occurred_at,
                points: f64::from(r.points),
                force: r.force.parse::<Force>().ok()?,
                process: r.process_id,
                summary: format!("{}: {}", code.entry().says, r.excerpt),
                rule: Some(r.rule_id),
                events: vec![event],
            })
        })
        .collect())
}

/// The destinations that people and the shipped list name.
#[derive(Debug, Default)]
pub(super) struct Indicators {
    by_address: HashMap<IpAddr, Vec<Listed>>,
    networks: Vec<(ipnet::IpNet, Listed)>,
    domains: HashMap<String, Vec<Listed>>,
}

/// One indicator.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) value: String,
    pub(super) category: String,
    pub(super) port: Option<i32>,
    confidence_low: bool,
    last_seen: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    source: String,
}

impl Listed {
    /// Fresh: confidence at least medium, at most 180 days after it was last seen, not expired; all by event time.
    fn is_fresh(&self, at: DateTime<Utc>) -> bool {
        !self.confidence_low
            && self.last_seen.is_none_or(|seen| at <= seen + TimeDelta::days(180))
            && self.expires_at.is_none_or(|end| at < end)
    }
}

impl Indicators {
    /// Reads the list.
    pub(super) async fn read(db: &mut PgConnection) -> sqlx::Result<Self> {
        let rows = sqlx::query!(
            "-- worker::find::Indicators::read
            select kind, category, value, port, confidence, source, last_seen, expires_at from indicator order by indicator_id"
        )
        .fetch_all(db)
        .await?;
        let mut out = Self::default();
        for r in rows {
            let listed = Listed {
                value: r.value.clone(),
                category: r.category,
                port: r.port,
                confidence_low: r.confidence == "low",
                last_seen: r.last_seen,
                expires_at: r.expires_at,
                source: r.source,
            };
            match (r.kind.as_str(), r.value.parse::<IpAddr>(), r.value.parse::<ipnet::IpNet>()) {
                ("ip", Ok(ip), _) => out.by_address.entry(ip.to_canonical()).or_default().push(listed),
                ("cidr", _, Ok(net)) => out.networks.push((net, listed)),
                ("domain", ..) => out.domains.entry(r.value).or_default().push(listed),
                _ => tracing::warn!(indicator.value = r.value, "an indicator could not be read and is not used"),
            }
        }
        Ok(out)
    }

    fn of_name(&self, name: &str) -> impl Iterator<Item = &Listed> {
        let mut rest = Some(name);
        std::iter::from_fn(move || {
            let here = rest?;
            rest = here.split_once('.').map(|(_, parent)| parent);
            Some(here)
        })
        .filter_map(|label| self.domains.get(label))
        .flatten()
    }

    /// Indicators that mean this far end.
    pub(super) fn of(&self, name: Option<&str>, ip: Option<IpAddr>, port: Option<i32>) -> Vec<&Listed> {
        let ip = ip.map(|ip| ip.to_canonical());
        let by_name = name.into_iter().flat_map(|n| self.of_name(n));
        let by_address = ip.and_then(|ip| self.by_address.get(&ip)).into_iter().flatten();
        let by_network = self.networks.iter().filter(|(net, _)| ip.is_some_and(|ip| net.contains(&ip))).map(|(_, l)| l);
        by_name.chain(by_address).chain(by_network).filter(|l| l.port.is_none() || l.port == port).collect()
    }

    /// Category of the indicator that means this far end, a fresh one first, and whether it is fresh at that time.
    pub(super) fn category(&self, name: Option<&str>, ip: Option<IpAddr>, port: Option<i32>, at: DateTime<Utc>) -> Option<(String, bool)> {
        let all = self.of(name, ip, port);
        let best = all.iter().find(|l| l.is_fresh(at)).or(all.first())?;
        Some((best.category.clone(), best.is_fresh(at)))
    }

    /// Whether answers with this address are no contact.
    fn is_sinkhole(&self, ip: IpAddr) -> bool {
        ip.is_unspecified() || ip.is_loopback() || self.of(None, Some(ip), None).iter().any(|l| l.category == "sinkhole")
    }
}

fn listed(flows: &[Flow], lists: &Indicators) -> Vec<Found> {
    let mut found = Vec::new();
    for flow in flows {
        let event = EventRef { host: HostId(flow.host), at: flow.event.0, id: flow.event.1 };
        let mut push = |code: Code, subject: &str, summary: String| {
            found.push(Found {
                host: HostId(flow.host),
                group: flow.group_key.unwrap_or(0),
                code,
                subject: subject.to_owned(),
                first_seen: flow.started_at,
                last_seen: flow.ended_at.unwrap_or(flow.started_at).max(flow.started_at),
                known_at: flow.started_at,
                points: code.entry().points,
                force: code.entry().force,
                process: flow.process_id,
                summary,
                rule: None,
                events: vec![event],
            });
        };
        let at = format!("{}:{}", flow.destination, flow.remote_port.unwrap_or(0));
        let pools: Vec<_> =
            lists.of(flow.remote_host.as_deref(), flow.remote_ip, flow.remote_port).into_iter().filter(|l| l.category == "pool").collect();
        if let Some(fresh) = pools.iter().find(|l| l.is_fresh(flow.started_at)) {
            push(Code::NIoc, &at, format!("{at} is on DestinationIPList: {} {} ({})", fresh.category, fresh.value, fresh.source));
        } else if let Some(stale) = pools.first() {
            push(Code::NIocStale, &at, format!("{at} was on DestinationIPList: {} {} ({}), old or of low confidence", stale.category, stale.value, stale.source));
        }
        let application = flow.application.as_deref().unwrap_or_default().to_lowercase();
        if application.contains("stratum") || application.contains("coin mining") || application.contains("cryptomining") {
            push(Code::NStratum, &at, format!("a sensor recognised `{application}` to {at}"));
        }
    }
    found
}

/// Listed names that were looked up without a connection within ten minutes.
async fn looked_up(db: &mut PgConnection, spans: &Spans, lists: &Indicators) -> sqlx::Result<Vec<Found>> {
    if lists.domains.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = lists.domains.keys().cloned().collect();
    let a = spans.arrays();
    let rows = sqlx::query!(
        r#"-- worker::find::looked_up: which listed names were looked up, and did a connection follow?
        with parent as (select n, '%.' || replace(replace(n, '_', '\_'), '%', '\%') as below from unnest($6::text[]) as n)
        select f.host_id, f.occurred_at, f.event_id as "event_id: EventId", f.query as "query!", f.addresses as "addresses: Vec<IpNetwork>",
          p.process_id as "process_id?", p.group_key as "group_key?"
        from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        join dns_query f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
        left join process p on p.host_id = f.host_id and p.guid = f.guid
        where f.occurred_at between $4 and $5 and exists (select from parent where f.query = parent.n or f.query like parent.below)
          and not exists (
            select from flow c where c.host_id = f.host_id and c.started_at between f.occurred_at - interval '5 seconds' and f.occurred_at + interval '10 minutes'
              and (c.remote_host = f.query or c.remote_ip = any(f.addresses)))"#,
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last,
        &names
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .filter(|r| r.addresses.as_deref().unwrap_or_default().iter().all(|a| !lists.is_sinkhole(a.ip())))
        .filter(|r| lists.of_name(&r.query).any(|l| l.category == "pool" && is_at_or_below(&r.query, &l.value)))
        .map(|r| Found {
            host: HostId(r.host_id),
            group: r.group_key.unwrap_or(0),
            code: Code::NDnsOnly,
            subject: r.query.clone(),
            first_seen: r.occurred_at,
            last_seen: r.occurred_at,
            known_at: r.occurred_at + TimeDelta::minutes(10),
            points: Code::NDnsOnly.entry().points,
            force: Code::NDnsOnly.entry().force,
            process: r.process_id,
            summary: format!("looked up {}, which is on DestinationIPList, and did not connect", r.query),
            rule: None,
            events: vec![EventRef { host: HostId(r.host_id), at: r.occurred_at, id: r.event_id }],
        })
        .collect())
}

use sqlx::types::ipnetwork::IpNetwork;
