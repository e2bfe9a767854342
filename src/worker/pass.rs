//! One pass: claim hosts, take their marks, derive, find, judge, record, release.
//!
//! Everything up to the release is one transaction; a worker that lost its lease rolls back.

use super::{
    cases::{self, Configuration},
    derive,
    find,
    spans::Spans,
    traces,
};
use crate::{
    analytics,
    app::App,
    model::{
        code::Code,
        detection::Verdict,
        ids::HostId,
        names::copy_stem,
    },
    store::{
        evidence,
        campaigns,
        evidence::{Domain, Found},
        fleet::{self, Sighting},
        profiles,
        record::{self, Assessed},
    },
    time::{BUCKET, Span},
};
use anyhow::{Context as _, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection as _, PgConnection};
use std::collections::BTreeSet;

/// Hosts of one pass: what it reads of them is in memory at once (trust design, section 9: 256 MiB in all).
const MOST_HOSTS: i64 = 128;
/// Marks of one pass.
const MOST_MARKS: i64 = 10_000;
/// How long a claim holds.
const LEASE_SECONDS: f64 = 120.0;

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassReport {
    /// Marks evaluated.
    pub marks: usize,
    /// Hosts evaluated.
    pub hosts: usize,
    /// Detections made, changed or removed.
    pub changes: usize,
    /// Fleet bands that changed, outbreaks that began or ended, and weeks of baselines that were learned.
    pub bands: usize,
}

/// One turn. Hosts whose oldest mark is younger than `settle` wait.
///
/// # Errors
/// If the database fails; nothing of the pass remains then.
pub async fn pass(app: &App, settle: TimeDelta) -> anyhow::Result<PassReport> {
    let started = std::time::Instant::now();
    let mut db = app.db.worker.acquire().await.context("waiting for a connection")?;
    let owner = session(&mut db).await.context("naming the session")?;
    let now = app.clock.now();
    let claimed = claim(&mut db, &owner, now - settle).await.context("claiming hosts")?;
    let mut report = PassReport::default();
    if claimed.is_empty() {
        let mut tx = db.begin().await?;
        report.bands = fleet::recount(&mut tx, now).await.context("counting the fleet")?;
        report.bands += campaigns::link(&mut tx, report.bands > 0, now).await.context("linking campaigns")?;
        if report.bands == 0 && profiles::learn(&mut tx, now).await.context("learning baselines")? {
            report.bands += 1;
        }
        tx.commit().await?;
        return Ok(report);
    }
    let evaluated = evaluate_apart(app, &mut db, &owner, &claimed, now).await;
    let freed = release(&mut db, &owner).await;
    report = evaluated?;
    freed.context("releasing hosts")?;
    finished(&mut db, &report, now, started.elapsed().as_millis()).await?;
    tracing::info!(
        marks = report.marks,
        hosts = report.hosts,
        changes = report.changes,
        duration_ms = started.elapsed().as_millis() as u64,
        "evaluated"
    );
    Ok(report)
}

/// Evaluates the hosts; if that fails for what they hold, half of them at a time, until the one is left that nobody can evaluate.
/// It backs off, and does not keep the others waiting.
async fn evaluate_apart(app: &App, db: &mut PgConnection, owner: &str, hosts: &[i64], now: DateTime<Utc>) -> anyhow::Result<PassReport> {
    let mut parts = vec![hosts];
    let mut report = PassReport::default();
    while let Some(part) = parts.pop() {
        match evaluate(app, db, owner, part, now).await {
            Ok(done) => {
                report.marks += done.marks;
                report.hosts += done.hosts;
                report.changes += done.changes;
            }
            Err(error) if is_passing(&error) => return Err(error),
            Err(error) => match part {
                [host] => {
                    let attempts = back_off(db, owner, *host, &format!("{error:#}")).await.context("setting a host aside")?;
                    tracing::error!(host, attempts, error = format!("{error:#}"), "this host cannot be evaluated; it is set aside");
                }
                _ => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            },
        }
    }
    Ok(report)
}

/// Whether the failure is of the moment (connection, lock, lease, room) and not of what was evaluated.
fn is_passing(error: &anyhow::Error) -> bool {
    if error.downcast_ref::<LeaseLost>().is_some() {
        return true;
    }
    match error.chain().find_map(|e| e.downcast_ref::<sqlx::Error>()) {
        Some(sqlx::Error::Database(refusal)) => {
            // Data exception, constraint, cardinality and "too complex" come from the rows; 08, 40, 53, 55, 57, 58 pass.
            !refusal.code().is_some_and(|code| ["21", "22", "23", "42", "54", "XX"].iter().any(|class| code.starts_with(class)))
        }
        Some(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) | None => false,
        Some(_) => true,
    }
}

#[derive(Debug, thiserror::Error)]
#[error("another worker took over these hosts")]
struct LeaseLost;

async fn evaluate(app: &App, db: &mut PgConnection, owner: &str, hosts: &[i64], now: DateTime<Utc>) -> anyhow::Result<PassReport> {
    let mut tx = db.begin().await?;
    let taken = take(&mut tx, hosts).await.context("taking marks")?;
    // Read after the marks: what was said before a mark is known when it is evaluated.
    let conf = Configuration::read(&mut tx, now).await?;
    let marked = spans_of(&mut tx, &taken, now).await.context("reading marks")?;
    let mut spans = marked.clone();
    let moved = derive::process::derive(&mut tx, &marked).await.context("deriving processes")?;
    spans.extend(&moved);
    let spans = spans.aligned();
    processors(&mut tx, &marked, now).await.context("counting processors")?;
    derive::buckets(&mut tx, &spans).await.context("deriving buckets")?;
    derive::load::derive(&mut tx, &spans).await.context("deriving other load")?;
    let (flows, covered) = derive::flow::derive(&mut tx, &spans).await.context("deriving flows")?;
    seen(&mut tx, &spans, &marked).await.context("noting what was seen")?;
    let stretches: Vec<_> = marked.iter().flat_map(|(_, spans)| spans.iter().map(|s| (s.since(), s.until()))).collect();
    profiles::touched(&mut tx, &stretches).await.context("noting what baselines rest on")?;
    sightings(&mut tx, &marked, &flows).await.context("noting sightings")?;

    let found = find::all(&mut tx, &spans, &flows, &conf.lists, &app.rules, &conf.tuning).await.context("finding evidence")?;
    replace(&mut tx, &spans, &found).await.context("storing evidence")?;

    // What a fact can change: connections a day around, launch artefacts 45 days ahead.
    let mut reach = spans.clone();
    reach.extend(&covered);
    let mut reach = reach.widened(TimeDelta::hours(24), TimeDelta::hours(24));
    reach.extend(&ahead(&mut tx, &marked).await?);
    let reach = reach.merged();
    let hashes: Vec<Vec<u8>> = app.rules.current().map(|hash| hash.to_vec()).collect();
    let traces = traces::load(&mut tx, &reach, &hashes).await.context("reading traces")?;
    let mut report = PassReport { marks: taken.len(), hosts: reach.hosts().len(), ..PassReport::default() };
    for (host, changed) in reach.iter() {
        let cases = cases::load(&mut tx, host, changed, &conf, &traces).await.with_context(|| format!("reading the cases of host {}", host.0))?;
        let assessed: Vec<Assessed> = cases
            .iter()
            .filter_map(|case| {
                let content = analytics::assess(case)?;
                (content.verdict >= Verdict::Suppressed).then(|| Assessed { host, group: case.primary, groups: case.groups.clone(), content })
            })
            .collect();
        let judged = |first: DateTime<Utc>, last: DateTime<Utc>| {
            Span::new(first, last + TimeDelta::seconds(1)).is_some_and(|s| changed.iter().any(|c| c.overlaps(&s)))
        };
        report.changes += record::record(&mut tx, host, assessed, judged, now).await.context("recording detections")?;
    }
    done(&mut tx, &taken).await.context("removing marks")?;
    ensure!(still_ours(&mut tx, owner, hosts).await?, LeaseLost);
    tx.commit().await.context("committing")?;
    Ok(report)
}

/// Name of this database session, as [`claim`] finds it among those that live.
async fn session(db: &mut PgConnection) -> sqlx::Result<String> {
    sqlx::query_scalar!(
        r#"-- worker::pass::session
        select pid || ':' || extract(epoch from backend_start) as "owner!" from pg_stat_activity where pid = pg_backend_pid()"#
    )
    .fetch_one(db)
    .await
}

/// Claims hosts with settled marks, the longest waiting first. A claim ends with its time or with the session that made it: nobody
/// waits for a worker that was killed.
async fn claim(db: &mut PgConnection, owner: &str, settled: DateTime<Utc>) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar!(
        "-- worker::pass::claim
        with waiting as (
          select host_id from mark m
          where not exists (select from lease l where l.host_id = m.host_id and l.owner = '' and l.until > clock_timestamp())
          group by host_id having min(marked_at) <= $2 order by min(marked_at), host_id limit $3
        )
        insert into lease (host_id, owner, until, fence)
        select host_id, $1, clock_timestamp() + make_interval(secs => $4), 1 from waiting order by host_id
        on conflict (host_id) do update set owner = excluded.owner, until = excluded.until, fence = lease.fence + 1
        where lease.until < clock_timestamp() or lease.owner = excluded.owner
          or lease.owner <> '' and lease.owner not in (select pid || ':' || extract(epoch from backend_start) from pg_stat_activity where backend_start is not null)
        returning host_id",
        owner,
        settled,
        MOST_HOSTS,
        LEASE_SECONDS
    )
    .fetch_all(db)
    .await
}

/// Locks the lease rows: one missing means that another worker took over.
async fn still_ours(db: &mut PgConnection, owner: &str, hosts: &[i64]) -> sqlx::Result<bool> {
    let ours = sqlx::query_scalar!(
        "-- worker::pass::still_ours
        select host_id from lease where owner = $1 and host_id = any($2) and until > clock_timestamp() for update",
        owner,
        hosts
    )
    .fetch_all(db)
    .await?;
    Ok(ours.len() == hosts.len())
}

/// Sets a host aside: a minute, then twice as long each time, up to an hour. From the fifth attempt on it counts as parked.
async fn back_off(db: &mut PgConnection, owner: &str, host: i64, error: &str) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        "-- worker::pass::back_off: an empty owner is nobody's session
        update lease set owner = '', attempts = attempts + 1, error = $3,
          until = clock_timestamp() + make_interval(mins => least(60, 1 << least(attempts, 6)))
        where owner = $1 and host_id = $2 returning attempts",
        owner,
        host,
        error.replace('\0', "\u{fffd}")
    )
    .fetch_one(db)
    .await
}

async fn release(db: &mut PgConnection, owner: &str) -> sqlx::Result<()> {
    sqlx::query!("-- worker::pass::release\ndelete from lease where owner = $1", owner).execute(db).await?;
    Ok(())
}

/// A mark that was read.
#[derive(Debug)]
struct Mark {
    host: i64,
    bucket: DateTime<Utc>,
    batch: i64,
}

async fn take(db: &mut PgConnection, hosts: &[i64]) -> sqlx::Result<Vec<Mark>> {
    let rows = sqlx::query!(
        "-- worker::pass::take
        select host_id, bucket, batch_id from mark where host_id = any($1) order by marked_at, host_id, bucket limit $2",
        hosts,
        MOST_MARKS
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|r| Mark { host: r.host_id, bucket: r.bucket, batch: r.batch_id }).collect())
}

async fn done(db: &mut PgConnection, taken: &[Mark]) -> sqlx::Result<()> {
    macro_rules! column { ($f:expr) => { taken.iter().map($f).collect::<Vec<_>>() } }
    sqlx::query!(
        "-- worker::pass::done
        delete from mark m using unnest($1::bigint[], $2::timestamptz[], $3::bigint[]) as t (host_id, bucket, batch_id)
        where m.host_id = t.host_id and m.bucket = t.bucket and m.batch_id = t.batch_id",
        &column!(|m| m.host),
        &column!(|m| m.bucket),
        &column!(|m| m.batch)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Spans of the marks. What a sensor saw of an address is evaluated on the hosts that had it.
async fn spans_of(db: &mut PgConnection, taken: &[Mark], now: DateTime<Utc>) -> sqlx::Result<Spans> {
    let mut spans = Spans::default();
    for m in taken {
        spans.add(HostId(m.host), Span::of_bucket(m.bucket));
    }
    let spans = spans.merged();
    let a = spans.arrays();
    sqlx::query!(
        "-- worker::pass::spans_of: hand marks of sensor addresses to the hosts that showed them
        insert into mark (host_id, bucket, batch_id, marked_at)
        select distinct g.host_id, b.bucket, $4::bigint, $5::timestamptz
        from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        join host h on h.host_id = s.host_id and h.kind = 'address'
        join address_sighting g on g.address = h.name::inet and g.hour between s.since - interval '1 day' and s.until + interval '1 day'
        cross join lateral generate_series(s.since, s.until - interval '1 second', interval '5 minutes') as b (bucket)",
        &a.hosts,
        &a.since,
        &a.until,
        rand::random::<i64>() & i64::MAX,
        now
    )
    .execute(db)
    .await?;
    Ok(spans)
}

/// How many processors the hosts have; samples that had to be read without that number are marked to be read again.
async fn processors(db: &mut PgConnection, marked: &Spans, now: DateTime<Utc>) -> sqlx::Result<()> {
    let a = marked.arrays();
    let changed = sqlx::query_scalar!(
        "-- worker::pass::processors
        update host h set logical_cpus = s.cpus
        from (
          select distinct on (f.host_id) f.host_id, f.logical_cpus as cpus
          from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
          join host_sample f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
          where f.occurred_at between $4 and $5 and f.logical_cpus > 0 order by f.host_id, f.occurred_at desc
        ) s
        where h.host_id = s.host_id and h.logical_cpus is distinct from s.cpus
        returning h.host_id",
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last
    )
    .fetch_all(&mut *db)
    .await?;
    sqlx::query!(
        "-- worker::pass::processors: every bucket with samples but without processors
        insert into mark (host_id, bucket, batch_id, marked_at)
        select distinct b.host_id, b.bucket, $2::bigint, $3::timestamptz from host_bucket b
        where b.host_id = any($1) and b.cpu_samples > 0 and not exists (
          select from cpu_bucket c where c.host_id = b.host_id and c.bucket = b.bucket and c.cores is not null)",
        &changed,
        rand::random::<i64>() & i64::MAX,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Latest event and images of the hosts.
async fn seen(db: &mut PgConnection, spans: &Spans, marked: &Spans) -> sqlx::Result<()> {
    let a = marked.arrays();
    sqlx::query!(
        "-- worker::pass::seen: when was the host first and last heard, in event time?
        update host h set first_seen = least(h.first_seen, s.first), last_seen = greatest(h.last_seen, s.last)
        from (
          select b.host_id, min(b.bucket) as first, max(b.bucket) + interval '5 minutes' as last
          from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
          join host_bucket b on b.host_id = s.host_id and b.bucket >= s.since and b.bucket < s.until
          where b.bucket between $4 and $5 group by 1
        ) s
        where h.host_id = s.host_id and (h.first_seen is null or s.first < h.first_seen or h.last_seen is null or s.last > h.last_seen)",
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last
    )
    .execute(&mut *db)
    .await?;
    let a = spans.arrays();
    sqlx::query!(
        "-- worker::pass::seen: what do module loads say of images? A valid signature beats none, then the smaller text.
        insert into image (sha256, signer, signature, original_file_name, product, company, first_seen)
        select f.sha256, max(f.signer), case when bool_or(f.signature = 'valid') then 'valid' when bool_or(f.signature = 'invalid') then 'invalid'
            when bool_or(f.signature = 'unsigned') then 'unsigned' end,
          min(f.original_file_name), min(f.product), min(f.company), min(f.occurred_at)
        from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        join module_load f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
        where f.occurred_at between $4 and $5 and f.sha256 is not null
        group by f.sha256 order by f.sha256
        on conflict (sha256) do update set signer = greatest(image.signer, excluded.signer),
          signature = case when 'valid' in (image.signature, excluded.signature) then 'valid' when 'invalid' in (image.signature, excluded.signature) then 'invalid'
            else coalesce(image.signature, excluded.signature) end,
          original_file_name = least(image.original_file_name, excluded.original_file_name), product = least(image.product, excluded.product),
          company = least(image.company, excluded.company), first_seen = least(image.first_seen, excluded.first_seen)
        where (greatest(image.signer, excluded.signer), least(image.first_seen, excluded.first_seen), coalesce(image.signature, excluded.signature))
          is distinct from (image.signer, image.first_seen, image.signature)",
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Notes which host had which destination, image and signer on which day.
async fn sightings(db: &mut PgConnection, marked: &Spans, flows: &[derive::flow::Flow]) -> sqlx::Result<()> {
    let mut all = BTreeSet::new();
    let computers: BTreeSet<i64> =
        sqlx::query_scalar!("select host_id from host where host_id = any($1) and kind = 'computer'", &marked.hosts())
            .fetch_all(&mut *db)
            .await?
            .into_iter()
            .collect();
    for (host, spans) in marked.iter().filter(|(h, _)| computers.contains(&h.0)) {
        for span in spans {
            let mut day = span.since().date_naive();
            while day <= (span.until() - TimeDelta::seconds(1)).date_naive() {
                all.insert(Sighting { kind: "host", value: String::new(), day, host, name: None });
                day += TimeDelta::days(1);
            }
        }
    }
    for f in flows.iter().filter(|f| f.is_outbound_external() && computers.contains(&f.host)) {
        all.insert(Sighting { kind: "destination", value: f.destination.clone(), day: f.started_at.date_naive(), host: HostId(f.host), name: None });
    }
    let a = marked.arrays();
    let rows = sqlx::query!(
        r#"-- worker::pass::sightings: images started and signers loaded
        select distinct s.host_id as "host_id!", 'image' as "kind!", f.sha256 as "value!", (f.occurred_at at time zone 'utc')::date as "day!", f.image as "image?"
        from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        join process_start f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
        where f.occurred_at between $4 and $5 and f.sha256 is not null
        union
        select distinct s.host_id, 'signer', f.signer, (f.occurred_at at time zone 'utc')::date, null
        from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        join module_load f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
        where f.occurred_at between $4 and $5 and f.signer is not null"#,
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last
    )
    .fetch_all(&mut *db)
    .await?;
    for r in rows {
        let kind = if r.kind == "image" { "image" } else { "signer" };
        let name = r.image.map(|image| copy_stem(&image)).filter(|name| !name.is_empty());
        all.insert(Sighting { kind, value: r.value, day: r.day, host: HostId(r.host_id), name });
    }
    fleet::note(db, &all).await
}

/// Makes the evidence of the spans equal to what was found, finder by finder.
async fn replace(db: &mut PgConnection, spans: &Spans, found: &[Found]) -> sqlx::Result<()> {
    let of = |codes: &[&str]| found.iter().filter(|f| codes.contains(&f.code.name())).collect::<Vec<_>>();
    let resource = ["R.SUSTAINED", "R.PERSISTENT", "R.THROTTLED", "R.PLATEAU", "R.GPU", "R.UNATTRIB"];
    let network = ["N.IOC", "N.IOC_STALE", "N.STRATUM", "N.DNSONLY"];
    // A bucket changes runs up to three buckets away; the finder reads further than that, so what it speaks for is complete.
    let a = spans.widened(TimeDelta::minutes(20), TimeDelta::minutes(20)).arrays();
    evidence::replace(db, &resource, Domain::Overlap, (&a.hosts, &a.since, &a.until), &of(&resource)).await?;
    let a = spans.widened(find::load::DUTY_REACH, find::load::DUTY_REACH).arrays();
    evidence::replace(db, &["R.DUTY"], Domain::Overlap, (&a.hosts, &a.since, &a.until), &of(&["R.DUTY"])).await?;
    let a = spans.arrays();
    evidence::replace(db, &network, Domain::First, (&a.hosts, &a.since, &a.until), &of(&network)).await?;
    let by_rule: Vec<&str> = Code::ALL
        .iter()
        .map(|c| c.name())
        .filter(|c| !resource.contains(c) && !network.contains(c) && *c != "R.DUTY")
        .collect();
    evidence::replace(db, &by_rule, Domain::Known, (&a.hosts, &a.since, &a.until), &of(&by_rule)).await
}

/// A launch artefact concerns what starts within the next 45 days; a file written, the next day.
async fn ahead(db: &mut PgConnection, marked: &Spans) -> sqlx::Result<Spans> {
    let a = marked.arrays();
    let rows = sqlx::query!(
        r#"-- worker::pass::ahead
        select f.host_id as "host_id!", min(f.occurred_at) as "since!", max(f.occurred_at) as "until!"
        from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        join persistence f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
        where f.occurred_at between $4 and $5 and f.action <> 'launch' and f.action <> 'end' group by 1
        union all
        select h.host_id, min(h.occurred_at), max(h.occurred_at)
        from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        join rule_hit h on h.host_id = s.host_id and h.occurred_at >= s.since and h.occurred_at < s.until
        where h.occurred_at between $4 and $5 and h.code = any($6) group by 1
        union all
        select p.host_id, min(p.started_at), max(p.started_at)
        from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        join process p on p.host_id = s.host_id and p.started_at >= s.since and p.started_at < s.until
        where p.image_name in ('taskmgr.exe', 'procexp.exe', 'procexp64.exe', 'procmon.exe', 'procmon64.exe', 'perfmon.exe', 'resmon.exe') group by 1"#,
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last,
        &traces::linked().map(Code::name).collect::<Vec<_>>() as &[&str]
    )
    .fetch_all(db)
    .await?;
    let mut out = Spans::default();
    for r in rows {
        if let Some(span) = Span::new(r.since, r.until + TimeDelta::days(45) + BUCKET) {
            out.add(HostId(r.host_id), span);
        }
    }
    Ok(out)
}

async fn finished(db: &mut PgConnection, report: &PassReport, now: DateTime<Utc>, duration_ms: u128) -> anyhow::Result<()> {
    sqlx::query!(
        "-- worker::pass::finished
        insert into worker_pass (finished_at, marks, hosts, duration_ms) values ($1, $2, $3, $4)
        on conflict (only_row) do update set finished_at = excluded.finished_at, marks = excluded.marks, hosts = excluded.hosts,
          duration_ms = excluded.duration_ms",
        now,
        i32::try_from(report.marks)?,
        i32::try_from(report.hosts)?,
        i32::try_from(duration_ms).unwrap_or(i32::MAX)
    )
    .execute(db)
    .await?;
    Ok(())
}
