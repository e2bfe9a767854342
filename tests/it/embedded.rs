//! The private cluster against a real PostgreSQL: first start, crash, odd folders, visitors.

use coalface::embedded::{Claim, Durability, Embedded, Login};
use sqlx::{ConnectOptions, Connection};
use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};
use tokio_util::sync::CancellationToken;

/// A folder that the server's system user can enter.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

async fn open(data: &Path, claim: Claim) -> Embedded {
    Embedded::open(data, None, claim, Durability::Full).await.unwrap()
}

fn pid_file(cluster: &Embedded) -> std::path::PathBuf {
    cluster.folder().join("cluster/postmaster.pid")
}

async fn answers(cluster: &Embedded) -> bool {
    match cluster.connect_options(Login::App).connect().await {
        Ok(connection) => connection.close().await.is_ok(),
        Err(_) => false,
    }
}

fn kill_server(cluster: &Embedded) {
    let text = std::fs::read_to_string(pid_file(cluster)).unwrap();
    let pid = rustix::process::Pid::from_raw(text.lines().next().unwrap().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_cluster_survives_a_crash_a_stale_pid_file_and_a_path_too_long_for_a_socket() {
    let base = folder();
    let data = base.path().join("d".repeat(120));
    let cluster = open(&data, Claim::Serve).await;
    assert!(answers(&cluster).await);
    let mut db = cluster.connect_options(Login::Superuser).connect().await.unwrap();
    for (setting, expected) in [
        ("data_checksums", "on"),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("listen_addresses", ""),
        ("server_encoding", "UTF8"),
    ] {
        let value: String =
            sqlx::query_scalar("select current_setting($1)").bind(setting).fetch_one(&mut db).await.unwrap();
        assert_eq!(value, expected, "{setting}");
    }
    db.close().await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(cluster.folder()), 0o700);

    // killed while we run: started again without our doing
    let stop = CancellationToken::new();
    kill_server(&cluster);
    let restarted = async {
        while !answers(&cluster).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stop.cancel();
    };
    tokio::time::timeout(Duration::from_mins(1), async { tokio::join!(cluster.supervise(stop.clone()), restarted) })
        .await
        .unwrap();
    let pid = pid_file(&cluster);
    let before = std::fs::read_to_string(&pid).unwrap();
    cluster.close().await.unwrap();
    assert!(!pid.exists(), "the server was not stopped");

    // a crash whose pid belongs to another program by now: this one
    let mut lines: Vec<String> = before.lines().map(str::to_owned).collect();
    lines[0] = std::process::id().to_string();
    std::fs::write(&pid, lines.join("\n") + "\n").unwrap();
    let cluster = open(&data, Claim::Serve).await;
    assert!(answers(&cluster).await);
    cluster.close().await.unwrap();
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "there is no App here")]
async fn visitors_share_a_cluster_and_the_last_one_out_is_its_owner() {
    let data = folder();
    let owner = open(data.path(), Claim::Visit).await;
    let visitor = open(data.path(), Claim::Visit).await;
    let closing = tokio::task::spawn(owner.close());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(answers(&visitor).await, "stopped under a visitor");
    visitor.close().await.unwrap();
    closing.await.unwrap().unwrap();
    let again = open(data.path(), Claim::Serve).await;
    assert!(answers(&again).await);
    again.close().await.unwrap();
}
