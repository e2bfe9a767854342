//! Campaigns: detections of several hosts that share what the fleet does not. Recorded with each detection, linked when no host waits.
//!
//! Source: detection design, section 8.7. Links rest on stored detections and fleet bands only; equal facts give equal campaigns.

use crate::model::{
    detection::{Content, Verdict},
    fingerprint::{self, Fingerprint},
    ids::{DetectionId, HostId},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};

/// Detections further apart are different stories.
const APART: TimeDelta = TimeDelta::days(7);
/// So many hosts with one thing within this time are an outbreak, which raises severity. Source: detection design, section 7.
const OUTBREAK: (usize, TimeDelta) = (3, TimeDelta::hours(24));

/// Keeps what a detection shares. What is not in the queue shares nothing.
///
/// # Errors
/// Whatever the database says.
pub async fn note(db: &mut PgConnection, id: DetectionId, content: &Content) -> sqlx::Result<()> {
    let shared: BTreeSet<Fingerprint> = if content.verdict.in_queue() { fingerprint::of(content) } else { BTreeSet::new() };
    let (kinds, values): (Vec<&str>, Vec<String>) = shared.into_iter().unzip();
    sqlx::query!(
        "-- store::campaigns::note: others that shared what is gone are looked at again
        with gone as (
          delete from fingerprint f where host_id = $1 and detection_id = $2
            and not exists (select from unnest($3::text[], $4::text[]) as s (kind, value) where s.kind = f.kind and s.value = f.value)
          returning kind, value
        )
        update fingerprint f set linked = false from gone g
        where f.kind = g.kind and f.value = g.value and (f.host_id, f.detection_id) <> ($1, $2)",
        id.host.0,
        id.own,
        &kinds as &[&str],
        &values
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "-- store::campaigns::note
        insert into fingerprint (host_id, detection_id, kind, value)
        select $1, $2, kind, value from unnest($3::text[], $4::text[]) as s (kind, value) order by kind, value on conflict do nothing",
        id.host.0,
        id.own,
        &kinds as &[&str],
        &values
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets what a detection shared.
///
/// # Errors
/// Whatever the database says.
pub async fn forget(db: &mut PgConnection, id: DetectionId) -> sqlx::Result<()> {
    sqlx::query!(
        "-- store::campaigns::forget
        with gone as (delete from fingerprint where host_id = $1 and detection_id = $2 returning kind, value)
        update fingerprint f set linked = false from gone g
        where f.kind = g.kind and f.value = g.value and (f.host_id, f.detection_id) <> ($1, $2)",
        id.host.0,
        id.own
    )
    .execute(db)
    .await?;
    Ok(())
}

/// One detection with one thing it shares.
struct Sharing {
    id: (i64, i64),
    first_seen: DateTime<Utc>,
    thing: (String, String),
}

/// Links detections anew if something changed, or if the fleet's knowledge did; answers how many detections are to be judged again.
///
/// # Errors
/// Whatever the database says.
pub async fn link(db: &mut PgConnection, fleet_changed: bool, now: DateTime<Utc>) -> sqlx::Result<usize> {
    let waiting = sqlx::query_scalar!(
        r#"-- store::campaigns::link
        select exists (select from fingerprint where not linked) as "waiting!""#
    )
    .fetch_one(&mut *db)
    .await?;
    if !waiting && !fleet_changed {
        return Ok(0);
    }
    let rows = sqlx::query!(
        r#"-- store::campaigns::link: what do detections share that the fleet does not?
        select f.host_id, f.detection_id, f.kind, f.value, d.first_seen from fingerprint f join detection d using (host_id, detection_id)
        left join fleet_band b on b.kind = case f.kind when 'sha256' then 'image' else f.kind end and b.value = f.value
          and b.day = (d.first_seen at time zone 'utc')::date
        where case f.kind when 'destination' then b.band is distinct from 'prevalent' when 'sha256' then coalesce(b.band, 'rare') = 'rare' else true end
        order by f.kind, f.value, d.first_seen, f.host_id, f.detection_id"#
    )
    .fetch_all(&mut *db)
    .await?;
    let sharing: Vec<Sharing> = rows
        .into_iter()
        .map(|r| Sharing { id: (r.host_id, r.detection_id), first_seen: r.first_seen, thing: (r.kind, r.value) })
        .collect();
    let names = name(&sharing);
    let ids: Vec<(i64, i64)> = names.keys().copied().collect();
    sqlx::query!(
        "-- store::campaigns::link: what is no campaign any more loses its name, too
        with named as (select * from unnest($1::bigint[], $2::bigint[], $3::text[]) as n (host_id, detection_id, campaign))
        update detection d set campaign = n.campaign, version = d.version + 1, updated_at = $4
        from detection o left join named n using (host_id, detection_id)
        where d.host_id = o.host_id and d.detection_id = o.detection_id and (o.campaign is not null or n.campaign is not null)
          and d.campaign is distinct from n.campaign",
        &ids.iter().map(|i| i.0).collect::<Vec<_>>(),
        &ids.iter().map(|i| i.1).collect::<Vec<_>>(),
        &names.into_values().collect::<Vec<_>>(),
        now
    )
    .execute(&mut *db)
    .await?;
    let again = mark_outbreaks(db, &sharing, now).await?;
    sqlx::query!("-- store::campaigns::link\nupdate fingerprint set linked = true where not linked").execute(db).await?;
    Ok(again)
}

/// Says of each fingerprint whether it is part of an outbreak; where that changed, the severity is judged again.
async fn mark_outbreaks(db: &mut PgConnection, sharing: &[Sharing], now: DateTime<Utc>) -> sqlx::Result<usize> {
    let spread = outbreaks(sharing);
    macro_rules! column { ($f:expr) => { spread.iter().map($f).collect::<Vec<_>>() } }
    let marked = sqlx::query!(
        "-- store::campaigns::mark_outbreaks
        with spread as (select * from unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) as s (host_id, detection_id, kind, value)),
        changed as (
          update fingerprint f set spread = not f.spread
          where f.spread <> exists (select from spread s where (s.host_id, s.detection_id, s.kind, s.value) = (f.host_id, f.detection_id, f.kind, f.value))
          returning host_id, detection_id
        )
        insert into mark (host_id, bucket, batch_id, marked_at)
        select distinct c.host_id, date_bin('5 minutes', d.first_seen, 'epoch'), $5::bigint, $6::timestamptz
        from changed c join detection d using (host_id, detection_id)",
        &column!(|s| s.id.0),
        &column!(|s| s.id.1),
        &column!(|s| s.thing.0.as_str()) as &[&str],
        &column!(|s| s.thing.1.as_str()) as &[&str],
        rand::random::<i64>() & i64::MAX,
        now
    )
    .execute(db)
    .await?;
    Ok(usize::try_from(marked.rows_affected()).unwrap_or(usize::MAX))
}

/// What is in some stretch of a day in which enough hosts share it. Ordered by thing and time, as the query orders it.
fn outbreaks(sharing: &[Sharing]) -> Vec<&Sharing> {
    let (most, day) = OUTBREAK;
    let mut found = Vec::new();
    for same in sharing.chunk_by(|a, b| a.thing == b.thing) {
        // where the last outbreak of this thing ended
        let mut done = 0;
        for (n, first) in same.iter().enumerate() {
            let end = n + same[n..].partition_point(|s| s.first_seen - first.first_seen <= day);
            if end > done && same[n..end].iter().map(|s| s.id.0).collect::<BTreeSet<_>>().len() >= most {
                found.extend(&same[n.max(done)..end]);
                done = end;
            }
        }
    }
    found
}

/// Who stands for a detection: follow the leaders up.
fn root(leader: &BTreeMap<(i64, i64), (i64, i64)>, mut id: (i64, i64)) -> (i64, i64) {
    while let Some(next) = leader.get(&id).filter(|next| **next != id) {
        id = *next;
    }
    id
}

/// Campaign of each detection that has one: connected detections of at least two hosts, named for the earliest thing they share.
fn name(sharing: &[Sharing]) -> BTreeMap<(i64, i64), String> {
    let mut leader: BTreeMap<(i64, i64), (i64, i64)> = sharing.iter().map(|s| (s.id, s.id)).collect();
    for pair in sharing.windows(2) {
        if let [a, b] = pair
            && a.thing == b.thing
            && b.first_seen - a.first_seen <= APART
        {
            let (from, to) = (root(&leader, a.id), root(&leader, b.id));
            leader.insert(from.max(to), from.min(to));
        }
    }
    let mut members: BTreeMap<(i64, i64), Vec<&Sharing>> = BTreeMap::new();
    for s in sharing {
        members.entry(root(&leader, s.id)).or_default().push(s);
    }
    members.retain(|_, all| all.iter().map(|s| s.id.0).collect::<BTreeSet<_>>().len() >= 2);
    let mut names = BTreeMap::new();
    for all in members.values() {
        let Some(first) = all.iter().min_by(|a, b| (a.first_seen, &a.thing).cmp(&(b.first_seen, &b.thing))) else { continue };
        let digest = Sha256::digest(format!("{} {}", first.thing.0, first.thing.1));
        let short = digest.iter().take(3).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let name = format!("C-{}-{short}", first.first_seen.format("%Y%m%d"));
        names.extend(all.iter().map(|s| (s.id, name.clone())));
    }
    names
}

/// A campaign as it is served.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Campaign {
    /// As detections carry it.
    pub name: String,
    /// Names of its hosts.
    pub hosts: Vec<String>,
    /// Its detections, the earliest first.
    pub detections: Vec<DetectionId>,
    /// Not closed yet.
    pub open: i64,
    /// Strongest verdict among them.
    pub verdict: Verdict,
    /// Event time.
    pub first_seen: DateTime<Utc>,
    /// Event time.
    pub last_seen: DateTime<Utc>,
    /// What at least two of its hosts share.
    pub shared: Vec<Shared>,
}

/// One thing that hosts of a campaign share.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shared {
    /// `destination`, `sha256`, `wallet` or `task`.
    pub kind: String,
    /// The thing.
    pub value: String,
    /// Hosts of the campaign that have it.
    pub hosts: i64,
}

/// Campaigns, the latest first, at most 200; `name` asks for one.
///
/// # Errors
/// Whatever the database says; a stored verdict that cannot be read.
pub async fn list(db: &mut PgConnection, name: Option<&str>) -> anyhow::Result<Vec<Campaign>> {
    let rows = sqlx::query!(
        r#"-- store::campaigns::list
        with listed as (
          select campaign, max(last_seen) as latest from detection where campaign is not null and ($1::text is null or campaign = $1)
          group by 1 order by 2 desc, 1 limit 200
        )
        select l.campaign as "campaign!", d.host_id, d.detection_id, h.name, d.verdict, d.status, d.first_seen, d.last_seen
        from listed l join detection d using (campaign) join host h using (host_id)
        order by l.latest desc, l.campaign, d.first_seen, d.host_id, d.detection_id"#,
        name
    )
    .fetch_all(&mut *db)
    .await?;
    let mut out: Vec<Campaign> = Vec::new();
    for r in rows {
        let verdict: Verdict = r.verdict.parse()?;
        if out.last().is_none_or(|c| c.name != r.campaign) {
            out.push(Campaign {
                name: r.campaign,
                hosts: Vec::new(),
                detections: Vec::new(),
                open: 0,
                verdict,
                first_seen: r.first_seen,
                last_seen: r.last_seen,
                shared: Vec::new(),
            });
        }
        let Some(campaign) = out.last_mut() else { continue };
        if !campaign.hosts.contains(&r.name) {
            campaign.hosts.push(r.name);
        }
        campaign.detections.push(DetectionId { host: HostId(r.host_id), own: r.detection_id });
        campaign.open += i64::from(r.status != "closed");
        campaign.verdict = campaign.verdict.max(verdict);
        campaign.last_seen = campaign.last_seen.max(r.last_seen);
    }
    let names: Vec<String> = out.iter().map(|c| c.name.clone()).collect();
    let shared = sqlx::query!(
        r#"-- store::campaigns::list: what they share
        select d.campaign as "campaign!", f.kind, f.value, count(distinct f.host_id) as "hosts!"
        from detection d join fingerprint f using (host_id, detection_id) where d.campaign = any($1)
        group by 1, 2, 3 having count(distinct f.host_id) >= 2 order by 1, 4 desc, 2, 3"#,
        &names
    )
    .fetch_all(db)
    .await?;
    for s in shared {
        if let Some(campaign) = out.iter_mut().find(|c| c.name == s.campaign) {
            campaign.shared.push(Shared { kind: s.kind, value: s.value, hosts: s.hosts });
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_hosts_within_a_day_are_an_outbreak() {
        let sharing = |host: i64, hour: i64, value: &str| Sharing {
            id: (host, 1),
            first_seen: DateTime::UNIX_EPOCH + TimeDelta::hours(hour),
            thing: ("sha256".to_owned(), value.to_owned()),
        };
        // a: hosts 1 to 4 overlap in threes, 5 comes too late. b: two hosts, one of them twice.
        let all = [
            sharing(1, 0, "a"),
            sharing(2, 20, "a"),
            sharing(3, 24, "a"),
            sharing(4, 40, "a"),
            sharing(5, 65, "a"),
            sharing(6, 0, "b"),
            sharing(6, 1, "b"),
            sharing(7, 2, "b"),
        ];
        assert_eq!(outbreaks(&all).iter().map(|s| s.id.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn detections_of_two_hosts_within_a_week_are_one_campaign() {
        let sharing = |host: i64, day: i64, kind: &str, value: &str| Sharing {
            id: (host, 1),
            first_seen: DateTime::UNIX_EPOCH + TimeDelta::days(day),
            thing: (kind.to_owned(), value.to_owned()),
        };
        // As the query orders them. 1-2-3 are a chain over two things; 4 comes too late; 5 shares with nobody.
        let names = name(&[
            sharing(1, 0, "destination", "a.example"),
            sharing(2, 6, "destination", "a.example"),
            sharing(4, 20, "destination", "a.example"),
            sharing(5, 0, "sha256", "ff"),
            sharing(2, 6, "wallet", "w"),
            sharing(3, 12, "wallet", "w"),
        ]);
        assert_eq!(names.keys().map(|id| id.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(names.values().collect::<BTreeSet<_>>().len(), 1);
        assert!(names[&(1, 1)].starts_with("C-19700101-"));
    }
}
