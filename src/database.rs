//! Which database a process works on, whether it keeps its word, its schema, and the pools.

use crate::{
    app::Pools,
    config::{DatabaseUrl, Settings},
    embedded::{Claim, Durability, Embedded, Login},
};
use anyhow::{Context, bail};
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions, postgres::PgPoolOptions};
use std::time::Duration;
use tracing::warn;

/// The database of this process.
#[derive(Debug)]
pub struct Database {
    /// Reads and writes rows.
    pub app: PgConnectOptions,
    /// Changes the schema.
    pub owner: PgConnectOptions,
    /// The private cluster, unless `DATABASE_URL` names another.
    pub embedded: Option<Embedded>,
}

impl Database {
    /// The named database, or the private cluster, running.
    ///
    /// # Errors
    /// When the URL cannot be read or the private cluster cannot be had.
    pub async fn open(settings: &Settings, claim: Claim) -> anyhow::Result<Self> {
        let Some(url) = &settings.database_url else {
            let cluster = Embedded::open(&settings.data, settings.pg_bin.as_deref(), claim, Durability::Full).await?;
            return Ok(Self {
                app: cluster.connect_options(Login::App),
                owner: cluster.connect_options(Login::Owner),
                embedded: Some(cluster),
            });
        };
        let app = parse(url, "DATABASE_URL")?;
        let owner = settings.migrate_url.as_ref().map_or(Ok(app.clone()), |url| parse(url, "COALFACE_MIGRATE_URL"))?;
        Ok(Self { app, owner, embedded: None })
    }

    /// Lets go of the private cluster, if there is one.
    ///
    /// # Errors
    /// When its server does not stop.
    pub async fn close(self) -> anyhow::Result<()> {
        match self.embedded {
            Some(cluster) => cluster.close().await,
            None => Ok(()),
        }
    }
}

fn parse(url: &DatabaseUrl, name: &str) -> anyhow::Result<PgConnectOptions> {
    // the parser's own message may repeat the password
    url.expose()
        .parse::<PgConnectOptions>()
        .ok()
        .with_context(|| format!("{name} cannot be read: expected postgres://user:password@host/name"))
}

/// What a server says of itself.
#[derive(Debug, Clone)]
pub struct Server {
    /// As in 150018.
    pub version: i32,
    encoding: String,
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
    checksums: String,
    max_connections: i32,
    superuser: bool,
}

/// What is wrong with a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// It may lose or garble what it acknowledged.
    pub refuse: Vec<String>,
    /// It could be better.
    pub warn: Vec<String>,
}

impl Server {
    /// Asks the server.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ask(db: &mut PgConnection) -> sqlx::Result<Self> {
        sqlx::query_as!(
            Self,
            r#"select current_setting('server_version_num')::int as "version!", current_setting('server_encoding') as "encoding!",
                 current_setting('fsync') as "fsync!", current_setting('full_page_writes') as "full_page_writes!",
                 current_setting('synchronous_commit') as "synchronous_commit!", current_setting('data_checksums') as "checksums!",
                 current_setting('max_connections')::int as "max_connections!",
                 (select rolsuper from pg_roles where rolname = current_user) as "superuser!""#
        )
        .fetch_one(db)
        .await
    }

    /// Judges the answers. Source: trust design, section 12.
    pub fn findings(&self) -> Findings {
        let mut found = Findings::default();
        let major = u32::try_from(self.version / 10_000).unwrap_or(0);
        if major < crate::embedded::OLDEST {
            found
                .refuse
                .push(format!("the server is PostgreSQL {major}, {} or later is needed", crate::embedded::OLDEST));
        }
        if self.encoding != "UTF8" {
            found.refuse.push(format!("the encoding is {}, UTF8 is needed", self.encoding));
        }
        for (name, value) in [
            ("fsync", &self.fsync),
            ("full_page_writes", &self.full_page_writes),
            ("synchronous_commit", &self.synchronous_commit),
        ] {
            if value == "off" {
                found.refuse.push(format!("{name} is off: acknowledged events could be lost"));
            }
        }
        if self.checksums != "on" {
            found.warn.push("data checksums are off: a failing disk goes unnoticed".into());
        }
        if self.superuser {
            found.warn.push("the program works as superuser: anybody who takes it over owns the database".into());
        }
        if self.max_connections < 20 {
            found.warn.push(format!("max_connections is {}: one process uses up to 16", self.max_connections));
        }
        found
    }
}

/// Refuses a database that may lose what it acknowledged, unless told that it is one for tests.
///
/// # Errors
/// When the database does not answer, or must not be used.
pub async fn check(app: &PgConnectOptions, unsafe_database: bool) -> anyhow::Result<Findings> {
    let mut db = app.connect().await.context("connecting to the database")?;
    let findings = Server::ask(&mut db).await?.findings();
    db.close().await?;
    if !findings.refuse.is_empty() && !unsafe_database {
        bail!(
            "this database must not be used: {}. For a test database set COALFACE_UNSAFE_DATABASE=true",
            findings.refuse.join("; ")
        );
    }
    for finding in findings.refuse.iter().chain(&findings.warn) {
        warn!("database: {finding}");
    }
    Ok(findings)
}

/// Brings the schema up to date under the migrator's lock and gives the working roles their rights, where they exist.
///
/// # Errors
/// When a migration fails or a table stays locked.
pub async fn migrate(owner: &PgConnectOptions) -> anyhow::Result<()> {
    let mut db = owner.connect().await.context("connecting to the database")?;
    // the program of before may run on the schema of now
    let mut migrations = sqlx::migrate!("./migrations");
    migrations.set_ignore_missing(true);
    migrations.run(&mut db).await.context("migrating the database")?;
    sqlx::raw_sql(RIGHTS).execute(&mut db).await.context("granting rights")?;
    db.close().await?;
    Ok(())
}

/// The application changes rows, never the schema or what the audit log holds; the hunt role only reads, and no secrets.
const RIGHTS: &str = "
do $$ begin
  if exists (select from pg_roles where rolname = 'coalface') and current_user = 'coalface_owner' then
    grant usage on schema public to coalface, coalface_hunt;
    grant select, insert, update, delete on all tables in schema public to coalface;
    revoke update, delete on audit from coalface;
    revoke insert, update, delete on _sqlx_migrations from coalface;
    revoke insert, delete on audit_head from coalface;
    grant usage, select on all sequences in schema public to coalface;
    grant select on all tables in schema public to coalface_hunt;
    revoke select on account, session, login_attempt, api_token from coalface_hunt;
  end if;
end $$";

/// A pool's share of connections and how long a statement may take.
struct Share {
    name: &'static str,
    connections: u32,
    statement_timeout: &'static str,
}

/// Source: trust design, section 12.
const INGEST: Share = Share { name: "coalface ingest", connections: 4, statement_timeout: "10s" };
const WEB: Share = Share { name: "coalface web", connections: 4, statement_timeout: "5s" };
const WORKER: Share = Share { name: "coalface worker", connections: 4, statement_timeout: "60s" };

/// Pools that connect when first used.
pub fn pools(app: &PgConnectOptions) -> Pools {
    let pool = |share: &Share| {
        // statements take care of their own timing; what they hold does not belong into the log
        let options = app.clone().application_name(share.name).disable_statement_logging().options([
            ("statement_timeout", share.statement_timeout),
            // spans come as arrays whose length no generic plan knows
            ("plan_cache_mode", "force_custom_plan"),
            ("idle_in_transaction_session_timeout", "30s"),
            // what a killed process was waiting for must not go on without it
            ("client_connection_check_interval", "2s"),
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "10"),
            ("tcp_user_timeout", "30s"),
        ]);
        PgPoolOptions::new()
            .max_connections(share.connections)
            .acquire_timeout(Duration::from_secs(2))
            .connect_lazy_with(options)
    };
    Pools { ingest: pool(&INGEST), web: pool(&WEB), worker: pool(&WORKER) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Server {
        Server {
            version: 150_018,
            encoding: "UTF8".into(),
            fsync: "on".into(),
            full_page_writes: "on".into(),
            synchronous_commit: "on".into(),
            checksums: "on".into(),
            max_connections: 64,
            superuser: false,
        }
    }

    #[test]
    fn a_database_that_may_lose_events_is_refused() {
        assert_eq!(good().findings(), Findings::default());
        for bad in [
            Server { version: 140_011, ..good() },
            Server { encoding: "SQL_ASCII".into(), ..good() },
            Server { fsync: "off".into(), ..good() },
            Server { full_page_writes: "off".into(), ..good() },
            Server { synchronous_commit: "off".into(), ..good() },
        ] {
            assert_eq!(bad.findings().refuse.len(), 1, "{bad:?}");
        }
        for poor in [
            Server { checksums: "off".into(), ..good() },
            Server { superuser: true, ..good() },
            Server { max_connections: 10, ..good() },
        ] {
            assert_eq!((poor.findings().refuse.len(), poor.findings().warn.len()), (0, 1), "{poor:?}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_read_is_not_repeated() {
        let url: DatabaseUrl = "postgres://a:secret@[broken".parse().unwrap();
        let error = parse(&url, "DATABASE_URL").unwrap_err();
        assert!(!format!("{error:#}").contains("secret"));
    }
}
