//! COPY straight into the fact tables. What is there already goes by a temporary table, to be compared and completed.
//!
//! The one file whose SQL the compiler does not check: its temporary tables do not exist when the macros look. Statements are
//! built from `Fact::TABLES`, never from input. Nobody asks the database about an event that this process has no reason to think
//! stored (asking for all of them was a tenth of the writer's cost): where one is there after all, the unique violation rolls
//! the group back, and its second try asks for every event.

use super::FastSet;
use crate::model::{
    fact::{CopyText, Fact, KEY_COLUMNS},
    ids::{EventId, HostId},
};
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use std::ops::Range;

/// Statements of one fact table.
#[derive(Debug)]
struct Statements {
    create: String,
    known: String,
    copy: String,
    stage: String,
    compare: String,
    complete: String,
    clear: String,
}

/// Rows of one fact table waiting for COPY, each key at most once.
#[derive(Debug, Default)]
pub(super) struct Rows {
    keys: Vec<Key>,
    text: CopyText,
}

/// Primary key of a row and where its text is.
#[derive(Debug)]
struct Key {
    host: HostId,
    at: DateTime<Utc>,
    id: EventId,
    text: Range<usize>,
}

impl Rows {
    /// Appends a row; `write` adds the columns after the three of its key.
    pub(super) fn push(&mut self, host: HostId, at: DateTime<Utc>, id: EventId, write: impl FnOnce(&mut CopyText)) {
        let start = self.text.as_bytes().len();
        self.text.value(Some(&host));
        self.text.value(Some(&at));
        self.text.value(Some(&id));
        write(&mut self.text);
        self.text.end_row();
        self.keys.push(Key { host, at, id, text: start..self.text.as_bytes().len() });
    }

    /// Text of the rows that `wanted` chooses.
    fn text(&self, wanted: impl Fn(&Key) -> bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.as_bytes().len());
        for key in self.keys.iter().filter(|key| wanted(key)) {
            out.extend_from_slice(self.text.as_bytes().get(key.text.clone()).unwrap_or_default());
        }
        out
    }
}

/// Statements for all fact tables and `rule_hit`, made once per process.
#[derive(Debug)]
pub(super) struct Stage {
    facts: Vec<Statements>,
    hits: Hits,
}

/// Statements of `rule_hit`.
#[derive(Debug)]
struct Hits {
    create: &'static str,
    copy: String,
    stage: String,
    insert: String,
}

const HIT_COLUMNS: &[&str] =
    &["host_id", "occurred_at", "event_id", "rule_id", "rule_hash", "code", "points", "force", "fact", "excerpt", "guid", "pid", "image"];

impl Statements {
    fn new(table: &str, columns: &[&str]) -> Self {
        let all = [KEY_COLUMNS, columns].concat().join(", ");
        let each = |f: &dyn Fn(&str) -> String, join: &str| columns.iter().map(|c| f(c)).collect::<Vec<_>>().join(join);
        let same_key = "t.host_id = s.host_id and t.occurred_at = s.occurred_at and t.event_id = s.event_id";
        Self {
            create: format!("create temporary table if not exists stage_{table} (like {table}) on commit delete rows"),
            // A look for each key, forced by the limit: without statistics of what is new the planner would rather compare every key
            // with every row of that minute. The outer bounds keep other partitions closed.
            known: format!(
                "select s.event_id from unnest($1::bigint[], $2::timestamptz[], $3::uuid[]) as s (host_id, occurred_at, event_id)
                cross join lateral (select from {table} t where {same_key} and t.occurred_at between $4 and $5 limit 1) t"
            ),
            copy: format!("copy {table} ({all}) from stdin"),
            stage: format!("copy stage_{table} ({all}) from stdin"),
            // A look for each key, as above. A value differs, or one is missing that this copy has.
            compare: format!(
                "select * from (select s.event_id, coalesce({}, false) as conflicting, {} as completing
                from stage_{table} s cross join lateral (select * from {table} t where {same_key} and t.occurred_at between $1 and $2 limit 1) t) c
                where conflicting or completing",
                each(&|c| format!("t.{c} <> s.{c}"), " or "),
                each(&|c| format!("least(t.{c}, s.{c}) is distinct from t.{c}"), " or ")
            ),
            // least() ignores nulls: it completes what is missing, and in a contradiction the smaller value stays, whichever
            // copy came first.
            complete: format!(
                "update {table} t set {} from stage_{table} s where {same_key} and s.event_id = any($1) and t.occurred_at between $2 and $3",
                each(&|c| format!("{c} = least(t.{c}, s.{c})"), ", ")
            ),
            clear: format!("delete from stage_{table}"),
        }
    }
}

/// What happened to the rows of a group.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Stored now.
    pub(super) new: FastSet<EventId>,
    /// Stored before, now with more fields.
    pub(super) completed: FastSet<EventId>,
    /// Stored before with another value in some field.
    pub(super) conflicting: FastSet<EventId>,
}

impl Stage {
    pub(super) fn new() -> Self {
        let columns = HIT_COLUMNS.join(", ");
        Self {
            facts: Fact::TABLES.iter().map(|(table, columns)| Statements::new(table, columns)).collect(),
            hits: Hits {
                create: "create temporary table if not exists stage_rule_hit (like rule_hit) on commit delete rows",
                copy: format!("copy rule_hit ({columns}) from stdin"),
                stage: format!("copy stage_rule_hit ({columns}) from stdin"),
                insert: format!(
                    "insert into rule_hit ({columns}) select {columns} from stage_rule_hit order by host_id, occurred_at, event_id
                    on conflict do nothing"
                ),
            },
        }
    }

    /// Makes the temporary tables; once per connection.
    pub(super) async fn prepare(&self, db: &mut PgConnection) -> sqlx::Result<()> {
        for create in self.facts.iter().map(|f| f.create.as_str()).chain([self.hits.create]) {
            run(db, create).await?;
        }
        Ok(())
    }

    /// Stores the rows of one fact table that are new, inside the caller's transaction, and answers which are not: they are there, or
    /// `unseen` in another transaction. Only events that `suspected` names are looked for.
    pub(super) async fn add(
        &self,
        db: &mut PgConnection,
        table: usize,
        rows: &mut Rows,
        suspected: impl Fn(EventId) -> bool,
        unseen: Option<&FastSet<EventId>>,
        merged: &mut Merged,
    ) -> sqlx::Result<FastSet<EventId>> {
        let Some(statements) = self.facts.get(table) else { return Ok(FastSet::default()) };
        // Neighbours in the index are written together, and writers of two processes wait for each other in the same order.
        rows.keys.sort_unstable_by_key(|k| (k.host, k.at, k.id));
        let mut known = self.known(db, statements, rows.keys.iter().filter(|key| suspected(key.id)).collect()).await?;
        // The copy of an earlier round stands in this transaction.
        known.extend(rows.keys.iter().map(|key| key.id).filter(|id| merged.new.contains(id)));
        if let Some(unseen) = unseen.filter(|unseen| !unseen.is_empty()) {
            known.extend(rows.keys.iter().map(|key| key.id).filter(|id| unseen.contains(id)));
        }
        if known.len() < rows.keys.len() {
            copy(db, &statements.copy, &rows.text(|key| !known.contains(&key.id))).await?;
            merged.new.extend(rows.keys.iter().map(|key| key.id).filter(|id| !known.contains(id)));
        }
        Ok(known)
    }

    /// Which of these keys are stored.
    async fn known(&self, db: &mut PgConnection, statements: &Statements, keys: Vec<&Key>) -> sqlx::Result<FastSet<EventId>> {
        let Some((since, until)) = span(keys.iter().copied()) else { return Ok(FastSet::default()) };
        macro_rules! column { ($f:expr) => { keys.iter().map($f).collect::<Vec<_>>() } }
        let known = sqlx::query(AssertSqlSafe(statements.known.clone()))
            .bind(column!(|k| k.host.0))
            .bind(column!(|k| k.at))
            .bind(column!(|k| k.id.0))
            .bind(since)
            .bind(until)
            .fetch_all(&mut *db)
            .await?;
        Ok(ids(known)?.into_iter().collect())
    }

    /// Compares the `known` rows with what is stored and completes that.
    pub(super) async fn complete(
        &self,
        db: &mut PgConnection,
        table: usize,
        rows: &Rows,
        known: &FastSet<EventId>,
        merged: &mut Merged,
    ) -> sqlx::Result<()> {
        let known_keys = rows.keys.iter().filter(|key| known.contains(&key.id));
        let (Some(statements), Some((since, until))) = (self.facts.get(table), span(known_keys)) else { return Ok(()) };
        copy(db, &statements.stage, &rows.text(|key| known.contains(&key.id))).await?;
        let differing = sqlx::query(AssertSqlSafe(statements.compare.clone())).bind(since).bind(until).fetch_all(&mut *db).await?;
        let mut completing = Vec::new();
        for row in differing {
            let id: EventId = row.try_get("event_id")?;
            if row.try_get("conflicting")? {
                merged.conflicting.insert(id);
            }
            if row.try_get("completing")? {
                completing.push(id);
            }
        }
        if !completing.is_empty() {
            let ids: Vec<_> = completing.iter().map(|id| id.0).collect();
            sqlx::query(AssertSqlSafe(statements.complete.clone())).bind(ids).bind(since).bind(until).execute(&mut *db).await?;
            merged.completed.extend(completing);
        }
        run(db, &statements.clear).await
    }

    /// Stores rule hits. Those of new events are new; of others, a hit that is there stays.
    pub(super) async fn merge_hits(&self, db: &mut PgConnection, hits: &mut Rows, merged: &Merged) -> sqlx::Result<()> {
        hits.keys.sort_by_key(|k| (k.host, k.at, k.id));
        let (new, other) = (hits.text(|key| merged.new.contains(&key.id)), hits.text(|key| !merged.new.contains(&key.id)));
        if !new.is_empty() {
            copy(db, &self.hits.copy, &new).await?;
        }
        if !other.is_empty() {
            copy(db, &self.hits.stage, &other).await?;
            run(db, &self.hits.insert).await?;
        }
        Ok(())
    }
}

/// First and last time of keys.
fn span<'k>(keys: impl Iterator<Item = &'k Key>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    keys.map(|key| (key.at, key.at)).reduce(|(since, until), (at, _)| (since.min(at), until.max(at)))
}

fn ids(rows: Vec<sqlx::postgres::PgRow>) -> sqlx::Result<Vec<EventId>> {
    rows.into_iter().map(|row| row.try_get::<EventId, _>(0)).collect()
}

async fn run(db: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(db).await?;
    Ok(())
}

async fn copy(db: &mut PgConnection, statement: &str, text: &[u8]) -> sqlx::Result<()> {
    let mut sink = db.copy_in_raw(statement).await?;
    if let Err(error) = sink.send(text).await {
        // The first error is the one that explains.
        return match sink.abort("sending failed").await {
            Ok(()) | Err(_) => Err(error),
        };
    }
    sink.finish().await?;
    Ok(())
}
