//! Process instances: starts of several sources merged, ends found, parents linked; programs that were never seen to start
//! get a row from whatever names them.
//!
//! Identity: the sensor's GUID, else pid and start. All instances of a pid that something new concerns are linked anew, so the
//! order of arrival does not matter. Source: detection design, section 3.2.

use super::super::spans::Spans;
use crate::{
    model::{
        group,
        ids::{EventId, GroupKey, HostId, ProcessGuid},
    },
    time::Span,
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Starts of one process as several sources saw it: Sysmon 1 and Security 4688, CPU sampler.
const SAME_START: TimeDelta = TimeDelta::seconds(2);

/// An instance as stored in `process`.
#[derive(Debug, Clone, PartialEq)]
struct Instance {
    process_id: i64,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    last_sign: DateTime<Utc>,
    start_observed: bool,
    guid: Option<ProcessGuid>,
    pid: Option<i64>,
    image: Option<String>,
    command_line: Option<String>,
    original_file_name: Option<String>,
    company: Option<String>,
    product: Option<String>,
    description: Option<String>,
    sha256: Option<String>,
    user_name: Option<String>,
    integrity: Option<String>,
    session: Option<i64>,
    parent_guid: Option<ProcessGuid>,
    parent_pid: Option<i64>,
    parent_image: Option<String>,
    parent_command_line: Option<String>,
    group_key: i64,
    event_at: Option<DateTime<Utc>>,
    event_id: Option<EventId>,
}

/// Key of an instance with a GUID.
fn id_of_guid(guid: ProcessGuid) -> i64 {
    first_eight(EventId::of_parts([b"guid".as_slice(), guid.0.as_bytes()]))
}

/// Key of an instance known by pid and start, to the millisecond.
fn id_of_start(pid: i64, started_at: DateTime<Utc>) -> i64 {
    first_eight(EventId::of_parts([b"start".as_slice(), &pid.to_be_bytes(), &started_at.timestamp_millis().to_be_bytes()]))
}

/// Key of an instance known by pid and image only.
fn id_of_mention(pid: i64, image: &str) -> i64 {
    first_eight(EventId::of_parts([b"mention".as_slice(), &pid.to_be_bytes(), image.as_bytes()]))
}

fn first_eight(id: EventId) -> i64 {
    id.0.as_u64_pair().0.cast_signed()
}

fn name(image: Option<&str>) -> Option<String> {
    image.map(|i| group::base_name(i).to_lowercase())
}

impl Instance {
    fn group(&self) -> GroupKey {
        let image = self.image.as_deref().unwrap_or_default();
        group::group_of(image, self.command_line.as_deref(), self.sha256.as_deref()).unwrap_or(GroupKey(0))
    }

    /// Whether both are starts of one process.
    fn same(&self, other: &Self) -> bool {
        let guids = self.guid.is_none() || other.guid.is_none() || self.guid == other.guid;
        let names = match (name(self.image.as_deref()), name(other.image.as_deref())) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        guids && names && self.pid.is_some() && self.pid == other.pid && (self.started_at - other.started_at).abs() <= SAME_START
    }

    /// Takes over what the other knows; the one with a GUID keeps its key.
    fn absorb(&mut self, other: Self) {
        if self.guid.is_none() && other.guid.is_some() || !self.start_observed && other.start_observed {
            let mut winner = other;
            std::mem::swap(self, &mut winner);
            return self.absorb(winner);
        }
        self.last_sign = self.last_sign.max(other.last_sign);
        self.start_observed |= other.start_observed;
        macro_rules! complete { ($($field:ident),*) => { $( if self.$field.is_none() { self.$field = other.$field; } )* } }
        complete!(
            guid, pid, image, command_line, original_file_name, company, product, description, sha256, user_name, integrity, session,
            parent_guid, parent_pid, parent_image, parent_command_line, event_at, event_id
        );
    }
}

/// What is new for one host.
#[derive(Debug, Default)]
struct News {
    starts: Vec<Instance>,
    mentions: Vec<Instance>,
    pids: BTreeSet<i64>,
}

/// Derives the processes of the spans; answers the stretches in which samples and connections may now belong to another process.
pub(in crate::worker) async fn derive(db: &mut PgConnection, spans: &Spans) -> anyhow::Result<Spans> {
    let mut news: BTreeMap<i64, News> = BTreeMap::new();
    starts(db, spans, &mut news).await?;
    mentions(db, spans, &mut news).await?;
    stopped_pids(db, spans, &mut news).await?;
    let mut changed = Spans::default();
    let known = stored(db, &news).await?;
    let ends = ends(db, &news).await?;
    let (mut upsert, mut gone) = (Vec::new(), Vec::new());
    for (host, news) in news {
        let before = known.get(&host).cloned().unwrap_or_default();
        let ends = ends.get(&host).map(Vec::as_slice).unwrap_or_default();
        let after = link(merge(&before, news, |at| spans.holds(HostId(host), at)), ends);
        let mut touch = |a: &Instance| {
            if let Some(span) = Span::new(a.started_at - SAME_START, a.last_sign.max(a.started_at) + TimeDelta::seconds(3)) {
                changed.add(HostId(host), span);
            }
        };
        let kept: HashMap<i64, &Instance> = after.iter().map(|i| (i.process_id, i)).collect();
        for old in &before {
            if !kept.contains_key(&old.process_id) {
                touch(old);
                gone.push((host, old.process_id));
            }
        }
        let old: HashMap<i64, &Instance> = before.iter().map(|i| (i.process_id, i)).collect();
        for row in &after {
            match old.get(&row.process_id) {
                Some(same) if *same == row => continue,
                // A later sign of life or an end concerns no other row.
                Some(was) if was.group_key == row.group_key && was.started_at == row.started_at && was.guid == row.guid => {}
                Some(_) | None => touch(row),
            }
            upsert.push((host, row.clone()));
        }
    }
    delete(db, &gone).await?;
    save(db, &upsert).await?;
    link_parents(db, &upsert).await?;
    Ok(changed.merged())
}

/// All instances of the pids concerned, news included, each process once.
fn merge(before: &[Instance], news: News, in_span: impl Fn(DateTime<Utc>) -> bool) -> Vec<Instance> {
    // Seen starts inside the spans come again from their facts; the rest of what is stored stays.
    let mut rows: Vec<Instance> = before.iter().filter(|i| !(i.start_observed && in_span(i.started_at))).cloned().collect();
    for start in news.starts {
        match rows.iter_mut().find(|r| r.process_id == start.process_id || r.same(&start)) {
            Some(row) => row.absorb(start),
            None => rows.push(start),
        }
    }
    // Signs of life outside the spans stay true.
    for old in before {
        if let Some(row) = rows.iter_mut().find(|r| r.process_id == old.process_id) {
            row.last_sign = row.last_sign.max(old.last_sign);
            row.command_line = row.command_line.take().or_else(|| old.command_line.clone());
            row.parent_pid = row.parent_pid.or(old.parent_pid);
        }
    }
    for mut mention in news.mentions {
        let known = rows.iter_mut().find(|r| match (mention.guid, mention.start_observed) {
            (Some(guid), _) => r.guid == Some(guid) || r.guid.is_none() && r.process_id == mention.process_id,
            (None, true) => r.same(&mention),
            (None, false) => false,
        });
        let known = match known {
            Some(row) => Some(row),
            // By pid alone: the latest start before the mention that had not ended.
            None if mention.guid.is_none() && !mention.start_observed => rows
                .iter_mut()
                .filter(|r| r.pid == mention.pid && r.started_at <= mention.started_at + SAME_START)
                .filter(|r| r.ended_at.is_none_or(|end| end + SAME_START > mention.started_at))
                .max_by_key(|r| r.started_at),
            None => None,
        };
        match known {
            Some(row) => {
                row.last_sign = row.last_sign.max(mention.last_sign);
                if !row.start_observed && mention.guid == row.guid {
                    row.started_at = row.started_at.min(mention.started_at);
                }
                if row.command_line.is_none() {
                    row.command_line = mention.command_line;
                }
                if row.parent_pid.is_none() {
                    row.parent_pid = mention.parent_pid;
                }
                if row.image.is_none() {
                    row.image = mention.image;
                }
            }
            None => {
                mention.start_observed = false;
                rows.push(mention);
            }
        }
    }
    for row in &mut rows {
        row.group_key = row.group().0;
    }
    rows
}

/// Sets the ends: seen to end, else the pid was given away.
fn link(mut rows: Vec<Instance>, ends: &[(i64, Option<ProcessGuid>, DateTime<Utc>)]) -> Vec<Instance> {
    rows.sort_by(|a, b| (a.pid, a.started_at, a.process_id).cmp(&(b.pid, b.started_at, b.process_id)));
    for n in 0..rows.len() {
        let (pid, guid, started_at) = (rows[n].pid, rows[n].guid, rows[n].started_at);
        let next = rows[n + 1..].iter().find(|r| r.pid == pid && pid.is_some() && r.started_at > started_at + SAME_START);
        let next = next.filter(|r| r.start_observed).map(|r| r.started_at);
        let stop = ends
            .iter()
            .filter(|(p, g, at)| match (guid, g) {
                (Some(mine), Some(theirs)) => mine == *theirs,
                _ => Some(*p) == pid && *at >= started_at && next.is_none_or(|n| *at <= n + SAME_START),
            })
            .map(|(_, _, at)| *at)
            .min();
        rows[n].ended_at = match (stop, next) {
            (Some(stop), Some(next)) => Some(stop.min(next)),
            (stop, next) => stop.or(next),
        };
        if let Some(stop) = stop {
            rows[n].last_sign = rows[n].last_sign.max(stop);
        }
    }
    rows
}

async fn starts(db: &mut PgConnection, spans: &Spans, news: &mut BTreeMap<i64, News>) -> sqlx::Result<()> {
    let a = spans.widened(SAME_START, SAME_START).arrays();
    let rows = sqlx::query!(
        r#"-- worker::derive::process::starts
        select f.host_id, f.occurred_at, f.event_id as "event_id: EventId", f.guid as "guid: ProcessGuid", f.pid,
          coalesce(f.started_at, f.occurred_at) as "started_at!", f.image, f.command_line, f.original_file_name, f.company, f.product,
          f.description, f.sha256, f.user_name, f.integrity, f.session, f.parent_guid as "parent_guid: ProcessGuid", f.parent_pid,
          f.parent_image, f.parent_command_line
        from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        join process_start f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
        where f.occurred_at between $4 and $5
        order by f.host_id, started_at, f.guid nulls last, f.event_id"#,
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last
    )
    .fetch_all(db)
    .await?;
    for r in rows {
        let news = news.entry(r.host_id).or_default();
        let process_id = match (r.guid, r.pid) {
            (Some(guid), _) => id_of_guid(guid),
            (None, Some(pid)) => id_of_start(pid, r.started_at),
            (None, None) => first_eight(r.event_id),
        };
        news.pids.extend(r.pid);
        news.starts.push(Instance {
            process_id,
            started_at: r.started_at,
            ended_at: None,
            last_sign: r.started_at,
            start_observed: true,
            guid: r.guid,
            pid: r.pid,
            image: r.image,
            command_line: r.command_line,
            original_file_name: r.original_file_name,
            company: r.company,
            product: r.product,
            description: r.description,
            sha256: r.sha256,
            user_name: r.user_name,
            integrity: r.integrity,
            session: r.session,
            parent_guid: r.parent_guid,
            parent_pid: r.parent_pid,
            parent_image: r.parent_image,
            parent_command_line: r.parent_command_line,
            group_key: 0,
            event_at: Some(r.occurred_at),
            event_id: Some(r.event_id),
        });
    }
    Ok(())
}

async fn mentions(db: &mut PgConnection, spans: &Spans, news: &mut BTreeMap<i64, News>) -> sqlx::Result<()> {
    let a = spans.arrays();
    let rows = sqlx::query!(
        r#"-- worker::derive::process::mentions: which processes do samples, connections and look-ups name?
        with span as (select * from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)),
        mention as (
          select f.host_id, f.occurred_at, f.guid, f.pid, f.started_at, f.image, f.command_line, f.parent_pid
          from span s join cpu_sample f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
          where f.occurred_at between $4 and $5 and f.gpu_share is null
          union all
          select f.host_id, f.occurred_at, f.guid, f.pid, null, f.image, null, null
          from span s join connection f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
          where f.occurred_at between $4 and $5 and f.kind = 'socket'
          union all
          select f.host_id, f.occurred_at, f.guid, f.pid, null, f.image, null, null
          from span s join dns_query f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
          where f.occurred_at between $4 and $5
        )
        select host_id as "host_id!", guid as "guid: ProcessGuid", pid, started_at, image, min(command_line) as command_line,
          min(parent_pid) as parent_pid, min(occurred_at) as "first!", max(occurred_at) as "last!"
        from mention where pid > 4 or guid is not null
        group by 1, 2, 3, 4, 5 order by 1, 4 nulls last, 2 nulls last, 3, 5"#,
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last
    )
    .fetch_all(db)
    .await?;
    for r in rows {
        let news = news.entry(r.host_id).or_default();
        let process_id = match (r.guid, r.pid, r.started_at) {
            (Some(guid), ..) => id_of_guid(guid),
            (None, Some(pid), Some(start)) => id_of_start(pid, start),
            (None, Some(pid), None) => match &r.image {
                Some(image) => id_of_mention(pid, &image.to_lowercase()),
                None => continue,
            },
            (None, None, _) => continue,
        };
        news.pids.extend(r.pid);
        news.mentions.push(Instance {
            process_id,
            started_at: r.started_at.unwrap_or(r.first),
            ended_at: None,
            last_sign: r.last,
            // For now "the start is known"; a row made of a mention says it was not observed.
            start_observed: r.started_at.is_some(),
            guid: r.guid,
            pid: r.pid,
            image: r.image,
            command_line: r.command_line,
            original_file_name: None,
            company: None,
            product: None,
            description: None,
            sha256: None,
            user_name: None,
            integrity: None,
            session: None,
            parent_guid: None,
            parent_pid: r.parent_pid,
            parent_image: None,
            parent_command_line: None,
            group_key: 0,
            event_at: None,
            event_id: None,
        });
    }
    Ok(())
}

async fn stopped_pids(db: &mut PgConnection, spans: &Spans, news: &mut BTreeMap<i64, News>) -> sqlx::Result<()> {
    let a = spans.arrays();
    let rows = sqlx::query!(
        r#"-- worker::derive::process::stopped_pids
        select distinct f.host_id, f.pid as "pid!"
        from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        join process_stop f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
        where f.occurred_at between $4 and $5 and f.pid is not null"#,
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last
    )
    .fetch_all(db)
    .await?;
    for r in rows {
        news.entry(r.host_id).or_default().pids.insert(r.pid);
    }
    Ok(())
}

/// Stored instances of the pids and GUIDs concerned.
async fn stored(db: &mut PgConnection, news: &BTreeMap<i64, News>) -> sqlx::Result<HashMap<i64, Vec<Instance>>> {
    let (hosts, pids): (Vec<i64>, Vec<i64>) = news.iter().flat_map(|(h, n)| n.pids.iter().map(|p| (*h, *p))).unzip();
    let (guid_hosts, guids): (Vec<i64>, Vec<uuid::Uuid>) = news
        .iter()
        .flat_map(|(h, n)| n.starts.iter().chain(&n.mentions).filter(|i| i.pid.is_none()).filter_map(|i| i.guid.map(|g| (*h, g.0))))
        .unzip();
    let rows = sqlx::query!(
        r#"-- worker::derive::process::stored
        select p.host_id, p.process_id, p.started_at, p.ended_at, p.last_sign, p.start_observed, p.guid as "guid: ProcessGuid", p.pid, p.image,
          p.command_line, p.original_file_name, p.company, p.product, p.description, p.sha256, p.user_name, p.integrity, p.session,
          p.parent_guid as "parent_guid: ProcessGuid", p.parent_pid, p.parent_image, p.parent_command_line, p.group_key, p.event_at,
          p.event_id as "event_id: EventId"
        from unnest($1::bigint[], $2::bigint[]) as k (host_id, pid) join process p on p.host_id = k.host_id and p.pid = k.pid
        union
        select p.host_id, p.process_id, p.started_at, p.ended_at, p.last_sign, p.start_observed, p.guid, p.pid, p.image,
          p.command_line, p.original_file_name, p.company, p.product, p.description, p.sha256, p.user_name, p.integrity, p.session,
          p.parent_guid, p.parent_pid, p.parent_image, p.parent_command_line, p.group_key, p.event_at, p.event_id
        from unnest($3::bigint[], $4::uuid[]) as k (host_id, guid) join process p on p.host_id = k.host_id and p.guid = k.guid"#,
        &hosts,
        &pids,
        &guid_hosts,
        &guids
    )
    .fetch_all(db)
    .await?;
    let mut out: HashMap<i64, Vec<Instance>> = HashMap::new();
    for r in rows {
        let (Some(host), Some(process_id), Some(started_at), Some(last_sign)) = (r.host_id, r.process_id, r.started_at, r.last_sign) else {
            continue;
        };
        out.entry(host).or_default().push(Instance {
            process_id,
            started_at,
            ended_at: r.ended_at,
            last_sign,
            start_observed: r.start_observed.unwrap_or_default(),
            guid: r.guid,
            pid: r.pid,
            image: r.image,
            command_line: r.command_line,
            original_file_name: r.original_file_name,
            company: r.company,
            product: r.product,
            description: r.description,
            sha256: r.sha256,
            user_name: r.user_name,
            integrity: r.integrity,
            session: r.session,
            parent_guid: r.parent_guid,
            parent_pid: r.parent_pid,
            parent_image: r.parent_image,
            parent_command_line: r.parent_command_line,
            group_key: r.group_key.unwrap_or_default(),
            event_at: r.event_at,
            event_id: r.event_id,
        });
    }
    for rows in out.values_mut() {
        rows.sort_by_key(|r| (r.started_at, r.process_id));
    }
    Ok(out)
}

type Ends = HashMap<i64, Vec<(i64, Option<ProcessGuid>, DateTime<Utc>)>>;

async fn ends(db: &mut PgConnection, news: &BTreeMap<i64, News>) -> sqlx::Result<Ends> {
    let (hosts, pids): (Vec<i64>, Vec<i64>) = news.iter().flat_map(|(h, n)| n.pids.iter().map(|p| (*h, *p))).unzip();
    let rows = sqlx::query!(
        r#"-- worker::derive::process::ends
        select f.host_id, f.pid as "pid!", f.guid as "guid: ProcessGuid", coalesce(f.ended_at, f.occurred_at) as "at!"
        from unnest($1::bigint[], $2::bigint[]) as k (host_id, pid) join process_stop f on f.host_id = k.host_id and f.pid = k.pid
        order by 4"#,
        &hosts,
        &pids
    )
    .fetch_all(db)
    .await?;
    let mut out = Ends::new();
    for r in rows {
        out.entry(r.host_id).or_default().push((r.pid, r.guid, r.at));
    }
    Ok(out)
}

async fn delete(db: &mut PgConnection, gone: &[(i64, i64)]) -> sqlx::Result<()> {
    let (hosts, ids): (Vec<i64>, Vec<i64>) = gone.iter().copied().unzip();
    sqlx::query!(
        "-- worker::derive::process::delete
        delete from process p using unnest($1::bigint[], $2::bigint[]) as k (host_id, process_id)
        where p.host_id = k.host_id and p.process_id = k.process_id",
        &hosts,
        &ids
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn save(db: &mut PgConnection, rows: &[(i64, Instance)]) -> sqlx::Result<()> {
    macro_rules! column { ($f:expr) => { rows.iter().map($f).collect::<Vec<_>>() } }
    // A text column may hold a NUL only if a repair was missed; COPY wrote the facts, so none is left.
    sqlx::query!(
        "-- worker::derive::process::save
        insert into process (host_id, process_id, started_at, ended_at, last_sign, start_observed, guid, pid, image, image_name, command_line,
          original_file_name, company, product, description, sha256, user_name, integrity, session, parent_guid, parent_pid, parent_image,
          parent_command_line, group_key, event_at, event_id)
        select host_id, process_id, started_at, ended_at, last_sign, start_observed, guid, pid, image, lower(image_name), command_line,
          original_file_name, company, product, description, sha256, user_name, integrity, session, parent_guid, parent_pid, parent_image,
          parent_command_line, group_key, event_at, event_id
        from unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::boolean[], $7::uuid[],
          $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[],
          $18::text[], $19::bigint[], $20::uuid[], $21::bigint[], $22::text[], $23::text[], $24::bigint[], $25::timestamptz[], $26::uuid[])
        as r (host_id, process_id, started_at, ended_at, last_sign, start_observed, guid, pid, image, image_name, command_line,
          original_file_name, company, product, description, sha256, user_name, integrity, session, parent_guid, parent_pid, parent_image,
          parent_command_line, group_key, event_at, event_id)
        order by host_id, process_id
        on conflict (host_id, process_id) do update set
          started_at = excluded.started_at, ended_at = excluded.ended_at, last_sign = excluded.last_sign,
          start_observed = excluded.start_observed, guid = excluded.guid, pid = excluded.pid, image = excluded.image,
          image_name = excluded.image_name, command_line = excluded.command_line, original_file_name = excluded.original_file_name,
          company = excluded.company, product = excluded.product, description = excluded.description, sha256 = excluded.sha256,
          user_name = excluded.user_name, integrity = excluded.integrity, session = excluded.session, parent_guid = excluded.parent_guid,
          parent_pid = excluded.parent_pid, parent_image = excluded.parent_image, parent_command_line = excluded.parent_command_line,
          group_key = excluded.group_key, event_at = excluded.event_at, event_id = excluded.event_id",
        &column!(|r| r.0),
        &column!(|r| r.1.process_id),
        &column!(|r| r.1.started_at),
        &column!(|r| r.1.ended_at) as &[Option<DateTime<Utc>>],
        &column!(|r| r.1.last_sign),
        &column!(|r| r.1.start_observed),
        &column!(|r| r.1.guid.map(|g| g.0)) as &[Option<uuid::Uuid>],
        &column!(|r| r.1.pid) as &[Option<i64>],
        &column!(|r| r.1.image.as_deref()) as &[Option<&str>],
        &column!(|r| r.1.image.as_deref().map(group::base_name)) as &[Option<&str>],
        &column!(|r| r.1.command_line.as_deref()) as &[Option<&str>],
        &column!(|r| r.1.original_file_name.as_deref()) as &[Option<&str>],
        &column!(|r| r.1.company.as_deref()) as &[Option<&str>],
        &column!(|r| r.1.product.as_deref()) as &[Option<&str>],
        &column!(|r| r.1.description.as_deref()) as &[Option<&str>],
        &column!(|r| r.1.sha256.as_deref()) as &[Option<&str>],
        &column!(|r| r.1.user_name.as_deref()) as &[Option<&str>],
        &column!(|r| r.1.integrity.as_deref()) as &[Option<&str>],
        &column!(|r| r.1.session) as &[Option<i64>],
        &column!(|r| r.1.parent_guid.map(|g| g.0)) as &[Option<uuid::Uuid>],
        &column!(|r| r.1.parent_pid) as &[Option<i64>],
        &column!(|r| r.1.parent_image.as_deref()) as &[Option<&str>],
        &column!(|r| r.1.parent_command_line.as_deref()) as &[Option<&str>],
        &column!(|r| r.1.group_key),
        &column!(|r| r.1.event_at) as &[Option<DateTime<Utc>>],
        &column!(|r| r.1.event_id.map(|e| e.0)) as &[Option<uuid::Uuid>],
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Points children at their parents: by GUID, else the latest start of the parent's pid before the child's.
async fn link_parents(db: &mut PgConnection, rows: &[(i64, Instance)]) -> sqlx::Result<()> {
    let hosts: Vec<i64> = rows.iter().map(|r| r.0).collect();
    let ids: Vec<i64> = rows.iter().map(|r| r.1.process_id).collect();
    let parents: Vec<Option<i64>> = rows.iter().map(|r| r.1.parent_guid.map(id_of_guid)).collect();
    sqlx::query!(
        "-- worker::derive::process::link_parents: by GUID
        update process p set parent_process_id = k.parent
        from unnest($1::bigint[], $2::bigint[], $3::bigint[]) as k (host_id, process_id, parent)
        where p.host_id = k.host_id and p.process_id = k.process_id and k.parent is not null and p.parent_process_id is distinct from k.parent",
        &hosts,
        &ids,
        &parents as &[Option<i64>]
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "-- worker::derive::process::link_parents: by pid, for the rows themselves and for children of their pids
        with concerned as (
          select p.host_id, p.process_id, p.parent_pid, p.started_at
          from unnest($1::bigint[], $2::bigint[]) as k (host_id, process_id) join process p using (host_id, process_id)
          where p.parent_guid is null and p.parent_pid is not null
          union
          select c.host_id, c.process_id, c.parent_pid, c.started_at
          from unnest($1::bigint[], $2::bigint[]) as k (host_id, process_id) join process p using (host_id, process_id)
          join process c on c.host_id = p.host_id and c.parent_pid = p.pid and c.parent_guid is null and c.started_at >= p.started_at
            and (p.ended_at is null or c.started_at <= p.ended_at + interval '2 seconds')
        ),
        found as (
          select c.host_id, c.process_id, (
            select q.process_id from process q
            where q.host_id = c.host_id and q.pid = c.parent_pid and q.process_id <> c.process_id
              and q.started_at <= c.started_at + interval '2 seconds'
              and (q.ended_at is null or q.ended_at > c.started_at - interval '2 seconds')
            order by q.started_at desc, q.process_id limit 1) as parent
          from concerned c
        )
        update process p set parent_process_id = f.parent from found f
        where p.host_id = f.host_id and p.process_id = f.process_id and p.parent_process_id is distinct from f.parent",
        &hosts,
        &ids
    )
    .execute(db)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn instance(guid: Option<u128>, pid: i64, start: i64, observed: bool) -> Instance {
        let guid = guid.map(|g| ProcessGuid(uuid::Uuid::from_u128(g)));
        Instance {
            process_id: guid.map_or_else(|| id_of_start(pid, at(start)), id_of_guid),
            started_at: at(start),
            ended_at: None,
            last_sign: at(start),
            start_observed: observed,
            guid,
            pid: Some(pid),
            image: Some(r"C:\x\a.exe".into()),
            command_line: None,
            original_file_name: None,
            company: None,
            product: None,
            description: None,
            sha256: None,
            user_name: None,
            integrity: None,
            session: None,
            parent_guid: None,
            parent_pid: None,
            parent_image: None,
            parent_command_line: None,
            group_key: 0,
            event_at: None,
            event_id: None,
        }
    }

    fn merged(starts: Vec<Instance>, mentions: Vec<Instance>) -> Vec<Instance> {
        merge(&[], News { starts, mentions, pids: BTreeSet::new() }, |_| true)
    }

    #[test]
    fn sysmon_and_security_starts_of_one_process_are_one_instance() {
        let rows = merged(vec![instance(None, 7, 100, true), instance(Some(1), 7, 101, true)], vec![]);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].guid, Some(ProcessGuid(uuid::Uuid::from_u128(1))));
    }

    #[test]
    fn a_reused_pid_is_another_instance_and_ends_the_first() {
        let rows = link(merged(vec![instance(Some(1), 7, 100, true), instance(Some(2), 7, 500, true)], vec![]), &[]);
        assert_eq!(rows.iter().map(|r| r.ended_at).collect::<Vec<_>>(), [Some(at(500)), None]);
    }

    #[test]
    fn a_sample_with_the_start_time_belongs_to_the_start_seen_by_another_source() {
        let rows = merged(vec![instance(Some(1), 7, 100, true)], vec![Instance { last_sign: at(900), ..instance(None, 7, 101, true) }]);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].last_sign, at(900));
    }

    #[test]
    fn an_end_belongs_to_the_latest_start_before_it() {
        let rows = merged(vec![instance(None, 7, 100, true), instance(None, 7, 500, true)], vec![]);
        let rows = link(rows, &[(7, None, at(300)), (7, None, at(800))]);
        assert_eq!(rows.iter().map(|r| r.ended_at).collect::<Vec<_>>(), [Some(at(300)), Some(at(800))]);
    }
}
