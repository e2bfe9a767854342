//! One fast cluster per run, a migrated template, a database per test.
//!
//! The cluster lives under `target/`, is started by whichever test process comes first, shared by all, and ends by itself when none
//! has used it for a while.

use coalface::{
    app::Pools,
    database,
    embedded::{Claim, Durability, Embedded, Login},
};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use std::{path::Path, process::Stdio, sync::OnceLock};

/// Key of the advisory lock under which templates are made.
const TEMPLATE_LOCK: i64 = 0x636f_616c;

/// The cluster of this run; held by each process as long as it lives.
fn cluster() -> &'static Embedded {
    static CLUSTER: OnceLock<Embedded> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        // a thread of its own, since every test has its own runtime
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgres");
                let cluster = Embedded::open(&data, None, Claim::Visit, Durability::UnsafeFast).await.unwrap();
                end_when_unused(&data, &cluster);
                cluster
            })
        })
        .join()
        .unwrap()
    })
}

/// A shell that outlives us and stops the server once no test process holds a lock on the folder.
#[expect(clippy::zombie_processes, reason = "it outlives us on purpose")]
fn end_when_unused(data: &Path, cluster: &Embedded) {
    let script = r#"cd / && exec 9>"$1/reaper.lock" && flock -n 9 || exit 0
        while sleep 20; do
          flock -n "$1/coalface.lock" flock -n "$1/visitors.lock" true || continue
          pid=$(head -n 1 "$2/cluster/postmaster.pid") && kill -QUIT "$pid"; exit
        done"#;
    std::process::Command::new("setsid")
        .args(["sh", "-c", script, "reaper"])
        .args([data, cluster.folder()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
}

/// A database of its own for one test, dropped with it.
#[derive(Debug)]
pub(crate) struct Db {
    name: String,
    /// As the application connects.
    pub(crate) pools: Pools,
}

impl Db {
    /// A fresh copy of the migrated template.
    pub(crate) async fn new() -> Self {
        let template = template().await;
        let name = format!("t_{:016x}", rand::random::<u64>());
        let mut admin = admin().await;
        sqlx::raw_sql(AssertSqlSafe(format!("create database {name} template {template} owner coalface_owner")))
            .execute(&mut admin)
            .await
            .unwrap();
        admin.close().await.unwrap();
        Self { pools: database::pools(&options(Login::App, &name)), name }
    }

    /// The pool most tests want.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.pools.worker
    }

    /// A connection that may do anything, to look behind the scenes.
    pub(crate) async fn superuser(&self) -> PgConnection {
        options(Login::Superuser, &self.name).connect().await.unwrap()
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        let name = self.name.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut admin = admin().await;
                sqlx::raw_sql(AssertSqlSafe(format!("drop database {name} with (force)")))
                    .execute(&mut admin)
                    .await
                    .unwrap();
            });
        })
        .join()
        .unwrap();
    }
}

fn options(login: Login, database: &str) -> PgConnectOptions {
    cluster().connect_options(login).database(database)
}

async fn admin() -> PgConnection {
    options(Login::Superuser, "postgres").connect().await.unwrap()
}

/// The name of a database with all migrations applied, made once per state of the migrations.
async fn template() -> String {
    let mut hash = Sha256::new();
    for migration in sqlx::migrate!("./migrations").iter() {
        hash.update(&*migration.checksum);
    }
    let name =
        format!("template_{:016x}", hash.finalize().iter().take(8).fold(0u64, |id, byte| id << 8 | u64::from(*byte)));
    let mut admin = admin().await;
    sqlx::query("select pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut admin).await.unwrap();
    let there: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&name)
        .fetch_one(&mut admin)
        .await
        .unwrap();
    if !there {
        // under another name until it is whole
        sqlx::raw_sql(AssertSqlSafe(format!("drop database if exists {name}_new"))).execute(&mut admin).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("create database {name}_new owner coalface_owner")))
            .execute(&mut admin)
            .await
            .unwrap();
        database::migrate(&options(Login::Owner, &format!("{name}_new"))).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("alter database {name}_new rename to {name}")))
            .execute(&mut admin)
            .await
            .unwrap();
    }
    admin.close().await.unwrap();
    name
}

#[tokio::test]
async fn every_test_has_a_migrated_database_of_its_own() {
    let (one, two) = (Db::new().await, Db::new().await);
    sqlx::query("insert into mark (host_id, bucket, batch_id, marked_at) values (0, now(), 1, now())")
        .execute(one.pool())
        .await
        .unwrap();
    let count = |db: PgPool| async move {
        sqlx::query_scalar::<_, i64>("select count(*) from mark").fetch_one(&db).await.unwrap()
    };
    assert_eq!((count(one.pool().clone()).await, count(two.pool().clone()).await), (1, 0));
}

#[tokio::test]
async fn the_application_cannot_rewrite_the_audit_log_or_the_schema() {
    let db = Db::new().await;
    for forbidden in [
        "update audit set actor = 'nobody'",
        "delete from audit",
        "truncate audit",
        "drop table audit",
        "create table mine (x int)",
    ] {
        let refusal = sqlx::raw_sql(forbidden).execute(db.pool()).await.unwrap_err();
        let code = refusal.as_database_error().and_then(|e| e.code().map(std::borrow::Cow::into_owned));
        assert_eq!(code.as_deref(), Some("42501"), "{forbidden}: {refusal}");
    }
}
