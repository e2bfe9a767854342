//! What the fleet knows: who had a destination, image or signer on which day, and how common that makes it.
//!
//! Passes note sightings; [`recount`] turns changed ones into coarse bands and marks the hosts whose judgement may depend on
//! them. Bands rest on facts only, never on verdicts, so this ends. Source: detection design, section 3.7.

use crate::model::{ids::HostId, names::MANY_NAMES};
use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;
use std::collections::{BTreeSet, HashMap};

/// One thing seen on one host on one UTC day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sighting {
    /// `host`, `destination`, `image` or `signer`.
    pub kind: &'static str,
    /// The thing; empty for kind `host`.
    pub value: String,
    /// UTC day.
    pub day: NaiveDate,
    /// Where.
    pub host: HostId,
    /// Of an image: under which name, without what copies add.
    pub name: Option<String>,
}

/// Stores sightings; those not known before wait to be counted.
///
/// # Errors
/// Whatever the database says.
pub async fn note(db: &mut PgConnection, sightings: &BTreeSet<Sighting>) -> sqlx::Result<()> {
    // Of several names on one host and day the first counts, whichever came first.
    let mut unique: Vec<&Sighting> = sightings.iter().collect();
    unique.dedup_by_key(|s| (s.kind, &s.value, s.day, s.host));
    macro_rules! column { ($f:expr) => { unique.iter().map($f).collect::<Vec<_>>() } }
    sqlx::query!(
        "-- store::fleet::note
        with new as (
          insert into fleet_sighting (kind, value, day, host_id, name)
          select * from unnest($1::text[], $2::text[], $3::date[], $4::bigint[], $5::text[])
          on conflict (kind, value, day, host_id) do update set name = excluded.name where excluded.name < fleet_sighting.name
          returning kind, value, day
        )
        insert into fleet_mark (kind, value, day) select distinct kind, value, day from new order by 1, 2, 3 on conflict do nothing",
        &column!(|s| s.kind) as &[&str],
        &column!(|s| s.value.as_str()) as &[&str],
        &column!(|s| s.day),
        &column!(|s| s.host.0),
        &column!(|s| s.name.as_deref()) as &[Option<&str>]
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Counts what changed; answers how many bands did. A change of the number of active hosts moves every limit of that day.
///
/// # Errors
/// Whatever the database says.
pub async fn recount(db: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<usize> {
    let taken = sqlx::query!("delete from fleet_mark returning kind, value, day").fetch_all(&mut *db).await?;
    if taken.is_empty() {
        return Ok(0);
    }
    let kinds: Vec<&str> = taken.iter().map(|t| t.kind.as_str()).collect();
    let values: Vec<&str> = taken.iter().map(|t| t.value.as_str()).collect();
    let days: Vec<NaiveDate> = taken.iter().map(|t| t.day).collect();
    let changed = sqlx::query!(
        r#"-- store::fleet::recount: how common is each thing on the days that its sightings reach?
        with taken as materialized (select * from unnest($1::text[], $2::text[], $3::date[]) as t (kind, value, day)),
        day as materialized (
          -- days with data up to 29 days after a sighting
          select distinct d.day, bool_or(t.kind = 'host') over (partition by d.day) as everything
          from taken t join (select distinct day from fleet_sighting where kind = 'host') d on d.day between t.day and t.day + 29
        ),
        active as (
          select d.day, count(distinct s.host_id) as hosts
          from day d join fleet_sighting s on s.kind = 'host' and s.day between d.day - 29 and d.day group by 1
        ),
        concerned as (
          select distinct t.kind, t.value, d.day from taken t join day d on d.day between t.day and t.day + 29 where t.kind <> 'host'
          union
          select distinct s.kind, s.value, d.day from day d join fleet_sighting s on s.day between d.day - 29 and d.day and s.kind <> 'host'
          where d.everything
        ),
        counted as (
          select c.kind, c.value, c.day, count(distinct s.host_id) as hosts, count(distinct s.name) as names
          from concerned c join fleet_sighting s on s.kind = c.kind and s.value = c.value and s.day between c.day - 29 and c.day
          group by 1, 2, 3
        ),
        first as (
          select c.kind, c.value, min(s.day) as day from (select distinct kind, value from concerned) c join fleet_sighting s using (kind, value) group by 1, 2
        ),
        rollout as (
          select day, sum(count(*)) over (order by day) as hosts
          from (select host_id, min(day) as day from fleet_sighting where kind = 'host' group by 1) h group by 1
        ),
        -- A fleet is known from the day on which half of what is active had reported: one host that came early is no fleet.
        known as (select a.day, min(r.day) as since from active a join rollout r on 2 * r.hosts >= a.hosts group by 1),
        judged as (
          select c.kind, c.value, c.day, c.hosts, c.names, a.hosts as active, case
            when c.hosts <= greatest(3, ceil(0.02 * a.hosts)) then 'rare'
            when a.hosts >= 20 and 2 * c.hosts >= a.hosts
              and (f.day <= c.day - 7 or f.day <= k.since) then 'prevalent'
            else 'common' end as band
          from counted c join active a using (day) join known k using (day) join first f using (kind, value)
        ),
        before as (select j.kind, j.value, j.day, b.band, b.names from judged j join fleet_band b using (kind, value, day)),
        stored as (
          insert into fleet_band (kind, value, day, hosts, active, band, names)
          select kind, value, day, hosts, active, band, names from judged order by 1, 2, 3
          on conflict (kind, value, day) do update set hosts = excluded.hosts, active = excluded.active, band = excluded.band, names = excluded.names
          where (fleet_band.hosts, fleet_band.active, fleet_band.band, fleet_band.names)
            is distinct from (excluded.hosts, excluded.active, excluded.band, excluded.names)
        )
        select j.kind as "kind!", j.value as "value!", j.day as "day!" from judged j left join before b using (kind, value, day)
        where b.band is distinct from j.band or (coalesce(b.names, 0)::bigint >= $4) <> (j.names >= $4)"#,
        &kinds as &[&str],
        &values as &[&str],
        &days,
        MANY_NAMES
    )
    .fetch_all(&mut *db)
    .await?;
    let kinds: Vec<&str> = changed.iter().map(|t| t.kind.as_str()).collect();
    let values: Vec<&str> = changed.iter().map(|t| t.value.as_str()).collect();
    let days: Vec<NaiveDate> = changed.iter().map(|t| t.day).collect();
    sqlx::query!(
        "-- store::fleet::recount: hosts that had the thing that day and have evidence then are judged again
        insert into mark (host_id, bucket, batch_id, marked_at)
        select distinct s.host_id, date_bin('5 minutes', e.first_seen, 'epoch'), $5::bigint, $4::timestamptz
        from unnest($1::text[], $2::text[], $3::date[]) as c (kind, value, day)
        join fleet_sighting s on s.kind = c.kind and s.value = c.value and s.day = c.day
        join evidence e on e.host_id = s.host_id and e.first_seen < (c.day + 2)::timestamp at time zone 'utc'
          and e.last_seen >= (c.day - 1)::timestamp at time zone 'utc'",
        &kinds as &[&str],
        &values as &[&str],
        &days,
        now,
        rand::random::<i64>() & i64::MAX
    )
    .execute(db)
    .await?;
    Ok(changed.len())
}

/// How common a thing is on a day.
#[derive(Debug, Clone, Default)]
pub struct Band {
    /// Hosts that had it in the 30 days.
    pub hosts: i64,
    /// `rare`, `common` or `prevalent`.
    pub band: String,
    /// Names of an image in the 30 days.
    pub names: i64,
}

/// Bands of things, each on its day. A thing that was never counted is absent.
///
/// # Errors
/// Whatever the database says.
pub async fn bands(db: &mut PgConnection, kind: &str, things: &[(String, NaiveDate)]) -> sqlx::Result<HashMap<String, Band>> {
    let (values, days): (Vec<String>, Vec<NaiveDate>) = things.iter().cloned().unzip();
    let rows = sqlx::query!(
        "-- store::fleet::bands
        select b.value, b.hosts, b.band, b.names from unnest($2::text[], $3::date[]) as t (value, day)
        join fleet_band b on b.kind = $1 and b.value = t.value and b.day = t.day",
        kind,
        &values,
        &days
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|r| (r.value, Band { hosts: i64::from(r.hosts), band: r.band, names: i64::from(r.names) })).collect())
}

/// The fleet's first day, and the first day on which any host had each of these images.
///
/// # Errors
/// Whatever the database says.
pub async fn first_days(db: &mut PgConnection, images: &[String]) -> sqlx::Result<(Option<NaiveDate>, HashMap<String, NaiveDate>)> {
    let rows = sqlx::query!(
        r#"-- store::fleet::first_days: one look at the key each
        select v.kind as "kind!", v.value as "value!", d.day as "day!"
        from (select 'host' as kind, '' as value union all select 'image', unnest($1::text[])) v
        cross join lateral (select day from fleet_sighting s where s.kind = v.kind and s.value = v.value order by s.kind, s.value, s.day limit 1) d"#,
        images
    )
    .fetch_all(db)
    .await?;
    let fleet = rows.iter().find(|r| r.kind == "host").map(|r| r.day);
    Ok((fleet, rows.into_iter().filter(|r| r.kind == "image").map(|r| (r.value, r.day)).collect()))
}

/// Hosts with any event in the 30 days up to a day, as last counted.
///
/// # Errors
/// Whatever the database says.
pub async fn active(db: &mut PgConnection, day: NaiveDate) -> sqlx::Result<i64> {
    let hosts = sqlx::query_scalar!(
        "-- store::fleet::active
        select count(distinct host_id) from fleet_sighting where kind = 'host' and day between $1::date - 29 and $1",
        day
    )
    .fetch_one(db)
    .await?;
    Ok(hosts.unwrap_or(0))
}
