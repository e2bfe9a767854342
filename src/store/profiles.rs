//! Learned baselines: computed per event week from the four weeks before it, without what may be an attack. See `model::profile`.
//!
//! A pass says which weeks its hosts touched; what was learned from them is learned again when no host waits. A profile looks at earlier
//! weeks only, so this ends. Source: detection design, section 9.1.

use super::marks;
use crate::model::profile::{ENOUGH_HOST_DAYS, ENOUGH_HOSTS, KNOWN_DAYS, Profile, week_of};
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::PgConnection;

/// What a profile is learned from, days before its week.
const LOOKBACK: i32 = 28;

/// Notes that load of these stretches changed: their own weeks are to be learned if they never were, the four after them again.
///
/// # Errors
/// Whatever the database says.
pub async fn touched(db: &mut PgConnection, stretches: &[(DateTime<Utc>, DateTime<Utc>)]) -> sqlx::Result<()> {
    let mut weeks: Vec<NaiveDate> = stretches
        .iter()
        .flat_map(|(since, until)| week_of(*since).iter_weeks().take_while(move |week| *week <= until.date_naive()).take(520))
        .collect();
    weeks.sort_unstable();
    weeks.dedup();
    sqlx::query!(
        "-- store::profiles::touched
        insert into load_week (week, stale) select w, true from unnest($1::date[]) as w on conflict (week) do nothing",
        &weeks
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "-- store::profiles::touched: what was learned from them
        update load_week l set stale = true from unnest($1::date[]) as w where not l.stale and l.week > w and l.week <= w + $2::integer",
        &weeks,
        LOOKBACK
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Learns one week that waits, the earliest; answers whether there was one. Hosts whose judgement may differ are marked.
///
/// # Errors
/// Whatever the database says.
pub async fn learn(db: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let week = sqlx::query_scalar!(
        "-- store::profiles::learn
        update load_week set stale = false where week = (select min(week) from load_week where stale) returning week"
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(week) = week else { return Ok(false) };
    sqlx::query!(
        r#"-- store::profiles::learn: what is usual, without what may be an attack?
        with bound as (select ($1::date - $2::integer)::timestamp at time zone 'utc' as since, $1::timestamp at time zone 'utc' as until),
        suspect as (
          -- hard evidence, discriminators and commands, unless somebody called it expected
          select e.host_id, e.group_key, e.first_seen, e.last_seen from bound b
          join evidence e on e.first_seen < b.until and e.last_seen >= b.since
          where (e.force in ('hard', 'discriminator') or e.code like 'C.%' and e.points >= 15)
            and not exists (
              select from detection d where d.host_id = e.host_id and e.group_key = any(d.groups) and d.disposition = 'benign_positive'
                and d.first_seen <= e.last_seen and d.last_seen >= e.first_seen)
          union all
          select d.host_id, g.group_key, d.first_seen, d.last_seen from bound b
          join detection d on d.first_seen < b.until and d.last_seen >= b.since cross join lateral unnest(d.groups) as g (group_key)
          where d.disposition = 'true_positive'
            or d.verdict in ('alert', 'partial', 'early_warning') and d.disposition is distinct from 'benign_positive'
        ),
        suspect_day as (
          select distinct s.host_id, s.group_key, day::date as day from suspect s cross join bound b cross join lateral generate_series(
            date_trunc('day', greatest(s.first_seen, b.since) at time zone 'utc'), least(s.last_seen, b.until) at time zone 'utc', interval '1 day') as day
        ),
        load as (
          select coalesce(lower(h.class), '') as host_class, c.host_id, c.group_key, c.share::float8 as share,
            (c.bucket at time zone 'utc')::date as day,
            ((extract(isodow from c.bucket at time zone 'utc') - 1) * 24 + extract(hour from c.bucket at time zone 'utc'))::smallint as hour
          from bound b join cpu_bucket c on c.bucket >= b.since and c.bucket < b.until join host h using (host_id)
          where c.share is not null and c.covered_seconds >= 180 and c.group_key <> 0
        ),
        class as (select host_class, count(distinct host_id) as hosts from load group by 1),
        clean as (
          select l.* from load l where not exists (
            select from suspect_day s where s.host_id = l.host_id and s.group_key = l.group_key and s.day = l.day)
        ),
        cell as (
          select host_class, group_key, coalesce(hour, -1) as hour, percentile_cont(0.5) within group (order by share) as median,
            percentile_cont(0.95) within group (order by share) as p95, count(distinct host_id) as hosts, count(distinct (host_id, day)) as host_days,
            $1::date - min(day) as days
          from clean group by grouping sets ((host_class, group_key, hour), (host_class, group_key))
        ),
        usable as (
          select a.* from cell a join cell whole on whole.host_class = a.host_class and whole.group_key = a.group_key and whole.hour = -1
          where whole.days >= $3 and (whole.hosts >= $4 or whole.host_days >= $5) and (a.hour = -1 or a.host_days >= $5)
        ),
        spread as (
          select u.host_class, u.group_key, u.hour, percentile_cont(0.5) within group (order by abs(c.share - u.median)) as mad
          from usable u join clean c on c.host_class = u.host_class and c.group_key = u.group_key and (u.hour = -1 or c.hour = u.hour)
          group by 1, 2, 3
        ),
        image as (
          select distinct on (group_key) p.group_key, p.image from process p
          where p.group_key in (select group_key from usable) and p.image is not null
          group by p.group_key, p.image order by p.group_key, count(distinct p.host_id) desc, p.image
        ),
        learned as (
          select u.host_class, u.group_key, u.hour, coalesce(i.image, '') as image, round(u.median::numeric, 1)::real as median,
            round(s.mad::numeric, 1)::real as mad, round(u.p95::numeric, 1)::real as p95, u.hosts::integer, u.host_days::integer,
            k.hosts::integer as class_hosts, u.days
          from usable u join spread s using (host_class, group_key, hour) join class k using (host_class) left join image i using (group_key)
        ),
        gone as (
          delete from load_profile p where p.week = $1
            and not exists (select from learned l where (l.host_class, l.group_key, l.hour) = (p.host_class, p.group_key, p.hour))
          returning p.group_key
        ),
        kept as (
          insert into load_profile (host_class, group_key, week, hour, image, median, mad, p95, hosts, host_days, class_hosts, days)
          select host_class, group_key, $1, hour, image, median, mad, p95, hosts, host_days, class_hosts, days from learned order by 1, 2, 4
          on conflict (host_class, group_key, week, hour) do update set image = excluded.image, median = excluded.median, mad = excluded.mad,
            p95 = excluded.p95, hosts = excluded.hosts, host_days = excluded.host_days, class_hosts = excluded.class_hosts, days = excluded.days
          where (load_profile.image, load_profile.median, load_profile.mad, load_profile.p95, load_profile.hosts, load_profile.host_days,
              load_profile.class_hosts, load_profile.days)
            is distinct from (excluded.image, excluded.median, excluded.mad, excluded.p95, excluded.hosts, excluded.host_days, excluded.class_hosts,
              excluded.days)
          returning group_key
        )
        insert into mark (host_id, bucket, batch_id, marked_at)
        select distinct e.host_id, date_bin('5 minutes', e.first_seen, '2000-01-01 00:00:00+00'), $6::bigint, $7::timestamptz
        from (select group_key from gone union select group_key from kept) c join evidence e using (group_key)
        where e.code like 'R.%' and e.first_seen < ($1::date + 7)::timestamp at time zone 'utc' and e.last_seen >= $1::timestamp at time zone 'utc'"#,
        week,
        LOOKBACK,
        KNOWN_DAYS,
        i64::from(ENOUGH_HOSTS),
        i64::from(ENOUGH_HOST_DAYS),
        marks::batch(),
        now
    )
    .execute(db)
    .await?;
    Ok(true)
}

/// Profiles of a group for hosts of a class, for the weeks that a stretch of time touches.
///
/// # Errors
/// Whatever the database says.
pub async fn of(
    db: &mut PgConnection,
    host_class: Option<&str>,
    group: i64,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
) -> sqlx::Result<Vec<Profile>> {
    sqlx::query_as!(
        Profile,
        r#"-- store::profiles::of
        select week, hour, median::float8 as "median!", mad::float8 as "mad!", p95::float8 as "p95!", hosts, host_days, class_hosts, days
        from load_profile where host_class = $1 and group_key = $2 and week between $3 and $4 order by week, hour"#,
        host_class.map(str::to_lowercase).unwrap_or_default(),
        group,
        week_of(since),
        week_of(until)
    )
    .fetch_all(db)
    .await
}

/// A learned baseline as it is served: all hours of the latest week that has one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Learned {
    /// Path that most hosts had.
    pub image: String,
    /// Class of hosts; empty = hosts without one.
    pub host_class: String,
    /// Monday of the week it is for.
    pub week: NaiveDate,
    /// Percent of the host.
    pub median: f64,
    /// 95th percentile: what somebody who approves it would write.
    pub p95: f64,
    /// Hosts it was learned from.
    pub hosts: i32,
    /// Hosts of the class with load data.
    pub class_hosts: i32,
    /// Days times hosts it was learned from.
    pub host_days: i32,
    /// Days it has been known.
    pub days: i32,
    /// How far the 95th percentile moved in four weeks; absent = was not known then.
    pub drift: Option<f64>,
    /// Percent that somebody approved for image and class; absent = nobody did.
    pub approved: Option<f64>,
}

/// Which learned baselines to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Class of hosts.
    pub host_class: Option<String>,
    /// Part of the image.
    pub q: Option<String>,
    /// Only those that moved, or lie above what was approved, by at least so many percent of the host.
    pub drifted_by: Option<f64>,
    /// At most so many.
    pub limit: i64,
}

/// Learned baselines, those with most load first.
///
/// # Errors
/// Whatever the database says.
pub async fn list(db: &mut PgConnection, filter: &Filter) -> sqlx::Result<Vec<Learned>> {
    sqlx::query_as!(
        Learned,
        r#"-- store::profiles::list
        with latest as (
          select distinct on (host_class, group_key) * from load_profile where hour = -1 order by host_class, group_key, week desc
        ), shown as (
          select l.image, l.host_class, l.week, l.median::float8 as median, l.p95::float8 as p95, l.hosts, l.class_hosts, l.host_days, l.days,
            (l.p95 - b.p95)::float8 as drift, (
              select max(a.cpu_share)::float8 from baseline a where lower(a.host_class) = l.host_class
                and lower(l.image) like replace(replace(replace(replace(lower(a.image), '\', '\\'), '_', '\_'), '%', '\%'), '*', '%')) as approved
          from latest l left join load_profile b on b.host_class = l.host_class and b.group_key = l.group_key and b.hour = -1 and b.week = l.week - 28
        )
        select image as "image!", host_class as "host_class!", week as "week!", median as "median!", p95 as "p95!", hosts as "hosts!",
          class_hosts as "class_hosts!", host_days as "host_days!", days as "days!", drift, approved
        from shown
        where ($1::text is null or host_class = lower($1)) and ($2::text is null or strpos(lower(image), lower($2)) > 0)
          and ($3::float8 is null or abs(drift) >= $3 or p95 - approved >= $3)
        order by p95 desc, host_class, image limit $4"#,
        filter.host_class,
        filter.q,
        filter.drifted_by,
        filter.limit
    )
    .fetch_all(db)
    .await
}
