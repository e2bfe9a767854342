//! COPY into temporary tables, then INSERT .. ON CONFLICT DO NOTHING. The one file whose SQL the compiler does not check: its
//! temporary tables do not exist when the macros look. Statements are built from `Fact::TABLES`, never from input.

use crate::model::{
    fact::{CopyText, Fact, KEY_COLUMNS},
    ids::EventId,
};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use std::collections::HashSet;
use uuid::Uuid;

/// Statements of one fact table.
#[derive(Debug)]
struct Statements {
    create: String,
    copy: String,
    insert: String,
    conflicts: String,
    complete: String,
}

/// Rows of one table waiting for COPY.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) text: CopyText,
    pub(super) count: usize,
}

/// Statements for all fact tables and `rule_hit`, made once per process.
#[derive(Debug)]
pub(super) struct Stage {
    facts: Vec<Statements>,
    hits: Statements,
}

const HIT_COLUMNS: &[&str] =
    &["host_id", "occurred_at", "event_id", "rule_id", "rule_hash", "code", "points", "force", "fact", "excerpt", "guid", "pid", "image"];

impl Statements {
    fn new(table: &str, keys: &[&str], columns: &[&str]) -> Self {
        let all = [keys, columns].concat().join(", ");
        let each = |f: &dyn Fn(&str) -> String, join: &str| columns.iter().map(|c| f(c)).collect::<Vec<_>>().join(join);
        let same_key = "t.host_id = s.host_id and t.occurred_at = s.occurred_at and t.event_id = s.event_id";
        // Both ends of the partition column, else every partition is opened.
        let bound = "t.occurred_at between $2 and $3 and s.event_id = any($1)";
        Self {
            create: format!("create temporary table if not exists stage_{table} (like {table}) on commit delete rows"),
            copy: format!("copy stage_{table} ({all}) from stdin"),
            insert: format!(
                "insert into {table} ({all}) select {all} from stage_{table} order by host_id, occurred_at, event_id
                on conflict do nothing returning event_id"
            ),
            conflicts: format!(
                "select s.event_id from stage_{table} s join {table} t on {same_key} where {bound} and ({})",
                each(&|c| format!("t.{c} <> s.{c}"), " or ")
            ),
            // least() ignores nulls: it completes what is missing, and in a contradiction the smaller value stays, whichever
            // copy came first.
            complete: format!(
                "update {table} t set {} from stage_{table} s where {same_key} and {bound} and ({}) returning t.event_id",
                each(&|c| format!("{c} = least(t.{c}, s.{c})"), ", "),
                each(&|c| format!("least(t.{c}, s.{c}) is distinct from t.{c}"), " or ")
            ),
        }
    }
}

/// What happened to the rows of a group.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Stored now.
    pub(super) new: HashSet<EventId>,
    /// Stored before, now with more fields.
    pub(super) completed: HashSet<EventId>,
    /// Stored before with another value in some field.
    pub(super) conflicting: HashSet<EventId>,
}

impl Stage {
    pub(super) fn new() -> Self {
        let facts = Fact::TABLES.iter().map(|(table, columns)| Statements::new(table, KEY_COLUMNS, columns)).collect();
        let (keys, columns) = HIT_COLUMNS.split_at(3);
        Self { facts, hits: Statements::new("rule_hit", keys, columns) }
    }

    /// Makes the temporary tables; once per connection.
    pub(super) async fn prepare(&self, db: &mut PgConnection) -> sqlx::Result<()> {
        for statements in self.facts.iter().chain([&self.hits]) {
            run(db, &statements.create).await?;
        }
        Ok(())
    }

    /// Stores the rows of one fact table; `sent` lists their ids. Inside the caller's transaction.
    pub(super) async fn merge(
        &self,
        db: &mut PgConnection,
        table: usize,
        rows: &Rows,
        sent: &[EventId],
        times: (chrono::DateTime<chrono::Utc>, chrono::DateTime<chrono::Utc>),
        merged: &mut Merged,
    ) -> sqlx::Result<()> {
        let Some(statements) = self.facts.get(table) else { return Ok(()) };
        copy(db, statements, &rows.text).await?;
        let new = ids(sqlx::query(AssertSqlSafe(statements.insert.clone())).fetch_all(&mut *db).await?)?;
        if new.len() < rows.count {
            let fresh: HashSet<EventId> = new.iter().copied().collect();
            let known: Vec<Uuid> = sent.iter().filter(|id| !fresh.contains(id)).map(|id| id.0).collect();
            for (sql, into) in
                [(&statements.conflicts, &mut merged.conflicting), (&statements.complete, &mut merged.completed)]
            {
                let rows =
                    sqlx::query(AssertSqlSafe(sql.clone())).bind(&known).bind(times.0).bind(times.1).fetch_all(&mut *db).await?;
                into.extend(ids(rows)?);
            }
        }
        merged.new.extend(new);
        Ok(())
    }

    /// Stores rule hits; a hit that is there stays.
    pub(super) async fn merge_hits(&self, db: &mut PgConnection, rows: &Rows) -> sqlx::Result<()> {
        copy(db, &self.hits, &rows.text).await?;
        run(db, &self.hits.insert).await
    }
}

fn ids(rows: Vec<sqlx::postgres::PgRow>) -> sqlx::Result<Vec<EventId>> {
    rows.into_iter().map(|row| row.try_get::<EventId, _>(0)).collect()
}

async fn run(db: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(db).await?;
    Ok(())
}

async fn copy(db: &mut PgConnection, statements: &Statements, text: &CopyText) -> sqlx::Result<()> {
    let mut sink = db.copy_in_raw(&statements.copy).await?;
    if let Err(error) = sink.send(text.as_bytes()).await {
        // The first error is the one that explains.
        return match sink.abort("sending failed").await {
            Ok(()) | Err(_) => Err(error),
        };
    }
    sink.finish().await?;
    Ok(())
}
