//! The limit that ingest is measured against, in the same run: raw COPY of the same typed rows into the same kind of tables.
//!
//! The rows are decoded and rendered beforehand. No identity check, no rules, no raw segment, no HTTP.

use super::load::{Load, Stamp};
use crate::{
    model::{
        event::{Defaults, RawRecord},
        fact::{CopyText, Fact, KEY_COLUMNS},
        ids::{EventId, HostId, SegmentId},
    },
    sources,
    time::{Clock as _, System},
};
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

/// Rows ready for COPY, by table.
#[derive(Debug, Default)]
struct Rows {
    tables: BTreeMap<usize, CopyText>,
    count: u64,
}

/// Rows for each connection.
#[derive(Debug)]
pub(super) struct Limit {
    parts: Vec<Rows>,
}

impl Limit {
    /// Decodes and renders events of the load, without its repeated ones, for so many connections.
    ///
    /// # Errors
    /// An event of the load cannot be decoded.
    pub(super) fn prepare(load: &Load, events: Range<u64>, connections: usize) -> anyhow::Result<Self> {
        let mut parts: Vec<Rows> = (0..connections).map(|_| Rows::default()).collect();
        let (mut clock, mut line, mut seen) = (Stamp::default(), Vec::new(), std::collections::HashSet::new());
        let defaults = Arc::new(Defaults::default());
        let received_at = System.now();
        for n in events {
            line.clear();
            load.write(n, &mut clock, &mut line);
            let record = RawRecord { bytes: Bytes::copy_from_slice(&line), client_id: None, defaults: Arc::clone(&defaults) };
            let decoded = sources::decode(&record).map_err(|reject| anyhow!("event {n} of the load: {reject}"))?;
            let rows = &mut parts[n as usize % connections];
            for event in decoded {
                let stamp = event.stamp(received_at);
                let id = EventId::of(&event, stamp);
                if !seen.insert(id) {
                    continue;
                }
                let row = rows.tables.entry(event.fact.table_index()).or_default();
                row.value(Some(&HostId(n.cast_signed() % 2_000)));
                row.value(Some(&stamp));
                row.value(Some(&id));
                row.value(Some(&SegmentId(n.cast_signed())));
                row.value(Some(&(n as i32)));
                row.value(Some(&(event.time_quality as i16)));
                row.value::<Vec<String>>(None);
                event.fact.copy(row);
                row.end_row();
                rows.count += 1;
            }
        }
        Ok(Self { parts })
    }

    /// Copies all rows, one connection per part, each table in a transaction of its own, into new tables again and again for at
    /// least so long; events per second of copying. A short run would not see the write-ahead log reach the disk.
    ///
    /// # Errors
    /// The database refuses.
    pub(super) async fn measure(&self, connections: &mut [PgConnection], least: Duration) -> anyhow::Result<f64> {
        let (mut copied, mut copying) = (0, Duration::ZERO);
        while copying < least {
            let first = connections.first_mut().context("no connection")?;
            first.execute("drop schema if exists bench cascade").await?;
            first.execute("create schema bench").await?;
            for (table, _) in Fact::TABLES {
                let statement = format!("create table bench.{table} (like public.{table} including all)");
                first.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await?;
            }
            let before = Instant::now();
            let work = self.parts.iter().zip(connections.iter_mut()).map(|(rows, db)| rows.copy(db));
            copied += futures_util::future::try_join_all(work).await?.iter().sum::<u64>();
            copying += before.elapsed();
        }
        let first = connections.first_mut().context("no connection")?;
        first.execute("drop schema bench cascade").await?;
        // What the limit left to be written must not be charged to the next figure.
        first.execute("checkpoint").await?;
        Ok(copied as f64 / copying.as_secs_f64())
    }
}

impl Rows {
    async fn copy(&self, db: &mut PgConnection) -> anyhow::Result<u64> {
        for (index, rows) in &self.tables {
            let (table, columns) = Fact::TABLES[*index];
            let columns = [KEY_COLUMNS, columns].concat().join(", ");
            let mut transaction = db.begin().await?;
            let mut copy = transaction.copy_in_raw(&format!("copy bench.{table} ({columns}) from stdin")).await?;
            copy.send(rows.as_bytes()).await?;
            copy.finish().await?;
            transaction.commit().await?;
        }
        Ok(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    #[test]
    fn the_load_decodes_to_five_kinds_of_rows_and_repeated_events_to_one() {
        let load = Load::new(DateTime::from_timestamp(1_770_000_000, 0).unwrap());
        let limit = Limit::prepare(&load, 0..6_000, 2).unwrap();
        let tables: std::collections::BTreeSet<_> = limit.parts.iter().flat_map(|rows| rows.tables.keys()).map(|n| Fact::TABLES[*n].0).collect();
        assert_eq!(tables.into_iter().collect::<Vec<_>>(), ["connection", "cpu_sample", "dns_query", "process_start", "process_stop"]);
        let rows: u64 = limit.parts.iter().map(|rows| rows.count).sum();
        // Of 6,000 events the last 4,000 hold the 1 % that is repeated.
        assert!((5_930..5_990).contains(&rows), "{rows} rows");
    }

    #[test]
    fn one_event_in_a_hundred_matches_a_rule() {
        let load = Load::new(DateTime::from_timestamp(1_770_000_000, 0).unwrap());
        let rules = crate::rules::Ruleset::load(None).unwrap();
        let body = Bytes::from(load.body(0..20_000, super::super::Route::Native));
        let matched = body.split(|b| *b == b'\n').filter(|line| !line.is_empty()).filter(|line| {
            let record = RawRecord { bytes: Bytes::copy_from_slice(line), client_id: None, defaults: Arc::default() };
            let mut hits = Vec::new();
            for event in sources::decode(&record).unwrap() {
                rules.hits(&event, &mut hits);
            }
            !hits.is_empty()
        });
        let matched = matched.count();
        assert!((150..250).contains(&matched), "{matched} of 20,000");
    }
}
