//! Flows: what a host event says of a connection joined with what a sensor saw of it, with a name for the far end.
//!
//! A connection is keyed by its start. Sensors know addresses only: their records are found through the addresses that the host
//! showed as its own nearest in event time, so nothing depends on who reported first. Source: detection design, section 3.6.

use super::super::spans::Spans;
use crate::{
    model::{
        ids::{EventId, HostId},
        networks,
    },
    time::Span,
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, types::ipnetwork::IpNetwork};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

/// How far apart sensor and host may date one connection.
const SAME_CONNECTION: TimeDelta = TimeDelta::minutes(10);
/// How long an answer names an address.
const NAME_HOLDS: TimeDelta = TimeDelta::hours(24);

/// One connection record of any source.
#[derive(Debug, Clone)]
struct Record {
    socket: bool,
    named_only: bool,
    process: Option<(i64, i64)>,
    protocol: Option<String>,
    direction: Option<String>,
    local: (Option<IpAddr>, Option<i32>),
    remote: (Option<IpAddr>, Option<i32>),
    remote_host: Option<String>,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    bytes_out: Option<i64>,
    bytes_in: Option<i64>,
    application: Option<String>,
    event: (DateTime<Utc>, EventId),
}

/// A flow as stored.
#[derive(Debug, Clone)]
pub(in crate::worker) struct Flow {
    pub(in crate::worker) host: i64,
    pub(in crate::worker) started_at: DateTime<Utc>,
    flow_id: i64,
    pub(in crate::worker) process_id: Option<i64>,
    pub(in crate::worker) group_key: Option<i64>,
    pub(in crate::worker) remote_ip: Option<IpAddr>,
    pub(in crate::worker) remote_port: Option<i32>,
    pub(in crate::worker) remote_host: Option<String>,
    pub(in crate::worker) destination: String,
    external: bool,
    protocol: Option<String>,
    direction: Option<String>,
    pub(in crate::worker) ended_at: Option<DateTime<Utc>>,
    bytes_out: Option<i64>,
    bytes_in: Option<i64>,
    pub(in crate::worker) application: Option<String>,
    pub(in crate::worker) event: (DateTime<Utc>, EventId),
}

impl Flow {
    /// Whether the host itself went out to the world.
    pub(in crate::worker) fn is_outbound_external(&self) -> bool {
        self.external && self.direction.as_deref() != Some("inbound") && !self.destination.is_empty()
    }
}

/// Derives the flows that start in the spans; answers them all, and the stretches they cover.
pub(in crate::worker) async fn derive(db: &mut PgConnection, spans: &Spans) -> anyhow::Result<(Vec<Flow>, Spans)> {
    answers(db, spans).await?;
    let records = records(db, &spans.widened(SAME_CONNECTION, SAME_CONNECTION)).await?;
    let mut flows = Vec::new();
    for (host, records) in records {
        flows.extend(join(records).into_iter().filter(|r| spans.holds(HostId(host), r.started_at)).map(|r| flow(host, r)));
    }
    name(db, &mut flows).await?;
    let mut covered = Spans::default();
    for flow in &flows {
        if let Some(span) = Span::new(flow.started_at, flow.ended_at.unwrap_or(flow.started_at) + TimeDelta::seconds(1)) {
            covered.add(HostId(flow.host), span);
        }
    }
    replace(db, spans, &flows).await?;
    Ok((flows, covered.merged()))
}

/// Sockets first; each takes the nearest sensor record of its five-tuple; records of one connection are one.
fn join(records: Vec<Record>) -> Vec<Record> {
    let mut by_ends: BTreeMap<_, Vec<Record>> = BTreeMap::new();
    for r in records {
        by_ends.entry((r.protocol.clone(), r.local, r.remote)).or_default().push(r);
    }
    let mut out = Vec::new();
    for (_, mut records) in by_ends {
        records.sort_by_key(|r| (!r.socket, r.named_only, r.started_at, r.event.1));
        let mut joined: Vec<Record> = Vec::new();
        for r in records {
            let tuple = r.local.1.is_some() && r.remote.0.is_some();
            let nearest = joined
                .iter_mut()
                .filter(|j| tuple && (!r.socket || j.event == r.event) && (j.started_at - r.started_at).abs() <= SAME_CONNECTION)
                .min_by_key(|j| (j.started_at - r.started_at).abs());
            match nearest {
                Some(j) => j.learn(r),
                None => joined.push(r),
            }
        }
        out.extend(joined);
    }
    out
}

impl Record {
    /// Takes over what another record of the same connection knows; a duration is kept, not the sensor's clock.
    fn learn(&mut self, other: Self) {
        let length = other.ended_at.map(|end| end - other.started_at);
        if let Some(length) = length {
            let end = self.started_at + length;
            self.ended_at = Some(self.ended_at.map_or(end, |e| e.max(end)));
        }
        self.bytes_out = self.bytes_out.max(other.bytes_out);
        self.bytes_in = self.bytes_in.max(other.bytes_in);
        self.remote_host = self.remote_host.take().or(other.remote_host);
        self.application = self.application.take().or(other.application);
        self.direction = self.direction.take().or(other.direction);
        self.named_only &= other.named_only;
    }
}

fn flow(host: i64, r: Record) -> Flow {
    let id = EventId::of_parts([
        b"flow".as_slice(),
        &r.event.0.timestamp_micros().to_be_bytes(),
        r.event.1.0.as_bytes(),
    ]);
    let remote_host = r.remote_host.map(|h| h.trim_end_matches('.').to_lowercase()).filter(|h| !h.is_empty());
    Flow {
        host,
        started_at: r.started_at,
        flow_id: id.0.as_u64_pair().0.cast_signed(),
        process_id: r.process.map(|p| p.0),
        group_key: r.process.map(|p| p.1),
        remote_ip: r.remote.0,
        remote_port: r.remote.1,
        destination: remote_host.clone().or_else(|| r.remote.0.map(|ip| ip.to_string())).unwrap_or_default(),
        external: r.remote.0.map_or(remote_host.is_some(), networks::is_external),
        remote_host,
        protocol: r.protocol,
        direction: r.direction,
        ended_at: r.ended_at,
        bytes_out: r.bytes_out,
        bytes_in: r.bytes_in,
        application: r.application,
        event: r.event,
    }
}

/// Connection records of the hosts themselves and of sensors that saw their addresses.
async fn records(db: &mut PgConnection, spans: &Spans) -> sqlx::Result<BTreeMap<i64, Vec<Record>>> {
    let a = spans.arrays();
    let rows = sqlx::query!(
        r#"-- worker::derive::flow::records
        with span as materialized (select * from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)),
        source as (
          select host_id as owner, host_id as source, null::inet as address, since, until from span
          union all
          select distinct s.host_id, a.host_id, g.address, s.since, s.until
          from span s
          join address_sighting g on g.host_id = s.host_id and g.hour between s.since - interval '1 day' and s.until + interval '1 day'
          join host_alias a on a.alias = 'address:' || host(g.address)
        )
        select s.owner as "owner!", c.kind, c.protocol, c.direction, c.local_ip, c.local_port, c.remote_ip, c.remote_port, c.remote_host,
          coalesce(c.started_at, c.occurred_at) as "started_at!", c.ended_at, c.bytes_out, c.bytes_in, c.application,
          c.occurred_at, c.event_id as "event_id: EventId", p.process_id as "process_id?", p.group_key as "group_key?"
        from source s join connection c on c.host_id = s.source and c.occurred_at >= s.since and c.occurred_at < s.until
        left join lateral (
          select q.process_id, q.group_key from process q
          where q.host_id = c.host_id and (q.guid = c.guid or c.guid is null and q.pid = c.pid
            and q.started_at <= c.occurred_at + interval '2 seconds'
            and (q.ended_at is null or q.ended_at > c.occurred_at - interval '2 seconds'))
          order by q.started_at desc, q.process_id limit 1
        ) p on c.guid is not null or c.pid is not null
        where c.occurred_at between $4 and $5
          and (s.address is null or not exists (
            -- the address belongs to whoever showed it nearest in time
            select from address_sighting o
            where o.address = s.address and o.host_id <> s.owner and o.hour between c.occurred_at - interval '1 day' and c.occurred_at + interval '1 day'
              and abs(extract(epoch from o.hour - c.occurred_at)) < (
                select min(abs(extract(epoch from m.hour - c.occurred_at))) from address_sighting m
                where m.address = s.address and m.host_id = s.owner)))"#,
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last
    )
    .fetch_all(db)
    .await?;
    let mut out: BTreeMap<i64, Vec<Record>> = BTreeMap::new();
    for r in rows {
        out.entry(r.owner).or_default().push(Record {
            socket: r.kind.as_deref() == Some("socket"),
            named_only: r.kind.as_deref() == Some("name"),
            process: r.process_id.zip(r.group_key),
            protocol: r.protocol,
            direction: r.direction,
            local: (r.local_ip.map(|n| n.ip()), r.local_port),
            remote: (r.remote_ip.map(|n| n.ip()), r.remote_port),
            remote_host: r.remote_host,
            started_at: r.started_at,
            ended_at: r.ended_at,
            bytes_out: r.bytes_out,
            bytes_in: r.bytes_in,
            application: r.application,
            event: (r.occurred_at, r.event_id),
        });
    }
    Ok(out)
}

/// Keeps which name led to which address.
async fn answers(db: &mut PgConnection, spans: &Spans) -> sqlx::Result<()> {
    let a = spans.arrays();
    sqlx::query!(
        "-- worker::derive::flow::answers
        insert into dns_answer (host_id, address, answered_at, name, process_id)
        select distinct on (f.host_id, address, f.occurred_at, f.query) f.host_id, address, f.occurred_at, f.query, p.process_id
        from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        join dns_query f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
        cross join lateral unnest(f.addresses) as address
        left join process p on p.host_id = f.host_id and p.guid = f.guid
        where f.occurred_at between $4 and $5 and f.query is not null
        order by f.host_id, address, f.occurred_at, f.query, p.process_id
        on conflict (host_id, address, answered_at, name) do update set process_id = excluded.process_id
        where dns_answer.process_id is distinct from excluded.process_id",
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

/// Names flows without one: the answer to the same process, else to the host or its sensor, within 24 hours before.
async fn name(db: &mut PgConnection, flows: &mut [Flow]) -> sqlx::Result<()> {
    let unnamed: Vec<usize> = (0..flows.len()).filter(|n| flows[*n].remote_host.is_none() && flows[*n].remote_ip.is_some()).collect();
    if unnamed.is_empty() {
        return Ok(());
    }
    let hosts: Vec<i64> = unnamed.iter().map(|n| flows[*n].host).collect();
    let addresses: Vec<IpNetwork> = unnamed.iter().filter_map(|n| flows[*n].remote_ip.map(IpNetwork::from)).collect();
    let times: Vec<DateTime<Utc>> = unnamed.iter().map(|n| flows[*n].started_at).collect();
    let processes: Vec<Option<i64>> = unnamed.iter().map(|n| flows[*n].process_id).collect();
    let rows = sqlx::query!(
        r#"-- worker::derive::flow::name
        with k as materialized (
          select * from unnest($1::bigint[], $2::inet[], $3::timestamptz[], $4::bigint[]) with ordinality as k (host_id, address, at, process_id, n)
        ),
        source as materialized (
          -- answers that the host itself reported, or a sensor for an address of it
          select distinct host_id as owner, host_id as source from k
          union
          select distinct o.host_id, a.host_id
          from (select host_id, min(at) as first, max(at) as last from k group by 1) o
          join address_sighting g on g.host_id = o.host_id and g.hour between o.first - interval '1 day' and o.last + interval '1 day'
          join host_alias a on a.alias = 'address:' || host(g.address)
        )
        select k.n as "n!", d.name
        from k
        cross join lateral (
          select d.name from source s join dns_answer d on d.host_id = s.source and d.address = k.address
            and d.answered_at between k.at - $5::interval and k.at + interval '5 seconds'
          where s.owner = k.host_id
          order by (d.process_id is not distinct from k.process_id and d.process_id is not null) desc, d.answered_at desc, d.name limit 1
        ) d"#,
        &hosts,
        &addresses,
        &times,
        &processes as &[Option<i64>],
        sqlx::postgres::types::PgInterval::try_from(NAME_HOLDS).unwrap_or_default(),
    )
    .fetch_all(db)
    .await?;
    let names: HashMap<i64, String> = rows.into_iter().map(|r| (r.n, r.name)).collect();
    for (n, at) in (1..).zip(&unnamed) {
        if let Some(name) = names.get(&n) {
            flows[*at].destination.clone_from(name);
            flows[*at].remote_host = Some(name.clone());
        }
    }
    Ok(())
}

async fn replace(db: &mut PgConnection, spans: &Spans, flows: &[Flow]) -> sqlx::Result<()> {
    let a = spans.arrays();
    sqlx::query!(
        "-- worker::derive::flow::replace: empty the spans
        delete from flow f using unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        where f.host_id = s.host_id and f.started_at >= s.since and f.started_at < s.until and f.started_at between $4 and $5",
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last
    )
    .execute(&mut *db)
    .await?;
    macro_rules! column { ($f:expr) => { flows.iter().map($f).collect::<Vec<_>>() } }
    sqlx::query!(
        "-- worker::derive::flow::replace
        insert into flow (host_id, started_at, flow_id, process_id, group_key, remote_ip, remote_port, remote_host, destination, external,
          protocol, direction, ended_at, bytes_out, bytes_in, application, event_at, event_id)
        select * from unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[], $6::inet[], $7::integer[],
          $8::text[], $9::text[], $10::boolean[], $11::text[], $12::text[], $13::timestamptz[], $14::bigint[], $15::bigint[], $16::text[],
          $17::timestamptz[], $18::uuid[])
        on conflict (host_id, started_at, flow_id) do nothing",
        &column!(|f| f.host),
        &column!(|f| f.started_at),
        &column!(|f| f.flow_id),
        &column!(|f| f.process_id) as &[Option<i64>],
        &column!(|f| f.group_key) as &[Option<i64>],
        &column!(|f| f.remote_ip.map(IpNetwork::from)) as &[Option<IpNetwork>],
        &column!(|f| f.remote_port) as &[Option<i32>],
        &column!(|f| f.remote_host.as_deref()) as &[Option<&str>],
        &column!(|f| f.destination.as_str()) as &[&str],
        &column!(|f| f.external),
        &column!(|f| f.protocol.as_deref()) as &[Option<&str>],
        &column!(|f| f.direction.as_deref()) as &[Option<&str>],
        &column!(|f| f.ended_at) as &[Option<DateTime<Utc>>],
        &column!(|f| f.bytes_out) as &[Option<i64>],
        &column!(|f| f.bytes_in) as &[Option<i64>],
        &column!(|f| f.application.as_deref()) as &[Option<&str>],
        &column!(|f| f.event.0),
        &column!(|f| f.event.1.0),
    )
    .execute(db)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(socket: bool, start: i64, end: Option<i64>) -> Record {
        let at = |s| DateTime::from_timestamp(s, 0).unwrap();
        Record {
            socket,
            named_only: false,
            process: socket.then_some((1, 2)),
            protocol: Some("tcp".into()),
            direction: None,
            local: ("10.0.0.5".parse().ok(), Some(50_000)),
            remote: ("203.0.113.9".parse().ok(), Some(3333)),
            remote_host: None,
            started_at: at(start),
            ended_at: end.map(at),
            bytes_out: end.map(|_| 10),
            bytes_in: None,
            application: None,
            event: (at(start), EventId(uuid::Uuid::from_u128(u128::from(start.unsigned_abs()) * 2 + u128::from(socket)))),
        }
    }

    #[test]
    fn a_sensor_with_a_skewed_clock_gives_its_duration_not_its_time() {
        let joined = join(vec![record(false, 1_240, Some(4_840)), record(true, 1_000, None)]);
        assert_eq!(joined.len(), 1);
        assert_eq!(joined[0].started_at.timestamp(), 1_000);
        assert_eq!(joined[0].ended_at.map(|e| e.timestamp()), Some(4_600));
        assert_eq!(joined[0].process, Some((1, 2)));
    }

    #[test]
    fn interim_and_final_records_of_one_connection_are_one_flow() {
        let joined = join(vec![record(false, 1_000, Some(1_600)), record(false, 1_000, Some(9_000))]);
        assert_eq!(joined.len(), 1);
        assert_eq!(joined[0].ended_at.map(|e| e.timestamp()), Some(9_000));
    }

    #[test]
    fn two_sockets_of_one_port_pair_stay_two() {
        assert_eq!(join(vec![record(true, 1_000, None), record(true, 1_060, None)]).len(), 2);
    }
}
