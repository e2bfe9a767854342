//! The first promise under fire: what was acknowledged is there, once, whatever is killed and whenever.
//!
//! The real program on its own durable cluster. Writers post numbered events; a 2xx turns the numbers into obligations; the program
//! or its database is killed at random moments; what was not acknowledged is sent again, as forwarders do.

use reqwest::{Client, StatusCode};
use serde_json::json;
use sqlx::{ConnectOptions, postgres::PgConnectOptions};
use std::{
    collections::BTreeSet,
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::sleep;

const PROGRAM: &str = env!("CARGO_BIN_EXE_coalface");
/// How often each is killed.
const KILLS: usize = 20;
/// Clients that post at the same time.
const WRITERS: usize = 8;
/// Events of a request.
const BATCH: u64 = 25;
/// Deadline for things that must happen; never a measure of speed.
const PATIENCE: Duration = Duration::from_mins(2);

/// The program, its data folder and its ports.
struct Server {
    data: tempfile::TempDir,
    web: u16,
    ingest: u16,
    child: Option<Child>,
}

impl Server {
    async fn new() -> Self {
        let data = tempfile::Builder::new().prefix("coalface-faults-").tempdir().unwrap();
        // the system user that runs the server must be able to enter
        std::fs::set_permissions(data.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let mut server = Self { data, web: free_port(), ingest: free_port(), child: None };
        server.start().await;
        server
    }

    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .current_dir(self.data.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("COALFACE_DATA", self.data.path());
        command
    }

    async fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.command();
        command.args([
            "serve",
            "--listen",
            &format!("127.0.0.1:{}", self.web),
            "--ingest-listen",
            &format!("127.0.0.1:{}", self.ingest),
        ]);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.child = Some(child);
        self.ready().await;
    }

    async fn ready(&self) {
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !client
            .get(format!("http://127.0.0.1:{}/readyz", self.web))
            .send()
            .await
            .is_ok_and(|reply| reply.status() == StatusCode::OK)
        {
            assert!(Instant::now() < deadline, "not ready again:\n{}", std::fs::read_to_string(self.log()).unwrap());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// SIGKILL, then the same again from what is on disk.
    async fn kill_and_restart(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.start().await;
    }

    /// SIGKILL to the database server and all its children, as the kernel would when memory runs out.
    async fn kill_database(&self) {
        let pid: i32 = std::fs::read_to_string(self.cluster().join("postmaster.pid"))
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        for victim in children_of(pid).into_iter().chain([pid]) {
            let victim = rustix::process::Pid::from_raw(victim).unwrap();
            // it may be gone by now
            rustix::process::kill_process(victim, rustix::process::Signal::KILL).ok();
        }
        sleep(Duration::from_millis(200)).await;
        self.ready().await;
    }

    fn cluster(&self) -> PathBuf {
        self.data.path().join("postgres/cluster").canonicalize().unwrap()
    }

    fn log(&self) -> PathBuf {
        self.data.path().join("coalface.log")
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.command().args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn database(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(self.cluster().parent().unwrap().join("socket"))
            .port(5432)
            .username("coalface")
            .database("coalface")
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "what the program said is the best hint")]
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("the end of the program's log:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn children_of(parent: i32) -> Vec<i32> {
    let stat = |path: &Path| std::fs::read_to_string(path.join("stat")).ok();
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = stat(&entry.path())?;
            // after the name in brackets: state, parent
            let of: i32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            (of == parent).then_some(pid)
        })
        .collect()
}

/// A Sysmon process start that only its number tells from others.
fn event(number: u64) -> serde_json::Value {
    json!({
        "@timestamp": format!("2026-03-02T{:02}:{:02}:{:02}.{:03}Z", number / 3_600_000 % 24, number / 60_000 % 60, number / 1000 % 60, number % 1000),
        "winlog": {
            "channel": "Microsoft-Windows-Sysmon/Operational", "provider_name": "Microsoft-Windows-Sysmon", "event_id": "1",
            "record_id": number + 1, "computer_name": format!("ws-{:02}.corp.example", number % 5),
            "event_data": {
                "UtcTime": format!("2026-03-02 {:02}:{:02}:{:02}.{:03}", number / 3_600_000 % 24, number / 60_000 % 60, number / 1000 % 60, number % 1000),
                "ProcessGuid": format!("{{00000000-0000-0000-0001-{number:012x}}}"), "ProcessId": "4120", "Image": "C:\\Windows\\System32\\cmd.exe",
                "CommandLine": format!("cmd.exe /c echo number-{number}"), "User": "CORP\\kim",
            },
        },
    })
}

/// Posts batches until told to stop; what is not acknowledged is posted again until it is.
async fn write(url: String, token: String, next: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> (Vec<u64>, u64) {
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let first = next.fetch_add(BATCH, Ordering::Relaxed);
        let numbers: Vec<u64> = (first..first + BATCH).collect();
        let body = numbers.iter().map(|number| event(*number).to_string()).collect::<Vec<_>>().join("\n");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = client
                .post(&url)
                .bearer_auth(&token)
                .header("content-type", "application/x-ndjson")
                .body(body.clone())
                .send()
                .await;
            // a broken connection, also in the middle of the reply, is no acknowledgement
            match reply {
                Ok(reply) if reply.status() == StatusCode::OK => {
                    if let Ok(said) = reply.json::<serde_json::Value>().await {
                        assert_eq!(said["quarantined"], 0, "{said}");
                        break;
                    }
                }
                Ok(reply) => assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE),
                Err(_) => {}
            }
            refused += 1;
            assert!(Instant::now() < deadline, "batch {first} was not taken in time");
            sleep(Duration::from_millis(100)).await;
        }
        acknowledged.extend(numbers);
        // enough traffic that every fault hits some, not so much that the machine is busy with nothing else
        sleep(Duration::from_millis(20)).await;
    }
    (acknowledged, refused)
}

/// Writers at work while `strike` does harm; then every obligation is looked for.
#[expect(clippy::disallowed_methods, reason = "there is no App here")]
async fn under_fire(strike: impl AsyncFn(&mut Server)) {
    let mut server = Server::new().await;
    let token = server.run(&["token", "create", "--name", "forwarder", "--scope", "ingest"]);
    let (next, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let url = format!("http://127.0.0.1:{}/api/v1/events", server.ingest);
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| tokio::task::spawn(write(url.clone(), token.clone(), next.clone(), stop.clone())))
        .collect();
    for _ in 0..KILLS {
        sleep(Duration::from_millis(rand::random_range(200..1_500))).await;
        strike(&mut server).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (mut obligations, mut refused) = (BTreeSet::new(), 0);
    for writer in writers {
        let (acknowledged, not) = writer.await.unwrap();
        obligations.extend(acknowledged);
        refused += not;
    }
    assert!(refused > 0, "the faults never hit a request");
    assert!(obligations.len() > KILLS * BATCH as usize, "too little traffic to prove anything: {}", obligations.len());

    let mut db = server.database().connect().await.unwrap();
    let stored: Vec<String> =
        sqlx::query_scalar("select command_line from process_start").fetch_all(&mut db).await.unwrap();
    let numbers: Vec<u64> = stored.iter().map(|line| line.rsplit_once('-').unwrap().1.parse().unwrap()).collect();
    let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(obligations.difference(&distinct).collect::<Vec<_>>(), Vec::<&u64>::new(), "acknowledged, but lost");
    assert_eq!(numbers.len(), distinct.len(), "stored twice");
    assert!(distinct.iter().all(|number| *number < next.load(Ordering::Relaxed)), "stored, but never sent");

    // the audit chain survived too, and everything stored is evaluated in the end
    server.run(&["audit", "verify"]);
    server.run(&["status", "--wait"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_program_loses_and_doubles_nothing() {
    under_fire(async |server| server.kill_and_restart().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_database_loses_and_doubles_nothing() {
    under_fire(async |server| server.kill_database().await).await;
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused_and_commands_attach() {
    let server = Server::new().await;
    let output =
        server.command().args(["serve", "--listen", "127.0.0.1:0", "--ingest-listen", "127.0.0.1:0"]).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another `coalface serve`"), "{said}");
    assert!(server.run(&["status"]).contains("\"pending\""));
    server.ready().await;
}
