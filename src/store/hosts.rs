//! Hosts and what people say of them: tier, role, class and tags. Who a record belongs to is settled in `intake`.

use super::{
    audit::{self, Actor, Deed},
    marks,
};
use crate::model::{
    exceptions::{HostBody, Scope},
    ids::{HostId, as_text},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

/// A machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Host {
    /// Key.
    #[serde(serialize_with = "as_text")]
    pub id: HostId,
    /// Lower case; the longest name known.
    pub name: String,
    /// 1 crown jewel to 4 lab.
    pub tier: Option<i16>,
    /// What it does.
    pub role: Option<String>,
    /// Class for baselines and scopes.
    pub class: Option<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// Whether it runs a server edition, if that was seen.
    pub server_edition: Option<bool>,
    /// Event time; absent before its first event.
    pub first_seen: Option<DateTime<Utc>>,
    /// Event time.
    pub last_seen: Option<DateTime<Utc>>,
    /// Processors.
    pub logical_cpus: Option<i32>,
}

impl Host {
    /// What people said of it.
    pub fn said(&self) -> HostBody {
        HostBody {
            name: self.name.clone(),
            tier: self.tier,
            class: self.class.clone(),
            role: self.role.clone(),
            tags: Some(self.tags.clone()),
        }
    }
}

/// One host by full or short name, whatever the case; of several with that short name the one seen last.
pub async fn find(conn: &mut PgConnection, name: &str) -> sqlx::Result<Option<Host>> {
    sqlx::query_as!(
        Host,
        r#"select h.host_id as "id: HostId", h.name, h.tier, h.role, h.class, h.tags, h.server_edition, h.first_seen, h.last_seen, h.logical_cpus
           from host h left join host_alias a using (host_id)
           where h.kind <> 'none' and (h.name = lower($1) or a.alias in ('name:' || lower($1), 'address:' || lower($1))
             or (a.label = split_part(lower($1), '.', 1) and (strpos($1, '.') = 0 or strpos(h.name, '.') = 0)))
           order by h.name = lower($1) desc, a.alias = 'name:' || lower($1) desc nulls last, h.last_seen desc nulls last, h.host_id
           limit 1"#,
        name
    )
    .fetch_optional(conn)
    .await
}

/// Name of a host.
pub async fn name(conn: &mut PgConnection, host: HostId) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!("select name from host where host_id = $1", host.0).fetch_optional(conn).await
}

/// Which hosts to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Part of the name.
    pub q: Option<String>,
    /// Class.
    pub class: Option<String>,
    /// One of its tags.
    pub tag: Option<String>,
    /// Names after this one.
    pub after: Option<String>,
    /// At most so many.
    pub limit: i64,
}

/// Hosts by name.
pub async fn list(conn: &mut PgConnection, filter: &Filter) -> sqlx::Result<Vec<Host>> {
    sqlx::query_as!(
        Host,
        r#"select host_id as "id: HostId", name, tier, role, class, tags, server_edition, first_seen, last_seen, logical_cpus
           from host
           where kind <> 'none' and ($1::text is null or strpos(name, lower($1)) > 0) and ($2::text is null or class = $2)
             and ($3::text is null or $3 = any(tags)) and ($4::text is null or name > $4)
           order by name, host_id limit $5"#,
        filter.q,
        filter.class,
        filter.tag,
        filter.after,
        filter.limit
    )
    .fetch_all(conn)
    .await
}

/// Hosts that a scope means.
pub async fn in_scope(conn: &mut PgConnection, scope: &Scope) -> sqlx::Result<Vec<HostId>> {
    let hosts = sqlx::query!(r#"select host_id as "id: HostId", name, class, tags from host where kind <> 'none'"#).fetch_all(conn).await?;
    Ok(hosts.into_iter().filter(|h| scope.holds(&h.name, h.class.as_deref(), &h.tags)).map(|h| h.id).collect())
}

/// A host as it is now, and whether it was made for this.
#[derive(Debug, Clone)]
pub struct Upserted {
    /// The row.
    pub host: Host,
    /// It was not known before.
    pub created: bool,
    /// It was known, and is described otherwise now.
    pub changed: bool,
}

/// Says what a host is, also before it was ever seen. What the body leaves out stays as it is.
pub async fn upsert(conn: &mut PgConnection, body: &HostBody, by: &Actor, now: DateTime<Utc>) -> anyhow::Result<Upserted> {
    let name = body.name.trim().to_lowercase();
    // The lock of `intake::directory`: two names of one machine must not become two hosts.
    sqlx::query!("select pg_advisory_xact_lock(hashtext('coalface.directory'))").execute(&mut *conn).await?;
    let known = find(conn, &name).await?;
    let created = known.is_none();
    let host = match known {
        Some(host) => host,
        None => insert(conn, &name, now).await?,
    };
    let after = Host {
        tier: body.tier.or(host.tier),
        role: body.role.clone().or_else(|| host.role.clone()),
        class: body.class.clone().or_else(|| host.class.clone()),
        tags: body.tags.clone().unwrap_or_else(|| host.tags.clone()),
        ..host.clone()
    };
    let changed = !created && after != host;
    Ok(Upserted { host: write(conn, &host, after, by, now).await?, created, changed })
}

async fn insert(conn: &mut PgConnection, name: &str, now: DateTime<Utc>) -> sqlx::Result<Host> {
    let address = name.parse::<std::net::IpAddr>().is_ok();
    let host = sqlx::query_as!(
        Host,
        r#"insert into host (name, kind, created_at) values ($1, $2, $3)
           returning host_id as "id: HostId", name, tier, role, class, tags, server_edition, first_seen, last_seen, logical_cpus"#,
        name,
        if address { "address" } else { "computer" },
        now
    )
    .fetch_one(&mut *conn)
    .await?;
    // The alias makes the host's first event find this row.
    sqlx::query!(
        "insert into host_alias (alias, host_id, label) values ($1, $2, $3) on conflict (alias) do nothing",
        format!("{}:{name}", if address { "address" } else { "name" }),
        host.id.0,
        (!address).then(|| name.split('.').next().unwrap_or(name))
    )
    .execute(conn)
    .await?;
    Ok(host)
}

/// Replaces what people say of a host.
pub async fn describe(conn: &mut PgConnection, before: &Host, body: HostBody, by: &Actor, now: DateTime<Utc>) -> anyhow::Result<Host> {
    let HostBody { name: _, tier, class, role, tags } = body;
    write(conn, before, Host { tier, class, role, tags: tags.unwrap_or_default(), ..before.clone() }, by, now).await
}

/// Takes back everything people said of a host. The row stays: its events point at it.
pub async fn forget(conn: &mut PgConnection, before: &Host, by: &Actor, now: DateTime<Utc>) -> anyhow::Result<()> {
    let after = Host { tier: None, role: None, class: None, tags: Vec::new(), ..before.clone() };
    write(conn, before, after, by, now).await.map(drop)
}

async fn write(conn: &mut PgConnection, before: &Host, after: Host, by: &Actor, now: DateTime<Utc>) -> anyhow::Result<Host> {
    if *before == after {
        return Ok(after);
    }
    sqlx::query!(
        "update host set tier = $2, role = $3, class = $4, tags = $5 where host_id = $1",
        after.id.0,
        after.tier,
        after.role,
        after.class,
        &after.tags
    )
    .execute(&mut *conn)
    .await?;
    marks::affected(conn, &[after.id], marks::Validity::default(), now).await?;
    let deed = Deed {
        action: "host.describe",
        object: &after.name,
        before: Some(serde_json::to_value(before.said())?),
        after: Some(serde_json::to_value(after.said())?),
    };
    audit::append(conn, by, deed, now).await?;
    Ok(after)
}
