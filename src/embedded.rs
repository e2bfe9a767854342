//! The private PostgreSQL cluster under the data folder: made on first use, reached by a unix socket only, stopped last.
//!
//! One process owns the cluster and stops it; others attach while it runs. `pg_ctl` starts and stops the server, so a signal to our
//! terminal never reaches it, and a server that outlived a killed Coalface is simply taken over.

mod binaries;
mod home;

use anyhow::{Context, bail, ensure};
use binaries::Binaries;
pub use binaries::OLDEST;
use home::Home;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// Name of the database and of the role that the product works as.
pub const NAME: &str = "coalface";

/// How long a command waits for a cluster that another process is starting or stopping. Chosen: a crash recovery takes this long.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long the owner waits for attached commands before it stops the cluster under them. Chosen.
const VISITORS: Duration = Duration::from_secs(5);
/// Between looks at a lock or at the server.
const BEAT: Duration = Duration::from_millis(100);

/// What a process wants of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// To own it for its whole life; refused while another process serves.
    Serve,
    /// To use it: attached while it runs, else started for as long as this process needs it.
    Visit,
}

/// Whether the cluster keeps what it committed when the machine fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Always, outside tests.
    Full,
    /// Nothing is flushed to disk. For tests of everything but durability.
    UnsafeFast,
}

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Superuser of the cluster: makes roles and databases.
    Superuser,
    /// Owns the schema: migrations.
    Owner,
    /// Reads and writes rows; cannot change the schema or what the audit log holds.
    App,
}

impl Login {
    fn role(self) -> &'static str {
        match self {
            Self::Superuser => "postgres",
            Self::Owner => "coalface_owner",
            Self::App => NAME,
        }
    }
}

/// A running cluster, owned or attached to.
#[derive(Debug)]
pub struct Embedded {
    binaries: Binaries,
    home: Home,
    data: PathBuf,
    durability: Durability,
    hold: Hold,
}

/// Locks of this process. The operating system lets go of them when it dies, however it dies.
#[derive(Debug)]
enum Hold {
    Owner { _lock: File },
    Visitor { _lock: File },
}

impl Embedded {
    /// Makes, starts or finds the cluster of a data folder and waits until it answers.
    ///
    /// # Errors
    /// When there are no PostgreSQL binaries, another process serves this folder, or the server does not start.
    pub async fn open(
        data: &Path,
        pg_bin: Option<&Path>,
        claim: Claim,
        durability: Durability,
    ) -> anyhow::Result<Self> {
        let data = crate::config::absolute(data)?;
        let home = Home::open(&data)?;
        let binaries = Binaries::find(pg_bin, home.major()?)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(lock) = own(&data, claim)? {
                let cluster = Self { binaries, home, data, durability, hold: Hold::Owner { _lock: lock } };
                cluster.create().await?;
                if !cluster.answers().await {
                    cluster.start().await?;
                }
                cluster.prepare().await?;
                return Ok(cluster);
            }
            if claim == Claim::Visit
                && let Some(lock) = visit(&data)?
            {
                let cluster = Self {
                    binaries: binaries.clone(),
                    home: home.clone(),
                    data: data.clone(),
                    durability,
                    hold: Hold::Visitor { _lock: lock },
                };
                if cluster.database_answers().await {
                    return Ok(cluster);
                }
            }
            ensure!(
                Instant::now() < deadline,
                "the database of {} was starting or stopping for {} s: see {}",
                data.display(),
                PATIENCE.as_secs(),
                home.log().display()
            );
            sleep(BEAT).await;
        }
    }

    /// How to connect.
    pub fn connect_options(&self, login: Login) -> PgConnectOptions {
        let database = if login == Login::Superuser { "postgres" } else { NAME };
        PgConnectOptions::new_without_pgpass()
            .socket(self.home.socket())
            .port(home::PORT)
            .username(login.role())
            .database(database)
    }

    /// Where the cluster, its socket and its log are.
    pub fn folder(&self) -> &Path {
        self.home.dir()
    }

    /// Which server runs it, for `doctor`.
    pub fn binaries(&self) -> &Path {
        &self.binaries.dir
    }

    /// Starts the server again whenever it is gone, after 1 to 30 s, until told to stop.
    pub async fn supervise(&self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = async {
                loop {
                    let lost = self.watch().await;
                    warn!("lost the private database server: {lost}");
                    self.restore().await;
                    info!("the private database server answers again");
                }
            } => {}
        }
    }

    /// Returns when the server answers. One that lost a single backend restarts by itself.
    async fn restore(&self) {
        let mut pause = Duration::from_secs(1);
        while !self.answers().await {
            if self.running().await {
                sleep(BEAT).await;
            } else if let Err(e) = self.start().await {
                error!(pause_seconds = pause.as_secs(), "the private database server does not start: {e:#}");
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(30));
            }
        }
    }

    /// Lets go of the cluster; its owner stops it, in fast mode.
    ///
    /// # Errors
    /// When the server does not stop.
    pub async fn close(self) -> anyhow::Result<()> {
        let Hold::Owner { .. } = self.hold else { return Ok(()) };
        let visitors = lock_file(&self.data, "visitors.lock")?;
        let deadline = Instant::now() + VISITORS;
        while visitors.try_lock().is_err() && Instant::now() < deadline {
            sleep(BEAT).await;
        }
        if self.running().await {
            self.pg_ctl(&["stop", "--mode=fast", "--timeout=60"])
                .await
                .context("stopping the private database server")?;
        }
        Ok(())
    }

    /// Leaves the server running for whoever comes next; only the test harness does that.
    pub fn leave(self) {
        debug!(folder = %self.folder().display(), "left the private database server running");
    }

    /// Resolves when the server stops answering; says why.
    async fn watch(&self) -> sqlx::Error {
        let mut connection = match self.connect_options(Login::Superuser).connect().await {
            Ok(connection) => connection,
            Err(e) => return e,
        };
        loop {
            sleep(Duration::from_secs(1)).await;
            if let Err(e) = connection.ping().await {
                return e;
            }
        }
    }

    async fn answers(&self) -> bool {
        try_connect(self.connect_options(Login::Superuser)).await.is_some()
    }

    async fn database_answers(&self) -> bool {
        try_connect(self.connect_options(Login::App)).await.is_some()
    }

    async fn running(&self) -> bool {
        !self.home.has_stale_pid() && self.pg_ctl(&["status"]).await.is_ok()
    }

    /// Makes the cluster, unless it is there: under another name first, so that one cut short is never used.
    async fn create(&self) -> anyhow::Result<()> {
        let cluster = self.home.cluster();
        if !cluster.exists() {
            info!(folder = %self.home.dir().display(), server = %self.binaries.dir.display(), "making a private database cluster");
            let fresh = self.home.dir().join("cluster.new");
            if fresh.exists() {
                std::fs::remove_dir_all(&fresh)?;
            }
            let pgdata = format!("--pgdata={}", fresh.display());
            let args = [
                pgdata.as_str(),
                "--username=postgres",
                "--data-checksums",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--auth=peer",
                "--no-instructions",
            ];
            run(self.home.command(&self.binaries.dir.join("initdb")).args(args))
                .await
                .context("making the private database cluster")?;
            std::fs::rename(&fresh, &cluster)?;
        }
        self.home.configure(self.durability)
    }

    async fn start(&self) -> anyhow::Result<()> {
        self.home.remove_stale_pid()?;
        let log = self.home.log();
        let log_flag = format!("--log={}", log.display());
        if let Err(e) = self.pg_ctl(&["start", "--wait", "--timeout=300", &log_flag]).await {
            bail!("starting the private database server: {e:#}\n{}", tail(&log));
        }
        Ok(())
    }

    /// Roles and database, where missing.
    async fn prepare(&self) -> anyhow::Result<()> {
        let mut db = self
            .connect_options(Login::Superuser)
            .connect()
            .await
            .context("connecting to the private database server")?;
        for role in [Login::Owner.role(), Login::App.role(), "coalface_hunt"] {
            let missing: bool = sqlx::query_scalar("select not exists (select from pg_roles where rolname = $1)")
                .bind(role)
                .fetch_one(&mut db)
                .await?;
            if missing {
                sqlx::raw_sql(AssertSqlSafe(format!("create role {role} login"))).execute(&mut db).await?;
            }
        }
        sqlx::raw_sql("alter role coalface_hunt set default_transaction_read_only = on").execute(&mut db).await?;
        let missing: bool = sqlx::query_scalar("select not exists (select from pg_database where datname = $1)")
            .bind(NAME)
            .fetch_one(&mut db)
            .await?;
        if missing {
            sqlx::raw_sql(AssertSqlSafe(format!("create database {NAME} owner coalface_owner")))
                .execute(&mut db)
                .await?;
        }
        db.close().await?;
        Ok(())
    }

    async fn pg_ctl(&self, args: &[&str]) -> anyhow::Result<()> {
        let pgdata = format!("--pgdata={}", self.home.cluster().display());
        run(self.home.command(&self.binaries.dir.join("pg_ctl")).args(args).arg("--silent").arg(pgdata)).await
    }
}

/// Takes the owner's lock; `None` while another process has it for a while.
fn own(data: &Path, claim: Claim) -> anyhow::Result<Option<File>> {
    let mut lock = lock_file(data, "coalface.lock")?;
    match lock.try_lock() {
        Ok(()) => {
            lock.set_len(0)?;
            write!(lock, "{} {}", if claim == Claim::Serve { "serve" } else { "visit" }, std::process::id())?;
            Ok(Some(lock))
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            lock.read_to_string(&mut holder)?;
            match holder.split_once(' ') {
                Some(("serve", pid)) if claim == Claim::Serve => bail!(
                    "another `coalface serve` (process {pid}) uses {}: stop it, choose another folder with COALFACE_DATA, or share one database by DATABASE_URL",
                    data.display()
                ),
                _ => Ok(None),
            }
        }
        Err(TryLockError::Error(e)) => Err(e).context("locking the data folder"),
    }
}

/// Keeps the owner from stopping the cluster; `None` while it is doing so.
fn visit(data: &Path) -> anyhow::Result<Option<File>> {
    let lock = lock_file(data, "visitors.lock")?;
    match lock.try_lock_shared() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e).context("locking the data folder"),
    }
}

fn lock_file(data: &Path, name: &str) -> anyhow::Result<File> {
    let path = data.join(name);
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))
}

async fn try_connect(options: PgConnectOptions) -> Option<PgConnection> {
    let options = options.log_statements(tracing::log::LevelFilter::Off);
    timeout(Duration::from_secs(5), options.connect()).await.ok()?.ok()
}

/// Runs a program of PostgreSQL to its end.
async fn run(command: &mut tokio::process::Command) -> anyhow::Result<()> {
    let output =
        command.output().await.with_context(|| format!("running {}", command.as_std().get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    bail!(
        "{} ended with {}: {}",
        command.as_std().get_program().display(),
        output.status,
        String::from_utf8_lossy(&said).trim()
    )
}

/// The last lines of the server's log.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_on_one_folder_is_refused_and_a_visitor_waits() {
        let data = tempfile::tempdir().unwrap();
        let first = own(data.path(), Claim::Serve).unwrap();
        assert!(first.is_some());
        let refusal = own(data.path(), Claim::Serve).unwrap_err().to_string();
        assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
        assert!(own(data.path(), Claim::Visit).unwrap().is_none());
        drop(first);
        assert!(own(data.path(), Claim::Visit).unwrap().is_some());
    }

    #[test]
    fn the_owner_cannot_stop_while_somebody_is_attached() {
        let data = tempfile::tempdir().unwrap();
        let visitor = visit(data.path()).unwrap();
        assert!(visitor.is_some());
        assert!(lock_file(data.path(), "visitors.lock").unwrap().try_lock().is_err());
        drop(visitor);
        assert!(lock_file(data.path(), "visitors.lock").unwrap().try_lock().is_ok());
    }
}
