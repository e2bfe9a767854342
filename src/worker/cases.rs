//! From evidence to cases: which groups of a host belong together, and everything their judgement reads.
//!
//! Groups join when a process of one is kin of the other's, not through a barrier. Source: detection design, section 3.5 (i).

use super::{
    find::Indicators,
    images::describe_images,
    loads::Loads,
    standing::Stored,
    traces::Traces,
    tuning::Tuning,
};
use crate::{
    analytics::{
        case::{Artefact, Case, Common, Coverage, Fleet, Flow, HOP_DECAY, Host, Instance, Item, Prevalence, UNATTRIBUTED, Written, is_barrier},
        context::is_internal_pool_port,
        observability::is_vm_worker,
    },
    model::{
        code::{Class, Code, Force},
        exceptions::{Announced, Baseline, Entry},
        group::{base_name, comparable_path},
        ids::{EventId, EventRef, HostId, ProcessGuid},
        tunables::Child,
    },
    store::{allowlist, baselines, fleet, maintenance, profiles},
    time::Span,
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, types::ipnetwork::IpNetwork};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Instances read per group; more say nothing new.
const MOST_INSTANCES: i64 = 400;

/// What people said, read once per pass after its marks.
#[derive(Debug, Default)]
pub(super) struct Configuration {
    pub(super) entries: Vec<Entry>,
    pub(super) windows: Vec<Announced>,
    pub(super) baselines: Vec<Baseline>,
    pub(super) lists: Indicators,
    pub(super) tuning: Tuning,
}

impl Configuration {
    /// All that is in force.
    pub(super) async fn read(db: &mut PgConnection, now: DateTime<Utc>) -> anyhow::Result<Self> {
        Ok(Self {
            entries: allowlist::in_force(db, now).await?,
            windows: maintenance::all(db).await?,
            baselines: baselines::all(db).await?,
            lists: Indicators::read(db).await?,
            tuning: Tuning::read(db).await?,
        })
    }
}

/// Evidence of one group without a gap of a week.
#[derive(Debug)]
struct Episode {
    group: i64,
    items: Vec<Item>,
    span: Span,
}

/// The cases of one host whose evidence shares an instant with what changed.
pub(super) async fn load(
    db: &mut PgConnection,
    host: HostId,
    changed: &[Span],
    conf: &Configuration,
    traces: &Traces,
) -> anyhow::Result<Vec<Case>> {
    let reach = changed.iter().fold(None, |reach: Option<Span>, s| {
        Span::new(reach.map_or(s.since(), |r| r.since().min(s.since())), reach.map_or(s.until(), |r| r.until().max(s.until())))
    });
    let Some(reach) = reach else { return Ok(Vec::new()) };
    let items = evidence(db, host.0, &reach.widened(TimeDelta::days(35), TimeDelta::days(35))).await?;
    of(db, host, items, changed, conf, traces).await
}

/// The cases that this evidence of a host makes.
pub(super) async fn of(
    db: &mut PgConnection,
    host: HostId,
    items: Vec<Item>,
    changed: &[Span],
    conf: &Configuration,
    traces: &Traces,
) -> anyhow::Result<Vec<Case>> {
    let episodes: Vec<Episode> = episodes(items).into_iter().filter(|e| changed.iter().any(|c| c.overlaps(&e.span))).collect();
    if episodes.is_empty() {
        return Ok(Vec::new());
    }
    let host = host_row(db, host).await?;
    let mut instances = instances(db, host.id, &episodes).await?;
    let tunables = conf.tuning.settings.class(host.class.as_deref());
    for i in instances.values_mut() {
        let honest = !matches!(i.signature.as_deref(), Some("unsigned" | "invalid"));
        i.automation = honest && i.image.as_deref().is_some_and(|image| tunables.is_good_parent(image, i.signer.as_deref(), Child::default()));
    }
    let clusters = clusters(&episodes, &instances);
    let items = |c: &Cluster| c.members.iter().flat_map(|m| &episodes[*m].items).collect::<Vec<_>>();
    let loads = Loads::of(clusters.iter().map(items));
    let stored = Stored::read(db, host.id).await?;
    let mut cases = Vec::new();
    for (n, cluster) in clusters.iter().enumerate() {
        let primary = cluster.members.first().map_or(UNATTRIBUTED, |m| episodes[*m].group);
        // Without load of its own the unattributed is nobody's case.
        if primary != UNATTRIBUTED || cluster.members.iter().any(|m| episodes[*m].items.iter().any(|i| i.code.class() == Class::R)) {
            cases.push(case(db, &host, &episodes, (n, cluster), (&loads, &stored), &instances, (conf, traces)).await?);
        }
    }
    Ok(cases)
}

/// Groups with something to judge, split where nothing happened for a week.
fn episodes(mut items: Vec<Item>) -> Vec<Episode> {
    items.sort_by_key(|i| (i.group, i.first_seen));
    let mut out: Vec<Episode> = Vec::new();
    for item in items {
        // A process without an image has no group either, but it is one.
        if item.group == UNATTRIBUTED && item.process.is_some() {
            continue;
        }
        let Some(span) = item.span() else { continue };
        match out.last_mut() {
            Some(e) if e.group == item.group && span.since() <= e.span.until() + crate::analytics::assess::EPISODE_GAP => {
                e.span = Span::new(e.span.since(), e.span.until().max(span.until())).unwrap_or(e.span);
                e.items.push(item);
            }
            _ => out.push(Episode { group: item.group, items: vec![item], span }),
        }
    }
    // Weak command evidence alone starts nothing.
    out.retain(|e| e.items.iter().any(|i| i.points >= 15.0 || i.force >= Force::Discriminator));
    out
}

/// A cluster: episodes by index, the primary one first, and the distance of every kin process from it.
struct Cluster {
    members: Vec<usize>,
    hops: HashMap<i64, u8>,
}

fn clusters(episodes: &[Episode], instances: &HashMap<i64, Instance>) -> Vec<Cluster> {
    let kin: Vec<HashMap<i64, u8>> = episodes.iter().map(|e| distances(e, instances)).collect();
    let mut leader: Vec<usize> = (0..episodes.len()).collect();
    for a in 0..episodes.len() {
        for b in 0..episodes.len() {
            let near = a != b
                && episodes[a].span.overlaps(&episodes[b].span.widened(TimeDelta::hours(1), TimeDelta::hours(1)))
                && kin[a].keys().any(|p| instances.get(p).is_some_and(|i| i.group == episodes[b].group));
            if near {
                let (from, to) = (leader[a].max(leader[b]), leader[a].min(leader[b]));
                leader.iter_mut().filter(|l| **l == from).for_each(|l| *l = to);
            }
        }
    }
    let mut by_leader: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (n, l) in leader.iter().enumerate() {
        by_leader.entry(*l).or_default().push(n);
    }
    by_leader
        .into_values()
        .map(|mut members| {
            let points = |e: &Episode, class: &[Class]| -> f64 {
                e.items.iter().filter(|i| class.contains(&i.code.class())).map(|i| i.points).fold(0.0, f64::max)
            };
            use Class::{N, P, R};
            members.sort_by(|a, b| {
                let (a, b) = (&episodes[*a], &episodes[*b]);
                (points(b, &[R]), points(b, &[N, P]))
                    .partial_cmp(&(points(a, &[R]), points(a, &[N, P])))
                    .unwrap_or(std::cmp::Ordering::Equal)
                    .then((a.span.since(), a.group).cmp(&(b.span.since(), b.group)))
            });
            let hops = members.first().map(|m| kin[*m].clone()).unwrap_or_default();
            Cluster { members, hops }
        })
        .collect()
}

/// Lineage distance from the episode's processes: ancestors up to 4, descendants up to 2, not through barriers.
fn distances(episode: &Episode, instances: &HashMap<i64, Instance>) -> HashMap<i64, u8> {
    if episode.group == UNATTRIBUTED {
        return HashMap::from([(UNATTRIBUTED, 0)]);
    }
    let mut children: HashMap<i64, Vec<i64>> = HashMap::new();
    for i in instances.values() {
        if let Some(parent) = i.parent {
            children.entry(parent).or_default().push(i.id);
        }
    }
    let mut hops: HashMap<i64, u8> = HashMap::new();
    let own = instances.values().filter(|i| {
        i.group == episode.group && i.started_at <= episode.span.until() && i.life_end() >= episode.span.since() - TimeDelta::hours(24)
    });
    for process in own {
        hops.insert(process.id, 0);
        let mut at = process;
        for n in 1..=4u8 {
            let Some(parent) = at.parent.and_then(|p| instances.get(&p)).filter(|p| !is_barrier(p)) else { break };
            hops.entry(parent.id).and_modify(|h| *h = (*h).min(n)).or_insert(n);
            at = parent;
        }
        let mut level = vec![process.id];
        for n in 1..=2u8 {
            level = level
                .iter()
                .flat_map(|p| children.get(p).into_iter().flatten())
                .filter(|c| instances.get(c).is_some_and(|i| !is_barrier(i)))
                .copied()
                .collect();
            for child in &level {
                hops.entry(*child).and_modify(|h| *h = (*h).min(n)).or_insert(n);
            }
        }
    }
    hops
}

async fn case(
    db: &mut PgConnection,
    host: &Host,
    episodes: &[Episode],
    (number, cluster): (usize, &Cluster),
    (loads, stored): (&Loads, &Stored),
    instances: &HashMap<i64, Instance>,
    (conf, traces): (&Configuration, &Traces),
) -> anyhow::Result<Case> {
    let members: Vec<&Episode> = cluster.members.iter().map(|m| &episodes[*m]).collect();
    let since = members.iter().map(|e| e.span.since()).min().unwrap_or_default();
    let until = members.iter().map(|e| e.span.until()).max().unwrap_or_default();
    let primary = members.first().map_or(0, |e| e.group);
    let mut kin: Vec<Instance> = instances.values().filter(|i| cluster.hops.contains_key(&i.id)).cloned().collect();
    // Barriers above the chain are read for what they are, not for what they did.
    let above: BTreeSet<i64> = kin.iter().filter_map(|i| i.parent).filter(|p| !cluster.hops.contains_key(p)).collect();
    kin.extend(above.iter().filter_map(|p| instances.get(p)).cloned());
    describe_images(db, host.id, &mut kin).await?;
    kin.sort_by_key(|i| (i.started_at, i.id));

    let mut found: Vec<Item> = Vec::new();
    for item in members.iter().flat_map(|e| &e.items) {
        let near = match item.process.and_then(|p| cluster.hops.get(&p)) {
            Some(hops) => Some(*hops),
            // Load belongs to the group; class R is never inherited.
            None if item.group == primary => Some(0),
            None => None,
        };
        let inherited = near.is_some_and(|n| n > 0) || item.group != primary;
        if let Some(hops) = near.filter(|_| !(inherited && item.code.class() == Class::R)) {
            let hop = HOP_DECAY.get(usize::from(hops)).copied().unwrap_or(0.0);
            found.push(Item { hop, hops, process: item.process.or((primary == UNATTRIBUTED).then_some(UNATTRIBUTED)), ..item.clone() });
        }
    }
    let mut hops = cluster.hops.clone();
    let reach = loads.reach(number).filter(|_| primary != UNATTRIBUTED);
    if let Some(reach) = reach {
        // A guest's connections are its worker's own; anything else unattributed counts as a parent's would.
        let far = u8::from(!kin.iter().any(|i| i.group == primary && is_vm_worker(&i.name())));
        let hop = HOP_DECAY.get(usize::from(far)).copied().unwrap_or(0.0);
        hops.insert(UNATTRIBUTED, far);
        kin.push(Instance::unattributed(reach.since(), reach.until()));
        let others = episodes.iter().filter(|e| e.group == UNATTRIBUTED).flat_map(|e| &e.items).filter(|i| i.code.class() != Class::R);
        let beside = others.filter(|i| i.span().is_some_and(|s| loads.only(number, &s)));
        found.extend(beside.map(|i| Item { hop, hops: far, process: Some(UNATTRIBUTED), ..i.clone() }));
    } else if primary == UNATTRIBUTED {
        kin.push(Instance::unattributed(since, until));
        found.retain(|i| i.code.class() == Class::R || i.span().is_some_and(|s| !loads.others(number, &s)));
    }
    let window = Span::new(since - TimeDelta::hours(24), until + TimeDelta::hours(1)).unwrap_or(Span::of_bucket(since));
    let mut flows = flows(db, host.id, &window, (&kin, &hops), reach.or((primary == UNATTRIBUTED).then_some(window)), conf).await?;
    flows.retain(|f| {
        let span = || Span::new(f.started_at, f.ended_at.unwrap_or(f.started_at) + TimeDelta::seconds(1));
        f.process != Some(UNATTRIBUTED) || span().is_some_and(|s| loads.only(number, &s))
    });
    let first_start = kin.iter().filter(|i| cluster.hops.contains_key(&i.id)).map(|i| i.started_at).min().unwrap_or(since);
    let cpu = cpu(db, host.id, primary, &window).await?;
    let mut found_with_proof = found;
    prove_load(db, host.id, &mut found_with_proof).await?;
    let beside = traces.of(host.id);
    let groups: Vec<i64> = members.iter().map(|e| e.group).collect::<BTreeSet<_>>().into_iter().collect();
    Ok(Case {
        primary,
        standing: stored.of(&groups, since, until),
        groups,
        fleet: fleet_of(db, &flows, &kin, until).await?,
        artefacts: artefacts(db, host.id, first_start - TimeDelta::days(45), until).await?,
        written: written(db, host.id, &kin, &cluster.hops).await?,
        traces: beside.iter().flat_map(|b| &b.traces).filter(|t| t.at >= first_start - TimeDelta::days(45) && t.at < window.until()).cloned().collect(),
        watched: beside.iter().flat_map(|b| &b.watched).filter(|w| w.since >= since - TimeDelta::days(14) && w.since < window.until()).cloned().collect(),
        dark: beside.iter().flat_map(|b| &b.dark).copied().collect(),
        memory: beside.iter().flat_map(|b| &b.memory).copied().collect(),
        coverage: coverage(db, host.id, &window).await?,
        entries: conf.entries.iter().filter(|e| e.body.scope.holds(&host.name, host.class.as_deref(), &host.tags)).cloned().collect(),
        windows: conf
            .windows
            .iter()
            .filter(|w| w.body.scope.holds(&host.name, host.class.as_deref(), &host.tags))
            .flat_map(|w| w.during(window))
            .collect(),
        baselines: conf
            .baselines
            .iter()
            .filter(|b| host.class.as_deref().is_some_and(|c| c.eq_ignore_ascii_case(&b.host_class)))
            .cloned()
            .collect(),
        hops,
        profiles: profiles::of(db, host.class.as_deref(), primary, since, until).await?,
        tunables: conf.tuning.settings.class(host.class.as_deref()).clone(),
        host: host.clone(),
        found: found_with_proof,
        instances: kin,
        flows,
        cpu,
    })
}

async fn host_row(db: &mut PgConnection, host: HostId) -> sqlx::Result<Host> {
    let r = sqlx::query!(
        "-- worker::cases::host_row
        select name, tier, class, tags, last_seen, logical_cpus, server_edition from host where host_id = $1",
        host.0
    )
    .fetch_one(db)
    .await?;
    Ok(Host {
        id: host.0,
        name: r.name,
        tier: r.tier,
        class: r.class,
        tags: r.tags,
        last_seen: r.last_seen,
        logical_cpus: r.logical_cpus,
        server: r.server_edition,
    })
}

pub(super) async fn evidence(db: &mut PgConnection, host: i64, span: &Span) -> anyhow::Result<Vec<Item>> {
    let rows = sqlx::query!(
        "-- worker::cases::evidence
        select group_key, code, subject, first_seen, last_seen, known_at, points, force, process_id, summary, rule, events
        from evidence where host_id = $1 and last_seen >= $2 and first_seen < $3",
        host,
        span.since(),
        span.until()
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|r| {
            Ok(Item {
                code: r.code.parse()?,
                points: f64::from(r.points),
                force: r.force.parse()?,
                hop: 1.0,
                hops: 0,
                group: r.group_key,
                process: r.process_id,
                subject: r.subject,
                first_seen: r.first_seen,
                last_seen: r.last_seen,
                known_at: r.known_at,
                summary: r.summary,
                rule: r.rule,
                events: r.events.iter().map(|e| e.parse()).collect::<Result<_, _>>()?,
                suppressed_by: None,
            })
        })
        .collect()
}

/// Processes of the episodes with their ancestors (5 up, so that what stands above a chain is seen) and descendants (2 down).
async fn instances(db: &mut PgConnection, host: i64, episodes: &[Episode]) -> sqlx::Result<HashMap<i64, Instance>> {
    let known = || episodes.iter().filter(|e| e.group != UNATTRIBUTED);
    let groups: Vec<i64> = known().map(|e| e.group).collect();
    let since: Vec<DateTime<Utc>> = known().map(|e| e.span.since() - TimeDelta::hours(24)).collect();
    let until: Vec<DateTime<Utc>> = known().map(|e| e.span.until() + TimeDelta::hours(1)).collect();
    let owners: Vec<i64> = episodes.iter().flat_map(|e| e.items.iter().filter_map(|i| i.process)).collect();
    let rows = sqlx::query!(
        r#"-- worker::cases::instances
        with recursive seed as (
          select p.process_id from unnest($2::bigint[], $3::timestamptz[], $4::timestamptz[]) as e (group_key, since, until)
          cross join lateral (
            select process_id from process p
            where p.host_id = $1 and p.group_key = e.group_key and p.started_at < e.until
              and greatest(coalesce(p.ended_at, p.last_sign), p.last_sign) >= e.since
            order by p.started_at limit $6
          ) p
          union
          select unnest($5::bigint[])
        ),
        up as (
          select p.process_id, p.parent_process_id, 0 as depth from seed join process p on p.host_id = $1 and p.process_id = seed.process_id
          union
          select p.process_id, p.parent_process_id, up.depth + 1 from up join process p on p.host_id = $1 and p.process_id = up.parent_process_id
          where up.depth < 5
        ),
        down as (
          select process_id, 0 as depth from seed
          union
          select c.process_id, down.depth + 1 from down
          cross join lateral (
            select process_id from process c where c.host_id = $1 and c.parent_process_id = down.process_id order by c.started_at limit 100
          ) c
          where down.depth < 2
        )
        select p.process_id, p.group_key, p.started_at, p.ended_at, p.last_sign, p.start_observed, p.guid as "guid: ProcessGuid", p.pid, p.image,
          p.command_line, p.original_file_name, p.company, p.product, p.sha256, p.signer, p.signature, p.user_name, p.integrity,
          p.parent_process_id, p.parent_image, p.parent_command_line, p.event_at, p.event_id as "event_id: EventId"
        from process p
        where p.host_id = $1 and p.process_id in (select process_id from up union select process_id from down)"#,
        host,
        &groups,
        &since,
        &until,
        &owners,
        MOST_INSTANCES
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| {
            let event = r.event_at.zip(r.event_id).map(|(at, id)| EventRef { host: HostId(host), at, id });
            let instance = Instance {
                id: r.process_id,
                group: r.group_key,
                started_at: r.started_at,
                ended_at: r.ended_at,
                last_sign: r.last_sign,
                start_observed: r.start_observed,
                guid: r.guid.map(|g| g.0.to_string()),
                pid: r.pid,
                image: r.image,
                command_line: r.command_line,
                original_file_name: r.original_file_name,
                company: r.company,
                product: r.product,
                sha256: r.sha256,
                signer: r.signer,
                signature: r.signature,
                user: r.user_name,
                integrity: r.integrity,
                parent: r.parent_process_id,
                parent_image: r.parent_image,
                parent_command_line: r.parent_command_line,
                event,
                automation: false,
            };
            (instance.id, instance)
        })
        .collect())
}

async fn flows(
    db: &mut PgConnection,
    host: i64,
    span: &Span,
    (kin, hops): (&[Instance], &HashMap<i64, u8>),
    unattributed: Option<Span>,
    conf: &Configuration,
) -> sqlx::Result<Vec<Flow>> {
    let ids: Vec<i64> = kin.iter().filter(|i| hops.contains_key(&i.id)).map(|i| i.id).collect();
    let rows = sqlx::query!(
        r#"-- worker::cases::flows
        select process_id, group_key, remote_ip, remote_port, remote_host, destination, external, direction, started_at, ended_at, bytes_out,
          bytes_in, application, event_at, event_id as "event_id: EventId"
        from flow where host_id = $1 and started_at >= $2 and started_at < $3
          and (process_id = any($4) or process_id is null and external and started_at < $6 and coalesce(ended_at, started_at) >= $5)
        order by started_at, flow_id limit 5000"#,
        host,
        span.since(),
        span.until(),
        &ids,
        unattributed.map(|u| u.since()),
        unattributed.map(|u| u.until())
    )
    .fetch_all(&mut *db)
    .await?;
    let near: Vec<IpNetwork> =
        rows.iter().filter(|r| !r.external && r.remote_port.is_some_and(|p| is_internal_pool_port(p))).filter_map(|r| r.remote_ip).collect();
    let inside = not_infrastructure(db, near).await?;
    Ok(rows
        .into_iter()
        .map(|r| {
            let ip = r.remote_ip.map(|n| n.ip());
            let inside = !r.external && r.remote_port.is_some_and(|p| is_internal_pool_port(p)) && r.remote_ip.is_some_and(|ip| inside.contains(&ip));
            let listed = conf.lists.category(r.remote_host.as_deref(), ip, r.remote_port, r.started_at);
            Flow {
                process: r.process_id.or(Some(UNATTRIBUTED)),
                group: r.group_key.or(Some(UNATTRIBUTED)),
                remote_ip: ip,
                remote_port: r.remote_port,
                remote_host: r.remote_host,
                destination: r.destination,
                // A listed pool inside the network is still a pool.
                external: r.external || listed.is_some() || inside,
                inside,
                application: r.application,
                outbound: r.direction.as_deref() != Some("inbound"),
                started_at: r.started_at,
                ended_at: r.ended_at,
                bytes_out: r.bytes_out,
                bytes_in: r.bytes_in,
                event: EventRef { host: HostId(host), at: r.event_at, id: r.event_id },
                listed,
            }
        })
        .collect())
}

/// Of internal addresses those that are other computers, not loopback, and not of a host tagged as infrastructure.
async fn not_infrastructure(db: &mut PgConnection, addresses: Vec<IpNetwork>) -> sqlx::Result<BTreeSet<IpNetwork>> {
    let addresses: BTreeSet<IpNetwork> = addresses.into_iter().filter(|a| !a.ip().to_canonical().is_loopback()).collect();
    if addresses.is_empty() {
        return Ok(addresses);
    }
    let known = sqlx::query_scalar!(
        r#"-- worker::cases::not_infrastructure
        select distinct g.address from address_sighting g join host h on h.host_id = g.host_id and 'infrastructure' = any(h.tags)
        where g.address = any($1)"#,
        &addresses.iter().copied().collect::<Vec<_>>()
    )
    .fetch_all(db)
    .await?;
    Ok(addresses.into_iter().filter(|a| !known.contains(a)).collect())
}

async fn cpu(db: &mut PgConnection, host: i64, group: i64, span: &Span) -> sqlx::Result<Vec<(DateTime<Utc>, f64)>> {
    let rows = sqlx::query!(
        r#"-- worker::cases::cpu
        select bucket, share::float8 as "share!" from cpu_bucket
        where host_id = $1 and group_key = $2 and bucket >= $3 and bucket < $4 and covered_seconds >= 180 and share is not null order by bucket"#,
        host,
        group,
        span.since(),
        span.until()
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|r| (r.bucket, r.share)).collect())
}

/// Load is proven by the samples at its begin and end.
async fn prove_load(db: &mut PgConnection, host: i64, items: &mut [Item]) -> sqlx::Result<()> {
    for item in items.iter_mut().filter(|i| i.code.class() == Class::R && i.events.is_empty()) {
        let rows = sqlx::query!(
            r#"-- worker::cases::prove_load
            (select s.occurred_at as "at!", s.event_id as "id!: EventId" from cpu_sample s join process p on p.host_id = s.host_id and p.process_id = $2
             where s.host_id = $1 and s.occurred_at >= $3 and s.occurred_at < $4 and s.pid = p.pid and (s.gpu_share is not null) = $5
             order by s.occurred_at, s.event_id limit 2)
            union all
            (select s.occurred_at, s.event_id from cpu_sample s join process p on p.host_id = s.host_id and p.process_id = $2
             where s.host_id = $1 and s.occurred_at >= $4 - interval '10 minutes' and s.occurred_at < $4 and s.pid = p.pid
               and (s.gpu_share is not null) = $5 order by s.occurred_at desc, s.event_id limit 1)
            union all
            (select s.occurred_at, s.event_id from host_sample s
             where $6 and s.host_id = $1 and s.occurred_at >= $3 and s.occurred_at < $4 and s.share is not null order by s.occurred_at, s.event_id limit 2)"#,
            host,
            item.process,
            item.first_seen,
            item.last_seen,
            item.code == Code::RGpu,
            item.code == Code::RUnattrib
        )
        .fetch_all(&mut *db)
        .await?;
        item.events = rows.into_iter().map(|r| EventRef { host: HostId(host), at: r.at, id: r.id }).collect();
        item.events.sort_unstable();
        item.events.dedup();
    }
    Ok(())
}

async fn artefacts(db: &mut PgConnection, host: i64, since: DateTime<Utc>, until: DateTime<Utc>) -> sqlx::Result<Vec<Artefact>> {
    let rows = sqlx::query!(
        r#"-- worker::cases::artefacts
        select occurred_at, event_id as "event_id: EventId", kind, action, name, command, arguments, run_as, run_level, hidden, author, triggers,
          by_user, pid, image
        from persistence where host_id = $1 and occurred_at >= $2 and occurred_at < $3 order by occurred_at, event_id"#,
        host,
        since,
        until
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| Artefact {
            kind: r.kind.unwrap_or_default(),
            action: r.action.unwrap_or_default(),
            at: r.occurred_at,
            name: r.name.unwrap_or_default(),
            command: r.command,
            arguments: r.arguments,
            run_as: r.run_as,
            run_level: r.run_level,
            hidden: r.hidden.unwrap_or_default(),
            author: r.author,
            triggers: r.triggers,
            by_user: r.by_user,
            pid: r.pid,
            image: r.image,
            event: Some(EventRef { host: HostId(host), at: r.occurred_at, id: r.event_id }),
        })
        .collect())
}

/// Files of interest written up to a day before the processes started: the images themselves and what lies beside them.
async fn written(db: &mut PgConnection, host: i64, kin: &[Instance], hops: &HashMap<i64, u8>) -> sqlx::Result<Vec<Written>> {
    let own: Vec<&Instance> = kin.iter().filter(|i| hops.contains_key(&i.id)).collect();
    let (Some(first), Some(last)) = (own.iter().map(|i| i.started_at).min(), own.iter().map(|i| i.started_at).max()) else {
        return Ok(Vec::new());
    };
    let rows = sqlx::query!(
        r#"-- worker::cases::written
        select path as "path!", image, occurred_at, event_id as "event_id: EventId" from file_write
        where host_id = $1 and occurred_at >= $2 and occurred_at < $3 and path is not null order by occurred_at, event_id"#,
        host,
        first - TimeDelta::hours(24),
        last + TimeDelta::minutes(1)
    )
    .fetch_all(db)
    .await?;
    let images: BTreeSet<String> = own.iter().map(|i| i.path()).collect();
    let folders: BTreeSet<String> = images.iter().map(|p| crate::model::group::folder(p).to_owned()).collect();
    Ok(rows
        .into_iter()
        .filter(|r| {
            let path = comparable_path(&r.path);
            images.contains(&path) || folders.contains(crate::model::group::folder(&path)) && base_name(&path).contains('.')
        })
        .map(|r| Written { path: r.path, writer: r.image, at: r.occurred_at, event: EventRef { host: HostId(host), at: r.occurred_at, id: r.event_id } })
        .collect())
}

async fn coverage(db: &mut PgConnection, host: i64, span: &Span) -> sqlx::Result<Coverage> {
    let b = sqlx::query!(
        r#"-- worker::cases::coverage: by bucket
        select count(*) filter (where events > 0) as "alive!", count(*) filter (where cpu_samples > 0) as "cpu!",
          coalesce(sum(connections), 0) as "connections!", coalesce(sum(dns), 0) as "dns!",
          coalesce(sum(tasks), 0) as "persistence!", coalesce(sum(scripts), 0) as "scripts!"
        from host_bucket where host_id = $1 and bucket >= $2 and bucket < $3"#,
        host,
        span.since(),
        span.until()
    )
    .fetch_one(&mut *db)
    .await?;
    let p = sqlx::query!(
        r#"-- worker::cases::coverage: by process, so that two sources of one start count once
        select count(*) as "starts!", count(*) filter (where command_line is not null) as "with_command!",
          count(*) filter (where parent_image is not null or parent_process_id is not null) as "with_parent!",
          -- a sensor's records are facts of the address that it knows: what counts is what could be read as this host's
          (select count(*) from (select from flow where host_id = $1 and started_at >= $2 and started_at < $3 and ended_at is not null limit 100) f) as "flows!"
        from process where host_id = $1 and started_at >= $2 and started_at < $3 and start_observed"#,
        host,
        span.since(),
        span.until()
    )
    .fetch_one(db)
    .await?;
    Ok(Coverage {
        alive: b.alive,
        cpu: b.cpu,
        starts: p.starts,
        with_command: p.with_command,
        with_parent: p.with_parent,
        connections: b.connections,
        flows: p.flows,
        dns: b.dns,
        persistence: b.persistence,
        scripts: b.scripts,
    })
}

/// How common the case's destinations, images and signers are, each on the day it was last met.
async fn fleet_of(db: &mut PgConnection, flows: &[Flow], kin: &[Instance], until: DateTime<Utc>) -> sqlx::Result<Fleet> {
    let mut destinations = BTreeMap::new();
    for f in flows {
        destinations.insert(f.destination.clone(), f.started_at.date_naive());
    }
    let (mut images, mut signers) = (BTreeMap::new(), BTreeMap::new());
    for i in kin {
        images.extend(i.sha256.clone().map(|h| (h, i.started_at.date_naive())));
        signers.extend(i.signer.clone().map(|s| (s, until.date_naive())));
    }
    let prevalence = |bands: HashMap<String, fleet::Band>| -> HashMap<String, Prevalence> {
        bands
            .into_iter()
            .map(|(value, b)| {
                let common = match b.band.as_str() {
                    "prevalent" => Common::Prevalent,
                    "common" => Common::Some,
                    _ => Common::Rare,
                };
                (value, Prevalence { hosts: b.hosts, common, since: None, names: b.names })
            })
            .collect()
    };
    let hashes: Vec<String> = images.keys().cloned().collect();
    let (since, first_days) = fleet::first_days(db, &hashes).await?;
    let things = |m: BTreeMap<String, chrono::NaiveDate>| m.into_iter().collect::<Vec<_>>();
    let mut images = prevalence(fleet::bands(db, "image", &things(images)).await?);
    for (hash, day) in first_days {
        images.entry(hash).or_default().since = Some(day);
    }
    Ok(Fleet {
        active: fleet::active(db, until.date_naive()).await?,
        since,
        destinations: prevalence(fleet::bands(db, "destination", &things(destinations)).await?),
        images,
        signers: prevalence(fleet::bands(db, "signer", &things(signers)).await?),
    })
}
