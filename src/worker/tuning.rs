//! The settings in force, by host: which finders read.

use super::spans::Spans;
use crate::{
    model::{
        ids::HostId,
        tunables::{Settings, Tunables},
    },
    store::tunables,
};
use sqlx::PgConnection;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Settings, and the class of each host that has one.
#[derive(Debug, Default)]
pub(super) struct Tuning {
    pub(super) settings: Settings,
    class_of: HashMap<HostId, String>,
}

impl Tuning {
    /// Those in force.
    pub(super) async fn read(db: &mut PgConnection) -> anyhow::Result<Self> {
        let settings = tunables::in_force(db).await?;
        Self::with(db, settings).await
    }

    /// Those given.
    pub(super) async fn with(db: &mut PgConnection, settings: Settings) -> anyhow::Result<Self> {
        let rows = sqlx::query!(
            r#"-- worker::tuning::with
            select host_id as "id: HostId", class as "class!" from host where class is not null"#
        )
        .fetch_all(db)
        .await?;
        Ok(Self { settings, class_of: rows.into_iter().map(|r| (r.id, r.class)).collect() })
    }

    /// Settings of a host.
    pub(super) fn of(&self, host: HostId) -> &Arc<Tunables> {
        self.settings.class(self.class_of.get(&host).map(String::as_str))
    }

    /// The spans, sorted by the settings that hold for their hosts.
    pub(super) fn groups(&self, spans: &Spans) -> Vec<(Arc<Tunables>, Spans)> {
        let mut groups: BTreeMap<*const Tunables, (Arc<Tunables>, Spans)> = BTreeMap::new();
        for (host, of_host) in spans.iter() {
            let tunables = self.of(host);
            let (_, group) = groups.entry(Arc::as_ptr(tunables)).or_insert_with(|| (tunables.clone(), Spans::default()));
            for span in of_host {
                group.add(host, *span);
            }
        }
        groups.into_values().collect()
    }
}
