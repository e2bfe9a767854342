//! Which host row a source means. Names and ids are remembered as aliases; the answer is cached, since hosts are few and
//! events many.
//!
//! An id names its host for good. A name leads to the host that carries it; a short name and the only full name with that
//! first label are one host. Addresses of sensors are hosts of their own kind, joined by the worker in event time.

use super::{FastMap, Identified};
use crate::model::{event::HostKey, ids::HostId};
use sqlx::PgConnection;

/// Most keys remembered; beyond it the cache starts anew.
const CACHED: usize = 200_000;

#[derive(Debug, Default)]
pub(super) struct Directory {
    known: FastMap<HostKey, HostId>,
}

impl Directory {
    /// Gives the event its host; events without one belong to the reserved host 0. Answers whether the host must be learnt first.
    pub(super) fn place(&self, event: &mut Identified) -> bool {
        let known = self.known.get(&event.host).copied();
        event.host_id = known.unwrap_or(HostId(0));
        known.is_none() && event.host != HostKey::None
    }

    /// Makes keys known. Creates hosts and aliases in a transaction of its own, so that a failing group leaves the cache true.
    pub(super) async fn learn(&mut self, db: &mut PgConnection, mut missing: Vec<HostKey>) -> sqlx::Result<()> {
        missing.sort_by_key(words);
        missing.dedup();
        if self.known.len() > CACHED {
            self.known.clear();
        }
        let mut tx = sqlx::Connection::begin(db).await?;
        // One process names hosts at a time: two names of one machine must not become two hosts.
        sqlx::query!("select pg_advisory_xact_lock(hashtext('coalface.directory'))").execute(&mut *tx).await?;
        let mut learnt = Vec::with_capacity(missing.len());
        for key in missing {
            let host = resolve(&mut tx, &key).await?;
            learnt.push((key, host));
        }
        tx.commit().await?;
        self.known.extend(learnt);
        Ok(())
    }

    /// Forgets everything, after hosts were changed by others.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}

/// Aliases of a key, most certain first.
fn words(key: &HostKey) -> Vec<String> {
    match key {
        HostKey::Agent { id, name } => {
            let mut aliases = vec![format!("agent:{id}")];
            aliases.extend(name.as_ref().map(|n| format!("name:{n}")));
            aliases
        }
        HostKey::Name(name) => vec![format!("name:{name}")],
        HostKey::Address(ip) => vec![format!("address:{ip}")],
        HostKey::None => Vec::new(),
    }
}

async fn resolve(db: &mut PgConnection, key: &HostKey) -> sqlx::Result<HostId> {
    let aliases = words(key);
    let known = sqlx::query!(
        "-- intake::directory::resolve: which hosts carry these aliases, most certain alias first?
        select a.host_id, a.alias from unnest($1::text[]) with ordinality as w (alias, n) join host_alias a using (alias) order by n",
        &aliases
    )
    .fetch_all(&mut *db)
    .await?;
    let name = match key {
        HostKey::Agent { name, .. } => name.as_deref(),
        HostKey::Name(name) => Some(name.as_str()),
        HostKey::Address(_) | HostKey::None => None,
    };
    // A name that is known as another machine beats an id: cloned images share ids.
    let by_name = known.iter().find(|k| k.alias.starts_with("name:")).map(|k| k.host_id);
    let host = match by_name.or(known.first().map(|k| k.host_id)) {
        Some(host) => Some(host),
        None => match name {
            Some(name) => same_machine(db, name).await?,
            None => None,
        },
    };
    let host = match host {
        Some(host) => host,
        None => create(db, key, name).await?,
    };
    remember(db, host, &aliases, name).await?;
    Ok(HostId(host))
}

/// The host whose short or only full name this is.
async fn same_machine(db: &mut PgConnection, name: &str) -> sqlx::Result<Option<i64>> {
    let label = name.split('.').next().unwrap_or(name);
    let is_short = label == name;
    let others = sqlx::query_scalar!(
        "-- intake::directory::same_machine: which hosts have the short name, if this is a full one, or full names, if it is short?
        select host_id from host_alias where label = $1
        group by host_id having bool_or(alias like '%.%') = $2",
        label,
        is_short
    )
    .fetch_all(db)
    .await?;
    Ok(match others.as_slice() {
        [only] => Some(*only),
        _ => None,
    })
}

async fn create(db: &mut PgConnection, key: &HostKey, name: Option<&str>) -> sqlx::Result<i64> {
    let (shown, kind) = match key {
        HostKey::Address(ip) => (ip.to_string(), "address"),
        HostKey::Agent { id, .. } => (name.unwrap_or(id).to_owned(), "computer"),
        HostKey::Name(name) => (name.clone(), "computer"),
        HostKey::None => (String::new(), "none"),
    };
    let agent = match key {
        HostKey::Agent { id, .. } => Some(id.as_str()),
        _ => None,
    };
    sqlx::query_scalar!(
        "-- intake::directory::create
        insert into host (name, kind, agent_id) values ($1, $2, $3) returning host_id",
        shown,
        kind,
        agent
    )
    .fetch_one(db)
    .await
}

async fn remember(db: &mut PgConnection, host: i64, aliases: &[String], name: Option<&str>) -> sqlx::Result<()> {
    let label = name.map(|n| n.split('.').next().unwrap_or(n));
    sqlx::query!(
        "-- intake::directory::remember: keep aliases (an alias never changes its host)
        insert into host_alias (alias, host_id, label)
        select alias, $2, case when alias like 'name:%' then $3 end from unnest($1::text[]) as alias
        on conflict (alias) do nothing",
        aliases,
        host,
        label
    )
    .execute(db)
    .await?;
    Ok(())
}
