//! Reading what is new of processes, and writing the rows back.

use super::{Instance, News, SAME_START, first_eight, id_of_guid, id_of_mention, id_of_start};
use crate::{
    model::{
        group,
        ids::{EventId, ProcessGuid},
    },
    worker::spans::Spans,
};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use std::collections::{BTreeMap, HashMap};

pub(super) async fn starts(db: &mut PgConnection, spans: &Spans, news: &mut BTreeMap<i64, News>) -> sqlx::Result<()> {
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

pub(super) async fn mentions(db: &mut PgConnection, spans: &Spans, news: &mut BTreeMap<i64, News>) -> sqlx::Result<()> {
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

pub(super) async fn stopped_pids(db: &mut PgConnection, spans: &Spans, news: &mut BTreeMap<i64, News>) -> sqlx::Result<()> {
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
pub(super) async fn stored(db: &mut PgConnection, news: &BTreeMap<i64, News>) -> sqlx::Result<HashMap<i64, Vec<Instance>>> {
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

/// Ends by host: pid, GUID, time.
pub(super) type Ends = HashMap<i64, Vec<(i64, Option<ProcessGuid>, DateTime<Utc>)>>;

pub(super) async fn ends(db: &mut PgConnection, news: &BTreeMap<i64, News>) -> sqlx::Result<Ends> {
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

pub(super) async fn delete(db: &mut PgConnection, gone: &[(i64, i64)]) -> sqlx::Result<()> {
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

/// Writes the rows; a parent that is named by GUID is pointed at with the same stroke.
pub(super) async fn save(db: &mut PgConnection, rows: &[(i64, Instance)]) -> sqlx::Result<()> {
    macro_rules! column { ($f:expr) => { rows.iter().map($f).collect::<Vec<_>>() } }
    // A text column may hold a NUL only if a repair was missed; COPY wrote the facts, so none is left.
    sqlx::query!(
        "-- worker::derive::process::save
        insert into process (host_id, process_id, started_at, ended_at, last_sign, start_observed, guid, pid, image, image_name, command_line,
          original_file_name, company, product, description, sha256, user_name, integrity, session, parent_guid, parent_pid, parent_image,
          parent_command_line, group_key, event_at, event_id, parent_process_id)
        select host_id, process_id, started_at, ended_at, last_sign, start_observed, guid, pid, image, lower(image_name), command_line,
          original_file_name, company, product, description, sha256, user_name, integrity, session, parent_guid, parent_pid, parent_image,
          parent_command_line, group_key, event_at, event_id, parent_process_id
        from unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::boolean[], $7::uuid[],
          $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[],
          $18::text[], $19::bigint[], $20::uuid[], $21::bigint[], $22::text[], $23::text[], $24::bigint[], $25::timestamptz[], $26::uuid[],
          $27::bigint[])
        as r (host_id, process_id, started_at, ended_at, last_sign, start_observed, guid, pid, image, image_name, command_line,
          original_file_name, company, product, description, sha256, user_name, integrity, session, parent_guid, parent_pid, parent_image,
          parent_command_line, group_key, event_at, event_id, parent_process_id)
        order by host_id, process_id
        on conflict (host_id, process_id) do update set
          started_at = excluded.started_at, ended_at = excluded.ended_at, last_sign = excluded.last_sign,
          start_observed = excluded.start_observed, guid = excluded.guid, pid = excluded.pid, image = excluded.image,
          image_name = excluded.image_name, command_line = excluded.command_line, original_file_name = excluded.original_file_name,
          company = excluded.company, product = excluded.product, description = excluded.description, sha256 = excluded.sha256,
          user_name = excluded.user_name, integrity = excluded.integrity, session = excluded.session, parent_guid = excluded.parent_guid,
          parent_pid = excluded.parent_pid, parent_image = excluded.parent_image, parent_command_line = excluded.parent_command_line,
          group_key = excluded.group_key, event_at = excluded.event_at, event_id = excluded.event_id,
          parent_process_id = coalesce(excluded.parent_process_id, process.parent_process_id)",
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
        &column!(|r| r.1.parent_guid.map(id_of_guid)) as &[Option<i64>],
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Points children whose parent has no GUID at the latest start of the parent's pid before the child's.
pub(super) async fn link_parents(db: &mut PgConnection, rows: &[(i64, Instance)]) -> sqlx::Result<()> {
    let hosts: Vec<i64> = rows.iter().map(|r| r.0).collect();
    let ids: Vec<i64> = rows.iter().map(|r| r.1.process_id).collect();
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
