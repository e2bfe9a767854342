//! The command line: what can be asked of the program. Each command is a thin call; what it prints goes to standard output, the log
//! to standard error.

mod accounts;
mod demo;
mod doctor;

use crate::{
    app,
    config::{self, Part, Settings},
    database::{self, Database},
    embedded::Claim,
    rules,
    store::{
        self,
        audit::{self, Actor},
    },
    telemetry,
    time::{self, Clock},
};
use anyhow::Context;
use chrono::TimeDelta;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use sqlx::{ConnectOptions, PgConnection};
use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

/// Triage dashboard for compute hijacking on Windows fleets (MITRE ATT&CK analytics AN0741 and AN1489)
#[derive(Debug, Parser)]
#[command(name = "coalface", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Settings of this process
    #[command(flatten)]
    pub settings: Settings,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve pages and API, take events, evaluate them
    Serve {
        /// What this process does; several processes may share one database
        #[arg(long, env = "COALFACE_ROLE", value_enum, value_delimiter = ',', default_value = "web,ingest,worker")]
        role: Vec<Part>,
    },
    /// Read event files: .evtx, .json, .ndjson, .gz, .zst, .zip, folders, or - for standard input
    Import {
        /// Files and folders
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Print the status as JSON, as GET /api/v1/status does
    Status {
        /// Return when everything stored has been evaluated
        #[arg(long)]
        wait: bool,
    },
    /// Bring the database schema up to date
    Migrate,
    /// People: create, list, disable, reset-password
    #[command(subcommand)]
    User(accounts::User),
    /// Tokens of forwarders and programs: create, list, revoke
    #[command(subcommand)]
    Token(accounts::Token),
    /// Rules of your own
    #[command(subcommand)]
    Rules(Rules),
    /// The audit log
    #[command(subcommand)]
    Audit(Audit),
    /// Look for what is wrong with settings, database, keys and disk
    Doctor,
    /// Serve with a day of simulated telemetry, four attacks among it, and a user whose password works at once
    Demo {
        /// End when everything has been evaluated, and print what was found
        #[arg(long)]
        once: bool,
    },
    /// Measure this program on this machine, on a database of its own, and print a table
    Bench(crate::bench::Options),
}

/// What can be asked about rules.
#[derive(Debug, Subcommand)]
pub enum Rules {
    /// Read a folder of Sigma rules and run the examples they carry
    Check {
        /// The folder
        dir: PathBuf,
    },
}

/// What can be asked about the audit log.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Check every seal: exit 0 if the log is whole, 1 if it is broken, 2 if it cannot be read
    Verify,
}

/// Reads the command line and does what it says.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let cli = match config::with_file(Cli::command(), &args) {
        Ok(command) => match Cli::from_arg_matches(&command.get_matches_from(args)) {
            Ok(cli) => cli,
            Err(e) => e.exit(),
        },
        Err(e) => return failed(&e),
    };
    let begun = telemetry::start(cli.settings.log, &cli.settings.log_filter).and_then(|()| {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")
    });
    match begun {
        Ok(runtime) => runtime.block_on(run(cli)).unwrap_or_else(|e| failed(&e)),
        Err(e) => failed(&e),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // nobody is left to tell when even standard error is gone
    writeln!(std::io::stderr(), "coalface: {error:#}").ok();
    ExitCode::FAILURE
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let settings = cli.settings;
    match cli.command {
        Command::Serve { role } => app::serve(settings, &role, async |_| Ok(())).await?,
        Command::Import { paths } => return import(settings, paths).await,
        Command::Status { wait } => {
            Console::open(&settings).await?.finish(async |console| status(console, wait).await).await?;
        }
        Command::Migrate => Console::open(&settings).await?.finish(async |_| say("the schema is up to date")).await?,
        Command::User(what) => Console::open(&settings).await?.finish(async |console| what.run(console).await).await?,
        Command::Token(what) => Console::open(&settings).await?.finish(async |console| what.run(console).await).await?,
        Command::Rules(Rules::Check { dir }) => return check_rules(&dir),
        Command::Audit(Audit::Verify) => return verify(&settings).await,
        Command::Doctor => return doctor::run(&settings).await,
        Command::Demo { once } => demo::run(settings, once).await?,
        Command::Bench(options) => say(crate::bench::run(options).await?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a line of a command's answer.
fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("printing")
}

/// What a command on the console works with: a migrated database, one connection, and a name for the audit log.
#[derive(Debug)]
struct Console {
    database: Database,
    db: PgConnection,
    clock: time::System,
    key: Arc<[u8]>,
    actor: Actor,
}

impl Console {
    /// Attaches to the database of a running server, or starts the private one.
    async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let database = Database::open(settings, Claim::Visit).await?;
        match Self::connect(settings, &database).await {
            Ok((db, key)) => {
                Ok(Self { database, db, clock: time::System, actor: Actor::new("console", key.clone()), key })
            }
            Err(e) => {
                database.close().await?;
                Err(e)
            }
        }
    }

    async fn connect(settings: &Settings, database: &Database) -> anyhow::Result<(PgConnection, Arc<[u8]>)> {
        database::migrate(&database.owner).await?;
        let mut db = database.app.connect().await.context("connecting to the database")?;
        let key = app::audit_key(settings, &mut db).await?;
        Ok((db, key))
    }

    /// Does the work, then lets go of the database whatever came of it.
    async fn finish<T>(mut self, work: impl AsyncFnOnce(&mut Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let done = work(&mut self).await;
        let Self { database, db, .. } = self;
        drop(db);
        database.close().await?;
        done
    }
}

async fn status(console: &mut Console, wait: bool) -> anyhow::Result<()> {
    loop {
        let status = store::status::read(&mut console.db, console.clock.now()).await?;
        if !wait || status.worker.pending == 0 {
            return say(serde_json::to_string_pretty(&status)?);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Stores what the files hold; a running server evaluates it, or the next one.
async fn import(settings: Settings, paths: Vec<PathBuf>) -> anyhow::Result<ExitCode> {
    let database = Database::open(&settings, Claim::Visit).await?;
    let read = async {
        let app = app::start(settings, &database).await?;
        let read = crate::import::run(app.clone(), paths).await;
        app.end().await;
        read
    }
    .await;
    database.close().await?;
    read
}

fn check_rules(dir: &Path) -> anyhow::Result<ExitCode> {
    let report = rules::check::check(dir);
    say(&report)?;
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn verify(settings: &Settings) -> anyhow::Result<ExitCode> {
    let verified = async {
        let console = Console::open(settings).await?;
        console.finish(async |console| Ok(audit::verify(&mut console.db, &console.key).await?)).await
    };
    match verified.await {
        Ok(audit::Verified { rows, broken: None }) => {
            say(format_args!("the audit log is whole: {rows} rows"))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(audit::Verified { rows, broken: Some((seq, reason)) }) => {
            say(format_args!("the audit log is broken at row {seq}: {reason} ({rows} rows read)"))?;
            Ok(ExitCode::FAILURE)
        }
        Err(e) => {
            failed(&e);
            Ok(ExitCode::from(2))
        }
    }
}

/// `90d`, `12h`, `2w`.
fn duration(text: &str) -> Result<TimeDelta, String> {
    let bad = || format!("`{text}`: expected a number with h, d or w, as in 90d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    let number: u32 = number.parse().map_err(|_| bad())?;
    match unit {
        "h" => Ok(TimeDelta::hours(number.into())),
        "d" => Ok(TimeDelta::days(number.into())),
        "w" => Ok(TimeDelta::weeks(number.into())),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("90d"), Ok(TimeDelta::days(90)));
        assert_eq!(duration("2w"), Ok(TimeDelta::days(14)));
        for bad in ["", "d", "90", "-1d", "1y", "é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
