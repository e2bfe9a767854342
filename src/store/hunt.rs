//! Questions over the stored facts: typed terms, newest first. One of the two places where SQL is put together at run time; every
//! value is a bind, every name comes from the tables below.

use crate::model::{
    fact::Fact,
    ids::{EventId, EventRef, HostId},
};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _};

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text without case.
    Text,
    /// A path: a value without a backslash means its last part.
    Path,
    /// A number.
    Number,
}

/// A field that people can ask for: its name, how it is compared, and the expression of each fact that has it.
#[derive(Debug)]
pub struct Field {
    /// In the question.
    pub name: &'static str,
    /// How it is compared.
    pub kind: Kind,
    columns: &'static [(&'static str, &'static str)],
}

/// Every field. `host` and `event` exist for all facts and are not listed here.
pub const FIELDS: &[Field] = &[
    Field { name: "image", kind: Kind::Path, columns: &[("process_start", "image"), ("process_stop", "image"), ("process_tamper", "image"), ("module_load", "image"), ("file_write", "image"), ("connection", "image"), ("dns_query", "image"), ("cpu_sample", "coalesce(image, name)"), ("persistence", "image"), ("setting_change", "image"), ("security_alert", "process")] },
    Field { name: "command", kind: Kind::Text, columns: &[("process_start", "command_line"), ("cpu_sample", "command_line"), ("persistence", "concat_ws(' ', command, arguments)"), ("script", "coalesce(command_line, left(text, 4000))")] },
    Field { name: "parent", kind: Kind::Path, columns: &[("process_start", "parent_image"), ("process_tamper", "source_image")] },
    Field { name: "user", kind: Kind::Text, columns: &[("process_start", "user_name"), ("persistence", "run_as"), ("script", "user_name"), ("security_alert", "user_name"), ("setting_change", "user_name")] },
    Field { name: "destination", kind: Kind::Text, columns: &[("connection", "remote_host"), ("dns_query", "query")] },
    Field { name: "ip", kind: Kind::Text, columns: &[("connection", "host(remote_ip)")] },
    Field { name: "port", kind: Kind::Number, columns: &[("connection", "remote_port")] },
    Field { name: "path", kind: Kind::Path, columns: &[("module_load", "path"), ("file_write", "path"), ("script", "path"), ("security_alert", "path")] },
    Field { name: "name", kind: Kind::Text, columns: &[("persistence", "name"), ("setting_change", "name"), ("security_alert", "threat")] },
    Field { name: "kind", kind: Kind::Text, columns: &[("process_tamper", "kind"), ("module_load", "kind"), ("file_write", "kind"), ("connection", "kind"), ("persistence", "kind"), ("script", "kind"), ("setting_change", "kind")] },
    Field { name: "sha256", kind: Kind::Text, columns: &[("process_start", "sha256"), ("module_load", "sha256"), ("file_write", "sha256")] },
    Field { name: "signer", kind: Kind::Text, columns: &[("process_start", "signer"), ("module_load", "signer")] },
    Field { name: "original", kind: Kind::Text, columns: &[("process_start", "original_file_name"), ("module_load", "original_file_name")] },
    Field { name: "pid", kind: Kind::Number, columns: &[("process_start", "pid"), ("process_stop", "pid"), ("process_tamper", "pid"), ("module_load", "pid"), ("file_write", "pid"), ("connection", "pid"), ("dns_query", "pid"), ("cpu_sample", "pid"), ("persistence", "pid"), ("script", "pid"), ("setting_change", "pid")] },
    Field { name: "cpu_share", kind: Kind::Number, columns: &[("cpu_sample", "share"), ("host_sample", "share")] },
    Field { name: "bytes", kind: Kind::Number, columns: &[("connection", "(coalesce(bytes_out, 0) + coalesce(bytes_in, 0))")] },
    Field { name: "provider", kind: Kind::Text, columns: &[("other_event", "provider")] },
    Field { name: "channel", kind: Kind::Text, columns: &[("other_event", "channel")] },
    Field { name: "code", kind: Kind::Text, columns: &[("other_event", "code")] },
];

/// Columns of an answer, in order; each is a field.
const SHOWN: [&str; 12] = ["image", "command", "parent", "user", "destination", "ip", "port", "path", "name", "sha256", "pid", "cpu_share"];

impl Field {
    fn column(&self, table: &str) -> Option<&'static str> {
        self.columns.iter().find(|(t, _)| *t == table).map(|(_, column)| *column)
    }

    /// A field by name.
    pub fn find(name: &str) -> Option<&'static Self> {
        FIELDS.iter().find(|f| f.name == name)
    }
}

/// What a term compares with.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// One of these texts; `*` = any text.
    Like(Vec<String>),
    /// One of these numbers.
    Equal(Vec<f64>),
    /// Above.
    Above(f64),
    /// Below.
    Below(f64),
}

/// One term: all must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// `host`, `event`, `any` (command line, image, destination, name), or one of [`FIELDS`].
    pub field: &'static str,
    /// It must not hold.
    pub not: bool,
    /// What is compared.
    pub test: Test,
}

/// A place in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Event time.
    pub at: DateTime<Utc>,
    /// Identity of the event.
    pub id: EventId,
}

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// All must hold.
    pub terms: Vec<Term>,
    /// Event time, inclusive.
    pub since: DateTime<Utc>,
    /// Event time, exclusive.
    pub until: DateTime<Utc>,
    /// Only what is older than this place.
    pub after: Option<Place>,
    /// At most so many.
    pub limit: i64,
}

/// One event of an answer.
#[derive(Debug, Clone)]
pub struct Found {
    /// Reference of the event.
    pub event: EventRef,
    /// Name of the host.
    pub host: String,
    /// Table of its kind.
    pub kind: String,
    /// Field and value, in the order of the columns; absent ones left out.
    pub values: Vec<(&'static str, String)>,
}

impl Found {
    /// A value by its field.
    pub fn value(&self, field: &str) -> Option<&str> {
        self.values.iter().find(|(name, _)| *name == field).map(|(_, value)| value.as_str())
    }
}

/// A pattern of `ilike` for a text where `*` stands for any text.
fn pattern(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_").replace('*', "%")
}

/// Fields that a word without a field is looked for in.
const ANYWHERE: [&str; 6] = ["command", "image", "destination", "ip", "name", "path"];

/// Appends the condition of a term on the host: full or short name.
fn on_host(sql: &mut QueryBuilder<Postgres>, term: &Term) {
    let Test::Like(names) = &term.test else { return };
    sql.push(if term.not { " and not (" } else { " and (" });
    for (n, name) in names.iter().enumerate() {
        sql.push(if n == 0 { "" } else { " or " });
        sql.push("t.host_id in (select host_id from host where name ilike ").push_bind(pattern(name));
        sql.push(" or split_part(name, '.', 1) ilike ").push_bind(pattern(name)).push(")");
    }
    sql.push(")");
}

/// Appends the condition of a term for one table; `false` when no row of this table can meet it.
fn condition(sql: &mut QueryBuilder<Postgres>, term: &Term, table: &'static str) -> bool {
    let columns: Vec<(&'static str, Kind)> = match term.field {
        "host" => {
            on_host(sql, term);
            return true;
        }
        "event" => {
            let Test::Like(names) = &term.test else { return false };
            return names.iter().any(|n| crate::model::exceptions::wildcard(n, table)) != term.not;
        }
        "any" => ANYWHERE.iter().filter_map(|name| Field::find(name)).filter_map(|f| f.column(table)).map(|c| (c, Kind::Text)).collect(),
        name => Field::find(name).and_then(|f| f.column(table).map(|c| (c, f.kind))).into_iter().collect(),
    };
    if columns.is_empty() {
        // What has no such field does not have the value either.
        return term.not;
    }
    sql.push(if term.not { " and not coalesce(" } else { " and (" });
    let mut first = true;
    let mut or = |sql: &mut QueryBuilder<Postgres>| {
        sql.push(if std::mem::take(&mut first) { "" } else { " or " });
    };
    for (column, kind) in columns {
        match &term.test {
            Test::Like(texts) => {
                for text in texts {
                    or(sql);
                    sql.push(column).push("::text ilike ").push_bind(if term.field == "any" { format!("%{}%", pattern(text)) } else { pattern(text) });
                    if kind == Kind::Path && !text.contains('\\') {
                        sql.push(" or ").push(column).push("::text ilike ").push_bind(format!("%\\\\{}", pattern(text)));
                    }
                }
            }
            Test::Equal(numbers) => {
                or(sql);
                sql.push(column).push("::float8 = any(").push_bind(numbers.clone()).push(")");
            }
            Test::Above(number) => {
                or(sql);
                sql.push(column).push("::float8 > ").push_bind(*number);
            }
            Test::Below(number) => {
                or(sql);
                sql.push(column).push("::float8 < ").push_bind(*number);
            }
        }
    }
    sql.push(if term.not { ", false)" } else { ")" });
    true
}

/// Newest first. Call it in a read-only transaction with a limit of time.
pub async fn ask(conn: &mut PgConnection, question: &Question) -> sqlx::Result<Vec<Found>> {
    let mut sql = QueryBuilder::<Postgres>::new("-- store::hunt::ask\nselect u.*, h.name as host from (");
    let mut any = false;
    for (table, _) in Fact::TABLES {
        let mut part = QueryBuilder::<Postgres>::new("");
        // Only to see whether this table can answer; the conditions are bound again below.
        if !question.terms.iter().all(|term| condition(&mut part, term, table)) {
            continue;
        }
        sql.push(if any { " union all (select " } else { "(select " });
        any = true;
        sql.push(format!("t.host_id, t.occurred_at, t.event_id, '{table}' as fact"));
        for name in SHOWN {
            let column = Field::find(name).and_then(|f| f.column(table)).unwrap_or("null");
            sql.push(format!(", ({column})::text as of_{name}"));
        }
        sql.push(format!(" from {table} t where t.occurred_at >= ")).push_bind(question.since);
        sql.push(" and t.occurred_at < ").push_bind(question.until);
        if let Some(place) = question.after {
            sql.push(" and (t.occurred_at, t.event_id) < (").push_bind(place.at).push(", ").push_bind(place.id.0).push(")");
        }
        for term in &question.terms {
            condition(&mut sql, term, table);
        }
        sql.push(" order by t.occurred_at desc, t.event_id desc limit ").push_bind(question.limit).push(")");
    }
    if !any {
        return Ok(Vec::new());
    }
    sql.push(") u join host h using (host_id) order by u.occurred_at desc, u.event_id desc limit ").push_bind(question.limit);
    let rows = sql.build().fetch_all(conn).await?;
    rows.into_iter()
        .map(|row| {
            let mut values = Vec::new();
            for name in SHOWN {
                if let Some(value) = row.try_get::<Option<String>, _>(format!("of_{name}").as_str())?.filter(|v| !v.is_empty()) {
                    values.push((name, value));
                }
            }
            Ok(Found {
                event: EventRef { host: HostId(row.try_get("host_id")?), at: row.try_get("occurred_at")?, id: EventId(row.try_get("event_id")?) },
                host: row.try_get("host")?,
                kind: row.try_get("fact")?,
                values,
            })
        })
        .collect()
}

/// Makes the rest of this transaction read-only, and ends a statement that takes longer than 30 s.
pub async fn restrain(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("set transaction read only").execute(&mut *conn).await?;
    sqlx::query!("set local statement_timeout = '30s'").execute(conn).await?;
    Ok(())
}

/// Latest event time of any host.
pub async fn latest(conn: &mut PgConnection) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        "-- store::hunt::latest
         select max(last_seen) from host"
    )
    .fetch_one(conn)
    .await
}

/// A question that somebody kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Key.
    pub id: i64,
    /// Who.
    pub owner: String,
    /// Words for people.
    pub name: String,
    /// The query of the address.
    pub query: String,
    /// All may use it.
    pub shared: bool,
}

/// Own and shared questions, by name.
pub async fn saved(conn: &mut PgConnection, owner: &str) -> sqlx::Result<Vec<Saved>> {
    sqlx::query_as!(
        Saved,
        r#"-- store::hunt::saved
           select saved_hunt_id as id, owner, name, query, shared from saved_hunt where owner = $1 or shared order by name, saved_hunt_id"#,
        owner
    )
    .fetch_all(conn)
    .await
}

/// Keeps a question; one of the same name is replaced.
pub async fn save(conn: &mut PgConnection, owner: &str, name: &str, query: &str, shared: bool, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "-- store::hunt::save
         insert into saved_hunt (owner, name, query, shared, created_at) values ($1, $2, $3, $4, $5)
         on conflict on constraint one_name_per_owner do update set query = excluded.query, shared = excluded.shared",
        owner,
        name,
        query,
        shared,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets an own question; `false` when there is none of this number.
pub async fn forget(conn: &mut PgConnection, owner: &str, id: i64) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "-- store::hunt::forget
         delete from saved_hunt where saved_hunt_id = $1 and owner = $2",
        id,
        owner
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}
