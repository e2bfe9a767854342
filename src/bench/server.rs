//! The program under test: the real binary on a private database of its own, watched from outside.

use crate::{
    embedded::{Claim, Durability, Embedded, Login},
    time::{Clock as _, System},
};
use anyhow::{Context as _, bail, ensure};
use chrono::TimeDelta;
use reqwest::{
    Client,
    header::{CONTENT_TYPE, COOKIE, ORIGIN, SET_COOKIE},
};
use serde_json::Value;
use sqlx::{ConnectOptions as _, PgConnection};
use std::{
    fs::OpenOptions,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    time::{sleep, timeout},
};

/// How long the program may take to get ready or to stop before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running `coalface serve`.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    program: PathBuf,
    data: PathBuf,
    /// Base address of pages and API.
    pub(super) pages: String,
    /// Base address of the forwarders' port.
    pub(super) ingest: String,
    /// From the start of the process to the first 200 of `/readyz`.
    pub(super) ready_after: Duration,
}

fn command(program: &Path, data: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_remove("DATABASE_URL").env("COALFACE_DATA", data).stdin(Stdio::null());
    command
}

impl Server {
    /// Starts the program on the data folder and waits until it is ready; its output goes to `serve.log` there.
    pub(super) async fn start(program: &Path, data: &Path, client: &Client) -> anyhow::Result<Self> {
        // Both are held at once, so that they differ; the program binds them a moment later.
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| Ok((socket.local_addr()?, socket))).context("looking for a free port");
        let ((pages, first), (ingest, second)) = (free()?, free()?);
        drop((first, second));
        let log_path = data.with_extension("log");
        let log = OpenOptions::new().create(true).append(true).open(&log_path)?;
        let before = Instant::now();
        let child = command(program, data)
            .arg("serve")
            .env("COALFACE_LISTEN", pages.to_string())
            .env("COALFACE_INGEST_LISTEN", ingest.to_string())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let (program, data) = (program.to_owned(), data.to_owned());
        let mut server = Self { child, program, data, pages: format!("http://{pages}"), ingest: format!("http://{ingest}"), ready_after: Duration::ZERO };
        let ready = format!("{}/readyz", server.pages);
        while !client.get(&ready).send().await.is_ok_and(|reply| reply.status().is_success()) {
            if let Some(status) = server.child.try_wait()? {
                bail!("`coalface serve` ended with {status}; its output:\n{}", std::fs::read_to_string(&log_path)?);
            }
            ensure!(before.elapsed() < PATIENCE, "`coalface serve` was not ready after {} s; see {}", PATIENCE.as_secs(), log_path.display());
            sleep(Duration::from_millis(10)).await;
        }
        server.ready_after = before.elapsed();
        Ok(server)
    }

    /// Stops it as a service manager would.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).context("stopping `coalface serve`")?;
        }
        let status = timeout(PATIENCE, self.child.wait()).await.context("`coalface serve` did not stop")??;
        ensure!(status.success(), "`coalface serve` ended with {status}");
        Ok(())
    }

    /// Makes a token on the console.
    pub(super) async fn token(&self, name: &str, scope: &str) -> anyhow::Result<String> {
        let mut command = command(&self.program, &self.data);
        let output = command.args(["token", "create", "--name", name, "--scope", scope]).stderr(Stdio::inherit()).output().await?;
        ensure!(output.status.success(), "`coalface token create` ended with {}", output.status);
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Makes an analyst and signs in: the cookie to send.
    pub(super) async fn sign_in(&self) -> anyhow::Result<String> {
        let password = uuid::Uuid::new_v4().to_string();
        let mut command = command(&self.program, &self.data);
        let mut child = command.args(["user", "create", "--name", "bench", "--role", "analyst"]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("no standard input")?.write_all(password.as_bytes()).await?;
        let status = child.wait().await?;
        ensure!(status.success(), "`coalface user create` ended with {status}");
        let browser = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
        let form = serde_html_form::to_string([("name", "bench"), ("password", &password)])?;
        let request = browser.post(format!("{}/login", self.pages)).header(CONTENT_TYPE, "application/x-www-form-urlencoded").header(ORIGIN, &self.pages).body(form);
        let reply = request.send().await?;
        let cookie = reply.headers().get(SET_COOKIE).with_context(|| format!("signing in was answered {}", reply.status()))?;
        Ok(cookie.to_str()?.split(';').next().unwrap_or_default().to_owned())
    }

    /// Time until a page is there as a whole.
    pub(super) async fn page(&self, client: &Client, cookie: &str, path: &str) -> anyhow::Result<Duration> {
        let before = Instant::now();
        let reply = client.get(format!("{}{path}", self.pages)).header(COOKIE, cookie).send().await?.error_for_status()?;
        reply.bytes().await.with_context(|| format!("reading {path}"))?;
        Ok(before.elapsed())
    }

    /// A connection to its database as superuser, for limits and sizes.
    pub(super) async fn database(&self) -> anyhow::Result<PgConnection> {
        let cluster = Embedded::open(&self.data, None, Claim::Visit, Durability::Full).await?;
        let options = cluster.connect_options(Login::Superuser).database(crate::embedded::NAME);
        options.connect().await.context("connecting to the database of the program under test")
    }

    /// JSON of an API route.
    pub(super) async fn json(&self, client: &Client, token: &str, path: &str) -> anyhow::Result<Value> {
        let reply = client.get(format!("{}{path}", self.pages)).bearer_auth(token).send().await?.error_for_status()?;
        reply.json().await.with_context(|| format!("reading {path}"))
    }

    /// Waits until everything stored has been evaluated; `None` if it takes longer than `limit`.
    pub(super) async fn settled(&self, client: &Client, token: &str, limit: Duration) -> anyhow::Result<Option<Duration>> {
        let before = Instant::now();
        while before.elapsed() < limit {
            let status = self.json(client, token, "/api/v1/status").await?;
            if status["worker"]["pending"].as_u64() == Some(0) {
                return Ok(Some(before.elapsed()));
            }
            sleep(Duration::from_millis(250)).await;
        }
        Ok(None)
    }

    /// Largest resident size the process has had, in bytes; its database server is not counted.
    pub(super) fn peak_rss(&self) -> anyhow::Result<u64> {
        let pid = self.child.id().context("`coalface serve` has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1_024)
    }
}

/// Processor time this process has used. Source: proc(5), fields 14 and 15 of `stat`, in ticks of 1/100 s.
pub(super) fn own_cpu() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").context("an unknown form of /proc/self/stat")?;
    let ticks: Vec<u64> = fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 10))
}

/// What the figures were measured on.
pub(super) async fn machine(db: &mut PgConnection) -> anyhow::Result<Value> {
    let first = |path: &str, key: &str| -> String {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix(key)?.split_once(':')).map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let names = [
        "server_version", "fsync", "synchronous_commit", "full_page_writes", "data_checksums", "shared_buffers", "max_wal_size", "wal_compression",
        "max_connections", "work_mem",
    ]
    .map(str::to_owned);
    let rows = sqlx::query!(
        r#"-- bench::server::machine: under which settings does the database run?
        select name as "name!", current_setting(name) as "value!" from unnest($1::text[]) as wanted (name)"#,
        &names
    )
    .fetch_all(db)
    .await?;
    let settings: serde_json::Map<String, Value> = rows.into_iter().map(|row| (row.name, row.value.into())).collect();
    Ok(serde_json::json!({
        "processor": first("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism()?.get(),
        "memory": first("/proc/meminfo", "MemTotal"),
        "optimised": !cfg!(debug_assertions),
        "postgresql": settings,
    }))
}

/// Event time at which the load begins: so long ago that none of it lies in the future.
pub(super) fn load_begins() -> chrono::DateTime<chrono::Utc> {
    System.now() - TimeDelta::hours(6)
}
