//! Finds a complete PostgreSQL: `postgres`, `initdb` and `pg_ctl` beside each other, of version 15 or later.

use crate::config;
use anyhow::{Context, bail};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Oldest server that will do. Source: trust design, section 12.
pub const OLDEST: u32 = 15;

/// Said when nothing is found.
const INSTALL: &str = "no PostgreSQL server found (postgres, initdb and pg_ctl of version 15 or later). Install it with\n\n    \
    sudo apt-get install postgresql\n\nor name the folder of its programs with COALFACE_PG_BIN, or an existing database with DATABASE_URL";

/// A folder with the server's programs.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    pub(super) dir: PathBuf,
}

impl Binaries {
    /// Looks in `named` alone, else in PATH, then in the folders of Debian's packages, newest first.
    ///
    /// A cluster can only be run by the major version that made it.
    pub(super) fn find(named: Option<&Path>, made_by: Option<u32>) -> anyhow::Result<Self> {
        if let Some(dir) = named {
            let version = version(dir).with_context(|| format!("COALFACE_PG_BIN={} is of no use", dir.display()))?;
            if version < OLDEST {
                bail!("COALFACE_PG_BIN={} is PostgreSQL {version}: {OLDEST} or later is needed", dir.display());
            }
            return Ok(Self { dir: dir.to_owned() });
        }
        let found: Vec<(PathBuf, u32)> = candidates()
            .into_iter()
            .filter_map(|dir| version(&dir).ok().map(|v| (dir, v)))
            .filter(|(_, v)| *v >= OLDEST)
            .collect();
        match (found.iter().find(|(_, version)| made_by.is_none_or(|made| made == *version)), made_by) {
            (Some((dir, _)), _) => Ok(Self { dir: dir.clone() }),
            (None, Some(made)) if !found.is_empty() => bail!(
                "the database was made by PostgreSQL {made}, which is not installed: sudo apt-get install postgresql-{made}"
            ),
            (None, _) => bail!(INSTALL),
        }
    }
}

/// Links are followed, since a server finds its libraries beside the real file.
fn candidates() -> Vec<PathBuf> {
    let on_path = config::search_path()
        .into_iter()
        .filter_map(|dir| dir.join("postgres").canonicalize().ok()?.parent().map(Path::to_owned));
    let mut packaged: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            entry.ok().and_then(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        })
        .collect();
    packaged.sort_unstable_by_key(|(version, _)| std::cmp::Reverse(*version));
    on_path.chain(packaged.into_iter().map(|(_, dir)| dir)).collect()
}

/// Major version of the server in a folder, if the folder is complete.
fn version(dir: &Path) -> anyhow::Result<u32> {
    for program in ["postgres", "initdb", "pg_ctl"] {
        if !dir.join(program).is_file() {
            bail!("there is no {program} in {}", dir.display());
        }
    }
    let output = Command::new(dir.join("postgres")).arg("--version").output()?;
    major(&String::from_utf8_lossy(&output.stdout)).context("its version cannot be read")
}

/// `postgres (PostgreSQL) 15.18 (Debian ..)`, `postgres (PostgreSQL) 19devel`.
fn major(text: &str) -> Option<u32> {
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_print_them() {
        for (text, expected) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some(15)),
            ("postgres (PostgreSQL) 19devel", Some(19)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("postgres", None),
        ] {
            assert_eq!(major(text), expected, "{text}");
        }
    }

    #[test]
    fn a_folder_without_initdb_is_no_server() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("postgres"), "").unwrap();
        assert!(version(dir.path()).unwrap_err().to_string().contains("no initdb"));
        let refusal = Binaries::find(Some(dir.path()), None).unwrap_err();
        assert!(format!("{refusal:#}").contains("COALFACE_PG_BIN"), "{refusal:#}");
    }
}
