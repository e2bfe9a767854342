//! The benchmark: starts the real program on a database of its own, sends it the load of the performance design, and measures every
//! figure beside its limit in the same run.
//!
//! `load` writes events, `sender` sends them, `limit` measures raw COPY, `server` is the program under test, `report` the table.

mod limit;
mod load;
mod report;
mod sender;
mod server;

pub use report::{Bar, Figure, Report};

use crate::{
    demo,
    intake::{Origin, prepare, split},
    model::{event::RawRecord, fact::Fact},
    rules::Ruleset,
    time::{Clock as _, System},
};
use anyhow::Context as _;
use axum::body::Bytes;
use limit::Limit;
use load::Load;
use reqwest::Client;
use sender::{Sender, percentile};
use server::Server;
use sqlx::PgConnection;
use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::AtomicU64,
    },
    time::{Duration, Instant},
};
use tracing::info;

/// Events that are rendered for the COPY limit, and its connections: `psql` has one. Source: performance design, P1.
const COPIED: u64 = 150_000;
const COPY_CONNECTIONS: usize = 1;
/// Events of a round of decoding.
const PREPARED: u64 = 50_000;
/// Rounds of limit and figure; medians count. Source: performance design, "medians of at least 3".
const ROUNDS: usize = 3;
/// How long the demo data set may take to be evaluated.
const DEMO_PATIENCE: Duration = Duration::from_mins(2);
/// Requests per page for its server time.
const PAGE_REQUESTS: usize = 60;
/// Megabyte of the memory bar.
const MIB: f64 = 1_048_576.0;

/// What to measure and where results go.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// At most three minutes in total
    #[arg(long)]
    pub quick: bool,
    /// Folder for results
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    pub results: PathBuf,
    /// Folder for the temporary database; it should be on a real disk
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
}

/// Which way events are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// `POST /api/v1/events`.
    Native,
    /// `POST /_bulk`.
    Bulk,
    /// `POST /services/collector/event`, the event's JSON inside Splunk's envelope.
    Hec,
    /// `POST /v1/logs`, protobuf with the event's JSON as the body of a log record.
    Otlp,
}

impl Route {
    fn path(self) -> &'static str {
        match self {
            Self::Native => "/api/v1/events",
            Self::Bulk => "/_bulk",
            Self::Hec => "/services/collector/event",
            Self::Otlp => "/v1/logs",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Native | Self::Bulk => "application/x-ndjson",
            Self::Hec => "application/json",
            Self::Otlp => "application/x-protobuf",
        }
    }

    /// Whether this reply says that every event was taken.
    fn is_success(self, reply: &str) -> bool {
        match self {
            Self::Native => reply.contains("\"quarantined\":0"),
            Self::Bulk => reply.contains("\"errors\":false"),
            Self::Hec => reply.contains("\"code\":0"),
            Self::Otlp => reply.is_empty(),
        }
    }
}

/// Lengths of the parts of a run.
struct Plan {
    /// Sent before P1 and not counted: the limit ends with a checkpoint, after which the first change of every page is logged as a whole.
    warm: Duration,
    load: Duration,
    other: Duration,
    settle: Duration,
    starts: usize,
}

impl Plan {
    fn of(options: &Options) -> Self {
        let seconds = Duration::from_secs;
        if options.quick {
            Self { warm: seconds(3), load: seconds(8), other: seconds(8), settle: seconds(30), starts: 1 }
        } else {
            Self { warm: seconds(10), load: seconds(60), other: seconds(30), settle: seconds(300), starts: 3 }
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Runs the benchmark, writes its JSON to the results folder and gives the report to print.
///
/// # Errors
/// The program under test does not start, loses or refuses an event, or the results cannot be written.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    let begin = System.now();
    let scratch = {
        // PostgreSQL runs as another user when we are root, and must be able to enter.
        let mut builder = tempfile::Builder::new();
        builder.prefix("coalface-bench-").permissions(Permissions::from_mode(0o755));
        match &options.scratch {
            Some(folder) => builder.tempdir_in(folder),
            None => builder.tempdir(),
        }
        .context("making a folder for the temporary database")?
    };
    let mut report = Report { at: begin.to_rfc3339(), quick: options.quick, machine: serde_json::Value::Null, sender_cpu: 0.0, figures: Vec::new() };
    report.figures.push(preparing()?);
    let client = Client::builder().no_proxy().timeout(Duration::from_mins(1)).pool_max_idle_per_host(32).build().context("making an HTTP client")?;
    let server = start(&scratch.path().join("data"), &client, &Plan::of(&options), &mut report).await?;
    let measured = measure(&server, &client, &Plan::of(&options), &mut report).await;
    // Whatever happened, the database must not outlive the benchmark.
    let stopped = server.stop().await;
    measured?;
    stopped?;
    report.figures.sort_by_key(|figure| figure.id.trim_start_matches('P').parse().unwrap_or(99));
    keep(&options.results, &begin.format("%Y-%m-%dT%H%M%SZ").to_string(), &report)?;
    Ok(report)
}

fn keep(folder: &Path, name: &str, report: &Report) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_vec_pretty(report)?).with_context(|| format!("writing {}", path.display()))?;
    info!(path = %path.display(), "kept the results");
    Ok(())
}

/// P10, and a running server at its end.
async fn start(data: &Path, client: &Client, plan: &Plan, report: &mut Report) -> anyhow::Result<Server> {
    let program = std::env::current_exe().context("finding the program's own file")?;
    let mut server = Server::start(&program, data, client).await?;
    let fresh = server.ready_after.as_secs_f64();
    let mut existing = Vec::new();
    for _ in 0..plan.starts {
        server.stop().await?;
        server = Server::start(&program, data, client).await?;
        existing.push(server.ready_after.as_secs_f64());
    }
    report.figures.push(Figure::new("P10", "start, fresh database", fresh, "s").bar(Bar::AtMost(10.0)));
    report.figures.push(Figure::new("P10", "start, existing database", median(existing), "s").bar(Bar::AtMost(2.0)));
    Ok(server)
}

/// What an event costs before it meets the database: parts of a second on one core with nothing beside it.
fn preparing() -> anyhow::Result<Figure> {
    let rules = Ruleset::load(None)?;
    let load = Load::new(server::load_begins());
    let mut rates = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS as u64 {
        let body = Bytes::from(load.body(round * PREPARED..(round + 1) * PREPARED, Route::Native));
        let records = split::documents(&body).map(|bytes| RawRecord { bytes, client_id: None, defaults: Arc::default() }).collect();
        let origin = Origin { token: "bench".to_owned(), protocol: "native", request_id: String::new() };
        let before = Instant::now();
        let batch = prepare(records, &rules, origin, System.now());
        rates.push(batch.records.len() as f64 / before.elapsed().as_secs_f64());
    }
    info!(rates = ?rates, "events prepared per second and core");
    Ok(Figure::new("", "decoding and rules, one core", median(rates), "events/s").note("without the database"))
}

async fn measure(server: &Server, client: &Client, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let mut databases = Vec::new();
    for _ in 0..COPY_CONNECTIONS {
        databases.push(server.database().await?);
    }
    report.machine = server::machine(&mut databases[0]).await?;
    let load = Arc::new(Load::new(server::load_begins()));
    let limits = {
        let load = Arc::clone(&load);
        tokio::task::spawn_blocking(move || Limit::prepare(&load, 0..COPIED, COPY_CONNECTIONS)).await??
    };
    let sender = Sender {
        client: client.clone(),
        ingest: server.ingest.clone(),
        token: server.token("bench-ingest", "ingest").await?,
        load,
        next: Arc::new(AtomicU64::new(0)),
    };
    let read = server.token("bench-read", "read").await?;

    detections(server, client, &read, &sender.token, report).await?;
    let p1 = ingest(server, &sender, &limits, &mut databases, plan, report).await?;
    let half = sender.send(Route::Native, plan.other, Some(p1 / 2.0)).await?;
    let note = format!("{:.0} events/s, {} requests, {} refused", half.rate(), half.latencies.len(), half.refused);
    report.figures.push(Figure::new("P3", "acknowledgement, p50", half.percentile(0.5), "ms").bar(Bar::AtMost(25.0)).note(note));
    report.figures.push(Figure::new("P3", "acknowledgement, p99", half.percentile(0.99), "ms").bar(Bar::AtMost(150.0)));

    let (bytes, events) = stored(&mut databases[0]).await?;
    let note = format!("{events} events stored, the demo data set among them");
    report.figures.push(Figure::new("P4", "stored, rows + indexes + segments", bytes as f64 / events as f64, "B/event").bar(Bar::AtMost(500.0)).note(note));

    let settled = server.settled(client, &read, plan.settle).await?;
    let seconds = settled.unwrap_or(plan.settle).as_secs_f64();
    let note = if settled.is_some() { "everything evaluated" } else { "not done within this time" };
    report.figures.push(Figure::new("", "worker after the load", seconds, "s").note(note));
    pages(server, client, &read, events, report).await
}

/// P1, P2 and P9; events per second of P1.
async fn ingest(server: &Server, sender: &Sender, limits: &Limit, databases: &mut [PgConnection], plan: &Plan, report: &mut Report) -> anyhow::Result<f64> {
    let (mut copied, mut native, mut refused) = (Vec::new(), Vec::new(), 0);
    let mut others = [(Route::Bulk, "ingest, _bulk", Vec::new()), (Route::Otlp, "ingest, OTLP protobuf", Vec::new()), (Route::Hec, "ingest, HEC", Vec::new())];
    let (mut sending, mut wall) = (Duration::ZERO, Duration::ZERO);
    for round in 1..=ROUNDS {
        copied.push(limits.measure(databases, plan.load / 2).await?);
        sender.send(Route::Native, plan.warm, None).await?;
        let (cpu, before) = (server::own_cpu()?, Instant::now());
        let sent = sender.send(Route::Native, plan.load, None).await?;
        sending += server::own_cpu()?.saturating_sub(cpu);
        wall += before.elapsed();
        refused += sent.refused;
        native.push(sent.rate());
        for (route, _, rates) in &mut others {
            rates.push(sender.send(*route, plan.other / ROUNDS as u32, None).await?.rate());
        }
        info!(round, copy = copied.last(), native = native.last(), bulk = others[0].2.last(), otlp = others[1].2.last(), hec = others[2].2.last(), "events per second");
    }
    let cores = std::thread::available_parallelism()?.get() as f64;
    report.sender_cpu = sending.as_secs_f64() / wall.as_secs_f64() / cores;
    let (copied, native) = (median(copied), median(native));
    let note = format!("{ROUNDS} × {} s, {refused} requests refused; limit: COPY, typed columns with key, one connection", plan.load.as_secs());
    report.figures.push(Figure::new("P1", "ingest, native NDJSON", native, "events/s").bar(Bar::AtLeast(50_000.0)).against(copied, 0.5).note(note));
    for (_, what, rates) in others {
        report.figures.push(Figure::new("P2", what, median(rates), "events/s").against(native, 0.7).note("limit: P1"));
    }
    let peak = server.peak_rss()? as f64 / MIB;
    report.figures.push(Figure::new("P9", "memory of the process, peak", peak, "MiB").bar(Bar::AtMost(256.0)).note("VmHWM, without PostgreSQL"));
    Ok(native)
}

/// The demo data set, so that there are detections to show on top of the load.
async fn detections(server: &Server, client: &Client, read: &str, ingest: &str, report: &mut Report) -> anyhow::Result<()> {
    let posted = demo::post(&server.ingest, ingest, System.now(), 1).await?;
    let settled = server.settled(client, read, DEMO_PATIENCE).await?.context("the demo data set was not evaluated in time")?;
    let note = format!("{} events of a day; after the last was acknowledged", posted.total());
    report.figures.push(Figure::new("", "worker, demo data set", settled.as_secs_f64(), "s").note(note));
    Ok(())
}

/// P7 in small: pages as an analyst gets them, while the worker is still at the load.
async fn pages(server: &Server, client: &Client, read: &str, stored: i64, report: &mut Report) -> anyhow::Result<()> {
    let list = server.json(client, read, "/api/v1/detections").await?;
    let items = list["items"].as_array().context("no list of detections")?;
    let first = items.first().context("the demo data set gave no detection")?;
    let (id, host) = (first["id"].as_str().context("a detection without id")?, first["host"]["name"].as_str().context("a detection without host")?);
    let note = format!("{stored} events stored, {} detections in the queue", items.len());
    let cookie = server.sign_in().await?;
    let figures = [
        ("queue", "/".to_owned(), 40.0, note),
        ("detection", format!("/detections/{id}"), 80.0, String::new()),
        ("host", format!("/hosts/{host}"), 80.0, String::new()),
        ("destinations", "/destinations".to_owned(), 150.0, String::new()),
    ];
    for (what, path, bar, note) in figures {
        let mut times = Vec::with_capacity(PAGE_REQUESTS);
        for _ in 0..PAGE_REQUESTS {
            times.push(server.page(client, &cookie, &path).await?);
        }
        let what = format!("page: {what}, p95");
        report.figures.push(Figure::new("P7", what, percentile(&times, 0.95), "ms").bar(Bar::AtMost(bar)).note(note));
    }
    Ok(())
}

/// Bytes of facts, rule hits and segments with their indexes, and how many events they hold.
async fn stored(db: &mut PgConnection) -> anyhow::Result<(i64, i64)> {
    let mut tables: Vec<String> = Fact::TABLES.iter().map(|(table, _)| (*table).to_owned()).collect();
    let mut events = 0;
    for table in &tables {
        let count = format!("select count(*) from {table}");
        events += sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(count)).fetch_one(&mut *db).await?;
    }
    tables.extend(["rule_hit", "segment"].map(str::to_owned));
    let bytes = sqlx::query_scalar!(
        r#"-- bench::stored: how much room do these tables, their partitions and indexes take?
        select sum(coalesce(
            (select sum(pg_total_relation_size(part.relid)) from pg_partition_tree(wanted.name::regclass) as part),
            pg_total_relation_size(wanted.name::regclass)))::bigint as "bytes!"
        from unnest($1::text[]) as wanted (name)"#,
        &tables
    )
    .fetch_one(db)
    .await?;
    Ok((bytes, events))
}
