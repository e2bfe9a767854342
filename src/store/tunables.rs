//! Settings of the analytics: every change is kept, the newest of a name and class is in force. What they mean is in `model::tunables`.

use super::{
    audit::{self, Actor, Deed},
    marks,
};
use crate::model::{
    exceptions::Invalid,
    ids::HostId,
    tunables::{DEFINITIONS, Definition, InForce, Settings, Tunables, shipped},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};

/// What somebody wants to be different.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Class of hosts; absent = everywhere.
    #[serde(default)]
    pub class: Option<String>,
    /// New values by name; `null` takes one back.
    pub values: Map<String, Value>,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Version the change was made from.
    #[serde(default)]
    pub version: Option<i64>,
    /// Confirmed hijacks the change may lose, by public id.
    #[serde(default)]
    pub accept_lost: BTreeSet<String>,
}

impl Change {
    fn class(&self) -> Option<String> {
        self.class.as_deref().map(|c| c.trim().to_lowercase()).filter(|c| !c.is_empty())
    }
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Somebody was faster; holds the version now.
    #[error("it was changed meanwhile: version is {0} now")]
    Stale(i64),
    /// A value that cannot be.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Everything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Other(error.into())
    }
}

/// One change as it was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Made {
    /// Its number: the version of the settings from then on.
    pub version: i64,
    /// Class of hosts; absent = everywhere.
    pub class: Option<String>,
    /// Name of the setting.
    pub name: String,
    /// New value; absent = taken back.
    pub value: Option<Value>,
    /// Why.
    pub reason: String,
    /// Who.
    pub changed_by: String,
    /// Wall clock.
    pub changed_at: DateTime<Utc>,
}

/// A setting as it is served.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// What it is.
    #[serde(flatten)]
    pub definition: &'static Definition,
    /// As shipped; absent if it is kept elsewhere.
    pub default: Option<Value>,
    /// In force everywhere, where no class says otherwise.
    pub value: Option<Value>,
    /// The change behind it; absent = as shipped.
    pub change: Option<Made>,
    /// What classes have instead.
    pub classes: BTreeMap<String, Made>,
}

/// All settings and their latest changes.
#[derive(Debug, Serialize)]
pub struct Sheet {
    /// Newest change; 0 = none ever.
    pub version: i64,
    /// Every setting.
    pub items: Vec<Shown>,
    /// The latest changes, newest first.
    pub history: Vec<Made>,
}

/// Changes of the history that are served.
const HISTORY: i64 = 100;

async fn newest(conn: &mut PgConnection) -> sqlx::Result<Vec<Made>> {
    sqlx::query_as!(
        Made,
        "-- store::tunables::newest
        select distinct on (name, host_class) version, host_class as class, name, value, reason, changed_by, changed_at from tunable_change
        order by name, host_class, version desc"
    )
    .fetch_all(conn)
    .await
}

fn in_force_of(changes: &[Made]) -> Vec<InForce> {
    let of = |m: &Made| InForce { host_class: m.class.clone(), name: m.name.clone(), value: m.value.clone().unwrap_or_default(), version: m.version };
    changes.iter().map(of).collect()
}

/// The settings in force, as the worker applies them.
///
/// # Errors
/// Whatever the database says; a stored value that cannot be read.
pub async fn in_force(conn: &mut PgConnection) -> anyhow::Result<Settings> {
    Ok(Settings::of(&in_force_of(&newest(conn).await?))?)
}

/// Everything there is to show.
///
/// # Errors
/// Whatever the database says.
pub async fn sheet(conn: &mut PgConnection) -> sqlx::Result<Sheet> {
    let changes = newest(conn).await?;
    let history = sqlx::query_as!(
        Made,
        "-- store::tunables::sheet
        select version, host_class as class, name, value, reason, changed_by, changed_at from tunable_change order by version desc limit $1",
        HISTORY
    )
    .fetch_all(conn)
    .await?;
    let show = |definition: &'static Definition| {
        let of = |class: Option<&str>| changes.iter().find(|m| m.name == definition.name && m.class.as_deref() == class && m.value.is_some());
        let classes = changes.iter().filter(|m| m.name == definition.name && m.value.is_some());
        let default = shipped(definition.name);
        Shown {
            value: of(None).and_then(|m| m.value.clone()).or_else(|| default.clone()),
            default,
            change: of(None).cloned(),
            classes: classes.filter_map(|m| Some((m.class.clone()?, m.clone()))).collect(),
            definition,
        }
    };
    Ok(Sheet { version: history.first().map_or(0, |m| m.version), items: DEFINITIONS.iter().map(show).collect(), history })
}

/// The settings in force, and those that would be after a change.
///
/// # Errors
/// A value that cannot be.
pub async fn proposed(conn: &mut PgConnection, change: &Change) -> Result<(Settings, Settings), Refusal> {
    if change.values.is_empty() {
        return Err(Invalid { field: "values", reason: "name at least one setting".to_owned() }.into());
    }
    let before = newest(conn).await?;
    let (class, next) = (change.class(), before.iter().map(|m| m.version).max().unwrap_or(0) + 1);
    let mut after = in_force_of(&before);
    for (name, value) in &change.values {
        // Named so that an unknown one is refused, also when it is only taken back.
        let known = shipped(name).unwrap_or(Value::Null);
        Tunables::default().with(name, if value.is_null() { &known } else { value })?;
        after.retain(|v| !(v.name == *name && v.host_class == class));
        after.push(InForce { host_class: class.clone(), name: name.clone(), value: value.clone(), version: next });
    }
    let now = Settings::of(&in_force_of(&before)).map_err(anyhow::Error::from)?;
    Ok((now, Settings::of(&after)?))
}

/// Stores a change and marks what it concerns: from the next pass on the worker judges by it, whatever the age of the events.
///
/// # Errors
/// [`Refusal::Stale`] when `version` is given and is not the present one.
pub async fn change(conn: &mut PgConnection, change: &Change, by: &Actor, now: DateTime<Utc>) -> Result<(), Refusal> {
    sqlx::query!("-- store::tunables::change\nselect pg_advisory_xact_lock(hashtext('coalface.tunables'))").execute(&mut *conn).await?;
    let version = sqlx::query_scalar!(r#"select coalesce(max(version), 0) as "version!" from tunable_change"#).fetch_one(&mut *conn).await?;
    if change.version.is_some_and(|v| v != version) {
        return Err(Refusal::Stale(version));
    }
    if change.reason.trim().is_empty() {
        return Err(Invalid { field: "reason", reason: "say why".to_owned() }.into());
    }
    let (before, after) = proposed(conn, change).await?;
    let class = change.class();
    let held = newest(conn).await?;
    for (name, value) in &change.values {
        let was = held.iter().find(|m| m.name == *name && m.class == class).and_then(|m| m.value.clone());
        let value = (!value.is_null()).then_some(value);
        if was.as_ref() == value {
            continue;
        }
        sqlx::query!(
            "-- store::tunables::change
            insert into tunable_change (host_class, name, value, reason, changed_by, changed_at) values ($1, $2, $3, $4, $5, $6)",
            class,
            name,
            value,
            change.reason.trim(),
            by.name,
            now
        )
        .execute(&mut *conn)
        .await?;
        let object = class.as_ref().map_or_else(|| name.clone(), |c| format!("{name} ({c})"));
        audit::append(conn, by, Deed { action: "tunable.change", object: &object, before: was, after: value.cloned() }, now).await?;
    }
    mark(conn, &before, &after, now).await?;
    Ok(())
}

/// Marks what the difference between two settings concerns, host by host.
async fn mark(conn: &mut PgConnection, before: &Settings, after: &Settings, now: DateTime<Utc>) -> anyhow::Result<()> {
    let all = sqlx::query!(r#"select host_id as "id: HostId", class from host where kind <> 'none'"#).fetch_all(&mut *conn).await?;
    let mut by_class: BTreeMap<Option<String>, Vec<HostId>> = BTreeMap::new();
    for host in all {
        by_class.entry(host.class.map(|c| c.to_lowercase())).or_default().push(host.id);
    }
    for (class, hosts) in by_class {
        let (old, new) = (before.class(class.as_deref()), after.class(class.as_deref()));
        if old.version == new.version {
            continue;
        }
        if (old.cpu_threshold, old.time_window_minutes) != (new.cpu_threshold, new.time_window_minutes) {
            load(conn, &hosts, old.cpu_exit().min(new.cpu_exit()), now).await?;
        }
        if old.judges_names() || new.judges_names() {
            names(conn, &hosts, old, new, now).await?;
        }
        marks::affected(conn, &hosts, marks::Validity::default(), now).await?;
    }
    Ok(())
}

/// Buckets that may be part of a run by either setting.
async fn load(conn: &mut PgConnection, hosts: &[HostId], share: f32, now: DateTime<Utc>) -> sqlx::Result<()> {
    let hosts: Vec<i64> = hosts.iter().map(|h| h.0).collect();
    sqlx::query!(
        "-- store::tunables::load
        insert into mark (host_id, bucket, batch_id, marked_at)
        select distinct host_id, bucket, $3::bigint, $4::timestamptz from cpu_bucket where host_id = any($1) and (share >= $2 or cores >= 0.7)",
        &hosts,
        share,
        marks::batch(),
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Starts of programs that either setting has something to say about, and not the same.
async fn names(conn: &mut PgConnection, hosts: &[HostId], old: &Tunables, new: &Tunables, now: DateTime<Utc>) -> sqlx::Result<()> {
    let hosts: Vec<i64> = hosts.iter().map(|h| h.0).collect();
    let programs = sqlx::query!(
        "-- store::tunables::names
        select distinct image, original_file_name, product, description from process where host_id = any($1) and image is not null",
        &hosts
    )
    .fetch_all(&mut *conn)
    .await?;
    let judged = |t: &Tunables, image: &str, data: [&Option<String>; 3]| {
        let is_miner = |name: &str| t.miners.as_ref().map_or_else(|| crate::model::names::is_miner_name(name), |m| m.matches(name));
        (is_miner(image), data.into_iter().flatten().any(|d| is_miner(d)), t.placed(image))
    };
    let concerned: Vec<String> = programs
        .into_iter()
        .filter_map(|p| {
            let image = p.image?;
            let data = [&p.original_file_name, &p.product, &p.description];
            (judged(old, &image, data) != judged(new, &image, data)).then_some(image)
        })
        .collect();
    sqlx::query!(
        "-- store::tunables::names: where they started
        insert into mark (host_id, bucket, batch_id, marked_at)
        select distinct host_id, date_bin('5 minutes', started_at, '2000-01-01 00:00:00+00'), $3::bigint, $4::timestamptz
        from process where host_id = any($1) and image = any($2)",
        &hosts,
        &concerned,
        marks::batch(),
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}
