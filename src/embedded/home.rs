//! Where a cluster lives and as whom it runs: folders, owner, socket path and configuration files.

use super::Durability;
use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};
use std::{
    fs::{DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};
use tracing::{info, warn};

/// Only a part of the socket's name: the server listens on no network.
pub(super) const PORT: u16 = 5432;

/// Longest socket path we use, in bytes. Source: `sun_path` holds 108 on Linux, 104 elsewhere.
const SOCKET_PATH: usize = 100;

/// Where clusters go whose data folder the system user cannot enter.
const ELSEWHERE: &str = "/var/lib/coalface";

/// A user of this system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
}

impl User {
    fn find(wanted: impl Fn(&Self) -> bool) -> Option<Self> {
        let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
        passwd.lines().filter_map(Self::parse).find(wanted)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some(Self { name, uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    }
}

/// The folder of a cluster: `cluster/`, `socket/` and the server's log.
#[derive(Debug, Clone)]
pub(super) struct Home {
    dir: PathBuf,
    socket: PathBuf,
    /// The system user that runs the server when we are root, which PostgreSQL refuses to be.
    runner: Option<User>,
}

impl Home {
    /// Makes `postgres/` in the data folder, or a link there to a place that the system user can enter.
    pub(super) fn open(data: &Path) -> anyhow::Result<Self> {
        let root = rustix::process::geteuid().is_root();
        let runner = if root {
            let postgres = User::find(|user| user.name == "postgres");
            Some(postgres.context("started by root, which PostgreSQL refuses to be, and there is no system user `postgres`: sudo apt-get install postgresql")?)
        } else {
            None
        };
        DirBuilder::new()
            .recursive(true)
            .mode(if root { 0o711 } else { 0o700 })
            .create(data)
            .with_context(|| format!("making the data folder {}", data.display()))?;
        // several commands may be the first: one makes the folders, the others find them
        let turn = super::lock_file(data, "home.lock")?;
        turn.lock().context("locking the data folder")?;
        let entry = data.join("postgres");
        if entry.symlink_metadata().is_err() {
            match &runner {
                Some(user) if !reachable(data, user)? => {
                    let dir = Path::new(ELSEWHERE).join(format!("{:016x}", rand::random::<u64>()));
                    DirBuilder::new().recursive(true).mode(0o755).create(&dir)?;
                    symlink(&dir, &entry)?;
                    info!(folder = %dir.display(), "the user `{}` cannot enter {}: its database goes elsewhere", user.name, data.display());
                }
                _ => DirBuilder::new().mode(0o700).create(&entry)?,
            }
        }
        let dir = entry.canonicalize().with_context(|| format!("{} points nowhere", entry.display()))?;
        secure(&dir, runner.as_ref())?;
        let socket = socket_folder(&dir);
        if !socket.exists() {
            DirBuilder::new().mode(0o700).create(&socket)?;
        }
        let home = Self { dir, socket, runner };
        home.check_socket_folder()?;
        Ok(home)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.dir.join("cluster")
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    /// Major version that made the cluster; `None` before there is one.
    pub(super) fn major(&self) -> anyhow::Result<Option<u32>> {
        match std::fs::read_to_string(self.cluster().join("PG_VERSION")) {
            Ok(text) => Ok(Some(text.trim().parse().context("reading PG_VERSION of the private cluster")?)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).context("reading PG_VERSION of the private cluster"),
        }
    }

    /// A command that runs as the server's user, in its folder, with nothing of our environment.
    pub(super) fn command(&self, program: &Path) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(program);
        command.current_dir(&self.dir).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
        if let Some(user) = &self.runner {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    /// Writes the configuration anew, so that an update of Coalface reaches clusters that exist.
    pub(super) fn configure(&self, durability: Durability) -> anyhow::Result<()> {
        let cluster = self.cluster();
        let include = "include 'coalface.conf'";
        let main = std::fs::read_to_string(cluster.join("postgresql.conf"))?;
        if !main.lines().any(|line| line == include) {
            self.write("postgresql.conf", &format!("{main}\n{include}\n"))?;
        }
        let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
        self.write("coalface.conf", &settings(&self.socket, memory.unwrap_or(0), durability))?;
        // who is at the other end of the socket is asked of the kernel; a user without a name cannot be, and then the folder's mode alone guards
        let me = rustix::process::geteuid().as_raw();
        match User::find(|user| user.uid == me) {
            Some(user) => {
                self.write("pg_hba.conf", "local all,replication all peer map=coalface\n")?;
                let users = [Some(&user), self.runner.as_ref()];
                let roles = ["postgres", "coalface_owner", "coalface", "coalface_hunt"];
                let lines = users
                    .into_iter()
                    .flatten()
                    .flat_map(|user| roles.map(|role| format!("coalface {} {role}\n", user.name)));
                self.write("pg_ident.conf", &lines.collect::<String>())
            }
            None => self.write("pg_hba.conf", "local all,replication all trust\n"),
        }
    }

    /// Whether the pid file names a process that is gone, or none of the server's: left by a crash, its number given away since, or
    /// a zombie that nobody has taken in yet. `pg_ctl` and the server take all of these for a server that runs.
    pub(super) fn has_stale_pid(&self) -> bool {
        let Ok(text) = std::fs::read_to_string(self.pid_file()) else { return false };
        let pid = text.lines().next().unwrap_or_default().trim();
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !is_live_server(&stat))
    }

    pub(super) fn remove_stale_pid(&self) -> anyhow::Result<()> {
        if self.has_stale_pid() {
            warn!("removed the pid file of a server that is gone");
            std::fs::remove_file(self.pid_file())?;
        }
        Ok(())
    }

    fn pid_file(&self) -> PathBuf {
        self.cluster().join("postmaster.pid")
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.cluster().join(name);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, text)?;
        std::fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
        if let Some(user) = &self.runner {
            chown(&fresh, Some(user.uid), Some(user.gid))?;
        }
        std::fs::rename(&fresh, &path).with_context(|| format!("writing {}", path.display()))
    }

    /// In a folder that everybody may write to, somebody else could have been first.
    fn check_socket_folder(&self) -> anyhow::Result<()> {
        let found = self.socket.symlink_metadata()?;
        let me = rustix::process::geteuid().as_raw();
        let owner = self.runner.as_ref().map_or(me, |user| user.uid);
        ensure!(
            found.is_dir() && (found.uid() == me || found.uid() == owner),
            "{} belongs to somebody else: remove it",
            self.socket.display()
        );
        secure(&self.socket, self.runner.as_ref())
    }
}

/// Mode 0700, owned by the runner with everything in it.
fn secure(dir: &Path, runner: Option<&User>) -> anyhow::Result<()> {
    let meta = dir.metadata()?;
    if let Some(user) = runner
        && meta.uid() != user.uid
    {
        give(dir, user)?;
    }
    if meta.mode() & 0o777 != 0o700 {
        std::fs::set_permissions(dir, Permissions::from_mode(0o700))
            .with_context(|| format!("closing {} to others", dir.display()))?;
    }
    Ok(())
}

fn give(path: &Path, user: &User) -> anyhow::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        for entry in path.read_dir()? {
            give(&entry?.path(), user)?;
        }
    }
    std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid))
        .with_context(|| format!("giving {} to {}", path.display(), user.name))
}

/// Whether a user may pass every folder on the way.
fn reachable(path: &Path, user: &User) -> anyhow::Result<bool> {
    for folder in path.canonicalize()?.ancestors() {
        let meta = folder.metadata()?;
        let bit = if meta.uid() == user.uid {
            0o100
        } else if meta.gid() == user.gid {
            0o010
        } else {
            0o001
        };
        if meta.mode() & bit == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn socket_folder(dir: &Path) -> PathBuf {
    let inside = dir.join("socket");
    if inside.as_os_str().len() + "/.s.PGSQL.5432.lock".len() < SOCKET_PATH {
        return inside;
    }
    let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    let tag = digest.iter().take(8).fold(0u64, |tag, byte| tag << 8 | u64::from(*byte));
    PathBuf::from(format!("/tmp/coalface-{tag:016x}"))
}

/// Whether a line of `/proc/PID/stat` is of a server that is not a zombie.
fn is_live_server(stat: &str) -> bool {
    let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')) else { return true };
    name.starts_with("postgres") && !rest.trim_start().starts_with('Z')
}

/// Bytes of memory, from `/proc/meminfo`.
fn total_memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Sources: trust design, section 12; PostgreSQL manual, chapter 20.
fn settings(socket: &Path, memory: u64, durability: Durability) -> String {
    let shared_mb = (memory / 4 / (1 << 20)).clamp(128, 512);
    let cache_mb = (memory / 2 / (1 << 20)).clamp(512, 65_536);
    let durability = match durability {
        Durability::Full => "fsync = on\nfull_page_writes = on\nsynchronous_commit = on\nmax_connections = 64",
        Durability::UnsafeFast => {
            "fsync = off\nfull_page_writes = off\nsynchronous_commit = off\nmax_connections = 300"
        }
    };
    format!(
        "# Written by Coalface at every start; changes here do not stay.
listen_addresses = ''
port = {PORT}
unix_socket_directories = '{socket}'
unix_socket_permissions = 0700
{durability}
shared_buffers = {shared_mb}MB
effective_cache_size = {cache_mb}MB
random_page_cost = 1.1
jit = off
wal_compression = lz4
max_wal_size = 4GB
checkpoint_timeout = 15min
autovacuum_vacuum_insert_threshold = 1000000
autovacuum_vacuum_insert_scale_factor = 0
# a table that fills for the first time needs statistics before its first long statement; later ones may wait: at 0.05 the samples of
# all tables cost an eighth of two cores while events poured in
autovacuum_naptime = 15s
autovacuum_analyze_scale_factor = 0.3
timezone = 'UTC'
log_timezone = 'UTC'
logging_collector = on
log_directory = 'log'
log_filename = 'postgresql-%a.log'
log_truncate_on_rotation = on
log_rotation_age = 1d
log_rotation_size = 0
# statements hold what forwarders and people sent; the log does not
log_min_error_statement = panic
log_error_verbosity = terse
",
        socket = socket.display().to_string().replace('\'', "''"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_data_path_puts_the_socket_elsewhere() {
        assert_eq!(socket_folder(Path::new("/srv/coalface/postgres")), Path::new("/srv/coalface/postgres/socket"));
        let long = PathBuf::from(format!("/srv/{}", "x".repeat(120)));
        let socket = socket_folder(&long);
        assert!(socket.starts_with("/tmp") && socket.as_os_str().len() < 60, "{socket:?}");
        assert_ne!(socket, socket_folder(&long.join("other")));
    }

    #[test]
    fn commands_that_start_at_once_on_a_new_folder_find_one_home() {
        let open_to_others = Permissions::from_mode(0o755);
        let parent = tempfile::Builder::new().permissions(open_to_others).tempdir().unwrap();
        for round in 0..20 {
            let data = parent.path().join(round.to_string());
            let start = std::sync::Barrier::new(8);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        start.wait();
                        Home::open(&data).unwrap();
                    });
                }
            });
        }
    }

    #[test]
    fn a_pid_that_belongs_to_another_program_or_a_zombie_is_stale() {
        assert!(is_live_server("4711 (postgres) S 1 4711 4711 0"));
        assert!(!is_live_server("4711 (postgres) Z 1 4711 4711 0"));
        assert!(!is_live_server("4711 (bash) S 1 4711 4711 0"));
        assert!(!is_live_server("4711 (a) (b) R 1 4711"));
    }

    #[test]
    fn memory_decides_the_shared_buffers_within_limits() {
        assert_eq!(total_memory("MemFree: 1 kB\nMemTotal:       24687000 kB\n"), Some(24_687_000 * 1024));
        for (gib, expected) in [(0u64, 128), (1, 256), (2, 512), (64, 512)] {
            let text = settings(Path::new("/s"), gib << 30, Durability::Full);
            assert!(text.contains(&format!("shared_buffers = {expected}MB")), "{gib} GiB");
            assert!(text.contains("\nfsync = on\n") && text.contains("listen_addresses = ''"));
        }
    }

    #[test]
    fn users_are_read_from_passwd_lines() {
        let user = User::parse("postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash").unwrap();
        assert_eq!((user.uid, user.gid), (101, 104));
        assert_eq!(User::parse("broken"), None);
    }
}
