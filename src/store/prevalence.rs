//! Who talks where: network destinations with how many hosts share them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

/// A destination of the fleet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Destination {
    /// Name if known, else address.
    pub destination: String,
    /// Hosts that talked to it in the span.
    pub hosts: i64,
    /// Contacts in the span.
    pub flows: i64,
    /// Its ports, smallest first, at most ten.
    pub ports: Vec<i32>,
    /// Both directions; absent = no source counts bytes.
    pub bytes: Option<i64>,
    /// Event time.
    pub first_seen: DateTime<Utc>,
    /// Event time.
    pub last_seen: DateTime<Utc>,
    /// Category of the indicator that names it, if one does.
    pub indicator: Option<String>,
}

/// Which destinations. The span is bound, so that partitions outside are not opened.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Part of the name or address.
    pub q: Option<String>,
    /// First instant.
    pub since: DateTime<Utc>,
    /// First instant after.
    pub until: DateTime<Utc>,
    /// Destinations after this one.
    pub after: Option<String>,
    /// At most so many.
    pub limit: i64,
}

/// External destinations by name.
pub async fn list(conn: &mut PgConnection, filter: &Filter) -> sqlx::Result<Vec<Destination>> {
    sqlx::query_as!(
        Destination,
        r#"with met as (
             select destination, count(distinct host_id) as hosts, count(*) as flows,
               (array_agg(distinct remote_port order by remote_port) filter (where remote_port is not null))[1:10] as ports,
               sum(coalesce(bytes_out, 0) + coalesce(bytes_in, 0)) filter (where bytes_out is not null or bytes_in is not null) as bytes,
               min(started_at) as first_seen, max(coalesce(ended_at, started_at)) as last_seen, min(remote_ip) as remote_ip
             from flow
             where external and started_at >= $1 and started_at < $2 and ($3::text is null or strpos(lower(destination), lower($3)) > 0)
               and ($4::text is null or destination > $4)
             group by destination order by destination limit $5
           )
           select m.destination, m.hosts as "hosts!", m.flows as "flows!", coalesce(m.ports, '{}') as "ports!", m.bytes::bigint as bytes,
             m.first_seen as "first_seen!", m.last_seen as "last_seen!",
             (select i.category from indicator i
              where (i.kind = 'domain' and (lower(m.destination) = i.value or right(lower(m.destination), length(i.value) + 1) = '.' || i.value))
                 or case when i.kind in ('ip', 'cidr') then m.remote_ip <<= i.value::inet end
              order by i.indicator_id limit 1) as "indicator?"
           from met m order by m.destination"#,
        filter.since,
        filter.until,
        filter.q,
        filter.after,
        filter.limit
    )
    .fetch_all(conn)
    .await
}

/// Latest event time of any host: where a default span ends, so that an import of last year's logs shows something.
pub async fn latest_event(conn: &mut PgConnection) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!("select max(last_seen) from host").fetch_one(conn).await
}
