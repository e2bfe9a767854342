//! `coalface doctor`: what could be wrong, looked at and said in one line each.

use super::say;
use crate::{
    config::{self, Settings},
    database::{Database, Server},
    embedded::Claim,
};
use sqlx::{ConnectOptions, Connection};
use std::{fmt, os::unix::fs::PermissionsExt, path::Path, process::ExitCode};

/// Least free share of a volume, in percent, and least free bytes. Source: trust design, section 15.
const SPACE_WARN: (u64, u64) = (20, 5 << 30);
const SPACE_FAIL: (u64, u64) = (5, 1 << 30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Good,
    Warn,
    Fail,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "ok",
            Self::Warn => "warning",
            Self::Fail => "FAILED",
        })
    }
}

#[derive(Debug, Default)]
struct Report(Vec<(Mark, String)>);

impl Report {
    fn add(&mut self, mark: Mark, text: impl Into<String>) {
        self.0.push((mark, text.into()));
    }
}

/// Exit 1 when something has failed; warnings are left to the reader.
pub(super) async fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    listeners(settings, &mut report);
    key_file(&settings.audit_key_path(), &mut report);
    match Database::open(settings, Claim::Visit).await {
        Ok(database) => {
            if let Err(e) = ask(settings, &database, &mut report).await {
                report.add(Mark::Fail, format!("the database does not answer: {e:#}"));
            }
            database.close().await?;
        }
        Err(e) => report.add(Mark::Fail, format!("no database: {e:#}")),
    }
    for (mark, text) in &report.0 {
        say(format_args!("{mark:8} {text}"))?;
    }
    let failed = report.0.iter().any(|(mark, _)| *mark == Mark::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn listeners(settings: &Settings, report: &mut Report) {
    let https = settings.public_url.as_deref().is_some_and(|url| url.starts_with("https://"));
    if config::beyond_loopback(settings.listen) && !https {
        report.add(
            Mark::Warn,
            format!("pages are served on {} without https: passwords and cookies travel in the clear", settings.listen),
        );
    } else {
        report.add(Mark::Good, format!("pages on {}", settings.listen));
    }
    let beyond = if config::beyond_loopback(settings.ingest_listen) { ", reachable from the network" } else { "" };
    report.add(Mark::Good, format!("events on {}{beyond}", settings.ingest_listen));
}

fn key_file(path: &Path, report: &mut Report) {
    match std::fs::metadata(path) {
        Ok(meta) if meta.permissions().mode().trailing_zeros() >= 6 => {
            report.add(Mark::Good, format!("the audit key is {}", path.display()));
        }
        Ok(_) => report.add(Mark::Fail, format!("others can read the audit key: chmod 600 {}", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            report.add(Mark::Warn, format!("there is no audit key yet at {}", path.display()));
        }
        Err(e) => report.add(Mark::Fail, format!("the audit key {} cannot be read: {e}", path.display())),
    }
}

async fn ask(settings: &Settings, database: &Database, report: &mut Report) -> anyhow::Result<()> {
    if let Some(cluster) = &database.embedded {
        report.add(
            Mark::Good,
            format!("private database in {}, run by {}", cluster.folder().display(), cluster.binaries().display()),
        );
        space(cluster.folder(), report)?;
    } else if settings.migrate_url.is_none() {
        report.add(Mark::Warn, "one database account for everything: COALFACE_MIGRATE_URL lets DATABASE_URL do without rights on the schema");
    }
    let mut db = database.app.connect().await?;
    let server = Server::ask(&mut db).await?;
    report.add(Mark::Good, format!("PostgreSQL {}", server.version / 10_000));
    let findings = server.findings();
    let refuse = if settings.unsafe_database { Mark::Warn } else { Mark::Fail };
    findings.refuse.into_iter().for_each(|text| report.add(refuse, format!("database: {text}")));
    findings.warn.into_iter().for_each(|text| report.add(Mark::Warn, format!("database: {text}")));
    let migrated: bool =
        sqlx::query_scalar!(r#"select to_regclass('mark') is not null as "there!""#).fetch_one(&mut db).await?;
    if migrated {
        let waiting = sqlx::query_scalar!(r#"select count(*) as "waiting!" from mark"#).fetch_one(&mut db).await?;
        report.add(Mark::Good, format!("{waiting} marks wait to be evaluated"));
    } else {
        report.add(Mark::Warn, "the schema is not there yet: coalface migrate");
    }
    db.close().await?;
    Ok(())
}

fn space(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let volume = rustix::fs::statvfs(folder)?;
    let (free, size) =
        (volume.f_bavail.saturating_mul(volume.f_frsize), volume.f_blocks.saturating_mul(volume.f_frsize).max(1));
    let below = |(percent, bytes): (u64, u64)| free < bytes || free.saturating_mul(100) / size < percent;
    let mark = if below(SPACE_FAIL) {
        Mark::Fail
    } else if below(SPACE_WARN) {
        Mark::Warn
    } else {
        Mark::Good
    };
    report.add(mark, format!("{} GiB free of {} GiB at {}", free >> 30, size >> 30, folder.display()));
    Ok(())
}
