//! Where the parts meet: one [`App`] per process, shared by listeners, writer and worker; its start and its end.

use crate::{
    config::{self, Part, Settings},
    database::{self, Database},
    embedded::Claim,
    http,
    intake::Writer,
    model::permission::Role,
    rules::Ruleset,
    store::{accounts, audit},
    time::{self, Clock},
    worker,
};
use anyhow::{Context, bail, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use std::{
    io::{IsTerminal, Write},
    net::TcpListener,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

/// Connection pools by purpose, so that a slow page cannot starve an acknowledgement (trust design, section 12).
#[derive(Debug, Clone)]
pub struct Pools {
    /// Writer and look-ups of the ingest port.
    pub ingest: PgPool,
    /// Pages and API.
    pub web: PgPool,
    /// The worker.
    pub worker: PgPool,
}

/// Everything a handler or task may need.
#[derive(Debug)]
pub struct App {
    /// Database.
    pub db: Pools,
    /// The present.
    pub clock: Arc<dyn Clock>,
    /// Settings of this process.
    pub settings: Arc<Settings>,
    /// Per-event rules.
    pub rules: Arc<Ruleset>,
    /// Group commit.
    pub writer: Writer,
    /// Rung by the writer after a commit, so that the worker does not wait for its next poll.
    pub marked: Arc<Notify>,
    /// Seals the audit chain; shared by all processes, never in the database.
    pub audit_key: Arc<[u8]>,
    /// Every spawned task but the writer; shutdown waits for them.
    pub tasks: TaskTracker,
    /// Cancelled once, at shutdown.
    pub stop: CancellationToken,
    /// The writer ends when nobody submits any more: after the listeners.
    writing: (TaskTracker, CancellationToken),
}

impl App {
    /// Puts the parts together and starts the writer.
    pub fn assemble(
        settings: Arc<Settings>,
        db: Pools,
        clock: Arc<dyn Clock>,
        rules: Ruleset,
        audit_key: Arc<[u8]>,
    ) -> Arc<Self> {
        let (marked, writing) = (Arc::new(Notify::new()), (TaskTracker::new(), CancellationToken::new()));
        let (writer, task) = Writer::new(db.ingest.clone(), clock.clone(), marked.clone(), writing.1.clone());
        writing.0.spawn(task);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Arc::new(Self { db, clock, settings, rules: Arc::new(rules), writer, marked, audit_key, tasks, stop, writing })
    }

    /// Ends everything that was started: tasks first, then what was submitted is written, then the pools close.
    pub async fn end(&self) {
        let (writer, written) = &self.writing;
        for (tasks, token) in [(&self.tasks, &self.stop), (writer, written)] {
            token.cancel();
            tasks.close();
            if timeout(GRACE, tasks.wait()).await.is_err() {
                warn!(tasks = tasks.len(), "stopped while tasks were still running");
            }
        }
        for pool in [&self.db.ingest, &self.db.web, &self.db.worker] {
            pool.close().await;
        }
    }
}

/// How long requests in flight and the worker's pass may take at shutdown. Source: architecture, section 11 (10 s), and as much as
/// a commit may take.
const GRACE: Duration = Duration::from_secs(15);

/// Serves until told to stop, then ends in order; the private database stops last. `beside` runs once everything listens.
///
/// # Errors
/// When the program cannot start (settings, addresses, database, migrations, rules, keys), or `beside` fails.
pub async fn serve(
    mut settings: Settings,
    parts: &[Part],
    beside: impl AsyncFnOnce(&Arc<App>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if settings.require_tls
        && config::beyond_loopback(settings.listen)
        && !settings.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
    {
        bail!(
            "COALFACE_REQUIRE_TLS is set: serve pages on a loopback address, or behind a proxy with an https COALFACE_PUBLIC_URL"
        );
    }
    // before the database: an address in use must not cost a start and a stop of the cluster
    let listen = |part, address| {
        parts
            .contains(&part)
            .then(|| TcpListener::bind(address).with_context(|| format!("listening on {address}")))
            .transpose()
    };
    let (web, ingest) = (listen(Part::Web, settings.listen)?, listen(Part::Ingest, settings.ingest_listen)?);
    // port 0 asks for any
    for (listener, address) in [(&web, &mut settings.listen), (&ingest, &mut settings.ingest_listen)] {
        if let Some(listener) = listener {
            *address = listener.local_addr()?;
        }
    }

    let stop = CancellationToken::new();
    let database = Database::open(&settings, Claim::Serve).await?;
    let supervision = async {
        match &database.embedded {
            Some(cluster) => cluster.supervise(stop.clone()).await,
            None => stop.cancelled().await,
        }
    };
    let served = async {
        let app = start(settings, &database).await;
        let ended = match &app {
            Ok(app) => run(app, parts, web, ingest, beside).await,
            Err(_) => Ok(()),
        };
        stop.cancel();
        app.and(ended)
    };
    let (served, ()) = tokio::join!(served, supervision);
    served.and(database.close().await)
}

/// Checks and migrates the database, reads keys and rules, makes the first administrator.
///
/// # Errors
/// As [`serve`].
pub async fn start(settings: Settings, database: &Database) -> anyhow::Result<Arc<App>> {
    let clock: Arc<dyn Clock> = Arc::new(time::System);
    database::check(&database.app, settings.unsafe_database).await?;
    database::migrate(&database.owner).await?;
    let mut db = database.app.connect().await.context("connecting to the database")?;
    let audit_key = audit_key(&settings, &mut db).await?;
    first_admin(&settings, &mut db, audit_key.clone(), clock.as_ref()).await?;
    db.close().await?;
    let rules = Ruleset::load(settings.rules.as_deref()).context("loading rules")?;
    Ok(App::assemble(Arc::new(settings), database::pools(&database.app), clock, rules, audit_key))
}

async fn run(
    app: &Arc<App>,
    parts: &[Part],
    web: Option<TcpListener>,
    ingest: Option<TcpListener>,
    beside: impl AsyncFnOnce(&Arc<App>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    end_on_signal(app.stop.clone())?;
    if let Some(listener) = web {
        info!("pages and API on http://{}", app.settings.listen);
        app.tasks.spawn(http::serve(listener, http::browser(app.clone()), app.stop.clone()));
    }
    if let Some(listener) = ingest {
        info!("events are taken on http://{}", app.settings.ingest_listen);
        app.tasks.spawn(http::serve(listener, http::ingest::router(app.clone()), app.stop.clone()));
    }
    if parts.contains(&Part::Worker) {
        app.tasks.spawn(worker::run(app.clone()));
    }
    let beside = beside(app).await;
    if beside.is_ok() {
        app.stop.cancelled().await;
    }
    info!("stopping");
    app.end().await;
    beside
}

/// The first signal asks everything to end; the second ends the process at once.
#[expect(clippy::disallowed_methods, reason = "this one must outlive what shutdown waits for")]
fn end_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        loop {
            tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
            if stop.is_cancelled() {
                std::process::exit(130);
            }
            stop.cancel();
        }
    });
    Ok(())
}

/// Bytes of a new audit key, before they are written as text. Source: HMAC-SHA256 wants as many as its output.
const AUDIT_KEY: usize = 32;

/// Reads the key that seals the audit chain; makes it at the very first start, refuses to go on without it later.
///
/// # Errors
/// When the key is missing though the chain has begun, too short, or cannot be read or written.
pub async fn audit_key(settings: &Settings, db: &mut PgConnection) -> anyhow::Result<Arc<[u8]>> {
    let path = settings.audit_key_path();
    if !path.exists() {
        let begun = sqlx::query_scalar!("select seq from audit_head").fetch_one(db).await? > 0;
        ensure!(
            !begun,
            "the audit key {} is missing, and the audit log was begun with it: restore it (COALFACE_AUDIT_KEY_FILE)",
            path.display()
        );
        let key = URL_SAFE_NO_PAD.encode(rand::random::<[u8; AUDIT_KEY]>());
        write_secret(&path, &key).context("writing the audit key")?;
    }
    let key = std::fs::read_to_string(&path).with_context(|| format!("reading the audit key {}", path.display()))?;
    ensure!(key.trim().len() >= AUDIT_KEY, "the audit key {} is shorter than {AUDIT_KEY} characters", path.display());
    Ok(key.trim().as_bytes().into())
}

/// Makes `admin` with a one-time password on a database without accounts. Source: trust design, section 3.
async fn first_admin(
    settings: &Settings,
    db: &mut PgConnection,
    audit_key: Arc<[u8]>,
    clock: &dyn Clock,
) -> anyhow::Result<()> {
    if accounts::any(db).await? {
        return Ok(());
    }
    let secret = uuid::Uuid::from_bytes(rand::random()).simple().to_string();
    let password = accounts::Password { hash: accounts::hash(secret.clone()).await?, one_time: true };
    let mut transaction = db.begin().await?;
    if accounts::create(&mut transaction, "admin", Role::Admin, &password, "system", clock.now()).await?.is_none() {
        return Ok(());
    }
    let deed = audit::Deed {
        action: "account.create",
        object: "admin",
        before: None,
        after: Some(serde_json::json!({"role": "admin"})),
    };
    audit::append(&mut transaction, &audit::Actor::new("system", audit_key), deed, clock.now()).await?;
    // told before it counts: a password that nobody was told would lock everybody out
    let mut terminal = std::io::stdout();
    if terminal.is_terminal() {
        writeln!(terminal, "\n  First sign-in: user admin, one-time password {secret} (24 hours)\n")?;
    } else {
        let path = settings.data.join("first-admin.txt");
        write_secret(&path, &format!("user admin\none-time password {secret}\n"))
            .context("writing the first administrator's password")?;
        warn!(path = %path.display(), "made the account `admin`; its one-time password is in {}", path.display());
    }
    transaction.commit().await?;
    Ok(())
}

/// Writes a file that only its owner can read, replacing what is there.
fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension("new");
    if fresh.exists() {
        std::fs::remove_file(&fresh)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(&fresh, path).with_context(|| format!("writing {}", path.display()))
}
