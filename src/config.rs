//! Settings: flag = environment variable = `coalface.toml`; the field docs are the manual. Only reader of the environment.
//!
//! A flag wins over the environment, the environment over the file, the file over the defaults.

use anyhow::{Context, bail};
use clap::{Args, FromArgMatches, ValueEnum, builder::BoolishValueParser, builder::Resettable};
use std::{
    ffi::OsString,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Settings of one process.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Settings (flag, environment variable, or the flag's name in coalface.toml)")]
pub struct Settings {
    /// Settings file: the long flags as keys, with `_` for `-`. Must exist if it is named
    #[arg(long, env = "COALFACE_CONFIG", global = true, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub config: PathBuf,
    /// Address of pages and API
    #[arg(long, env = "COALFACE_LISTEN", global = true, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Address for forwarders
    #[arg(
        long,
        env = "COALFACE_INGEST_LISTEN",
        global = true,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8088"
    )]
    pub ingest_listen: SocketAddr,
    /// URL under which forwarders reach the ingest port, as written into their configuration. Default: http, the host name that was
    /// asked for, and the port of the ingest address
    #[arg(long, env = "COALFACE_INGEST_URL", global = true, value_name = "URL")]
    pub ingest_url: Option<String>,
    /// Folder of the private PostgreSQL cluster and of key files
    #[arg(long, env = "COALFACE_DATA", global = true, value_name = "DIR", default_value = "./data")]
    pub data: PathBuf,
    /// Folder with `postgres`, `initdb` and `pg_ctl`. Default: PATH, then the newest of /usr/lib/postgresql/*/bin
    #[arg(long, env = "COALFACE_PG_BIN", global = true, value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
    /// Use this database instead of a private cluster: `postgres://user:password@host/name`
    #[arg(long, env = "DATABASE_URL", global = true, value_name = "URL", hide_env_values = true)]
    pub database_url: Option<DatabaseUrl>,
    /// Account that may change the schema of that database. Default: the same as `DATABASE_URL`
    #[arg(long, env = "COALFACE_MIGRATE_URL", global = true, value_name = "URL", hide_env_values = true)]
    pub migrate_url: Option<DatabaseUrl>,
    /// Go on with a database that may lose or garble what it acknowledged (test clusters): warns instead of refusing
    #[arg(long, env = "COALFACE_UNSAFE_DATABASE", global = true, value_parser = BoolishValueParser::new())]
    pub unsafe_database: bool,
    /// Folder with Sigma rules of your own, read besides those that ship
    #[arg(long, env = "COALFACE_RULES", global = true, value_name = "DIR")]
    pub rules: Option<PathBuf>,
    /// JSON file that osquery gets as its configuration. Default: one without queries
    #[arg(long, env = "COALFACE_OSQUERY_CONFIG", global = true, value_name = "FILE")]
    pub osquery_config: Option<PathBuf>,
    /// URL under which people reach the pages. https makes cookies `Secure`; another `Host` is then refused
    #[arg(long, env = "COALFACE_PUBLIC_URL", global = true, value_name = "URL")]
    pub public_url: Option<String>,
    /// Refuse to serve pages beyond this machine without an https public URL
    #[arg(long, env = "COALFACE_REQUIRE_TLS", global = true, value_parser = BoolishValueParser::new())]
    pub require_tls: bool,
    /// Proxies whose `X-Forwarded-For` counts
    #[arg(long, env = "COALFACE_TRUSTED_PROXIES", global = true, value_name = "NET,..", value_delimiter = ',')]
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Key of the audit chain, shared by all processes. Default: audit.key in the data folder
    #[arg(long, env = "COALFACE_AUDIT_KEY_FILE", global = true, value_name = "FILE")]
    pub audit_key_file: Option<PathBuf>,
    /// Form of the log on standard error
    #[arg(long, env = "COALFACE_LOG", global = true, value_name = "FORM", value_enum, default_value = "pretty")]
    pub log: LogForm,
    /// What is logged: levels by module, as in `info,coalface::worker=debug`
    #[arg(long, env = "COALFACE_LOG_FILTER", global = true, value_name = "FILTER", default_value = "info,sqlx=warn")]
    pub log_filter: String,
}

/// The settings file that is read if it is there.
const DEFAULT_FILE: &str = "coalface.toml";

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    /// One JSON object per line.
    Json,
    /// For people.
    Pretty,
}

/// What a `serve` process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Pages and API.
    Web,
    /// The forwarders' port.
    Ingest,
    /// Evaluation and upkeep.
    Worker,
}

/// A connection URL. Holds a password: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The URL with everything in it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(..)")
    }
}

impl FromStr for DatabaseUrl {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Ok(Self(text.to_owned()))
        } else {
            Err("expected postgres://..")
        }
    }
}

impl Default for Settings {
    /// The defaults of the flags, whatever the environment says.
    fn default() -> Self {
        let command = Self::augment_args(clap::Command::new("coalface")).mut_args(|arg| arg.env(Resettable::Reset));
        let matches = command.get_matches_from(["coalface"]);
        Self::from_arg_matches(&matches).expect("every setting has a default or is optional")
    }
}

impl Settings {
    /// Where the audit key lies.
    pub fn audit_key_path(&self) -> PathBuf {
        self.audit_key_file.clone().unwrap_or_else(|| self.data.join("audit.key"))
    }
}

/// Folders of the environment's `PATH`.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn search_path() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// Makes the values of the settings file the defaults of the command's flags.
///
/// # Errors
/// When the file cannot be read, is no TOML, or has a key that is no setting; the message names it.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn with_file(command: clap::Command, args: &[OsString]) -> anyhow::Result<clap::Command> {
    let named = flag_value(args, "--config").or_else(|| std::env::var_os("COALFACE_CONFIG"));
    let path = PathBuf::from(named.clone().unwrap_or_else(|| DEFAULT_FILE.into()));
    match std::fs::read_to_string(&path) {
        Ok(text) => with_defaults(command, &text).with_context(|| format!("reading settings from {}", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(command),
        Err(e) => Err(e).with_context(|| format!("reading settings from {}", path.display())),
    }
}

fn flag_value(args: &[OsString], flag: &str) -> Option<OsString> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        match text.strip_prefix(flag) {
            Some("") => return args.next().cloned(),
            Some(rest) if rest.starts_with('=') => return Some(rest[1..].into()),
            _ => {}
        }
    }
    None
}

fn with_defaults(mut command: clap::Command, text: &str) -> anyhow::Result<clap::Command> {
    let settings = Settings::augment_args(clap::Command::new("settings"));
    for (key, value) in text.parse::<toml::Table>()? {
        let value = plain(&value)
            .with_context(|| format!("`{key}`: expected text, a number, true, false or a list of them"))?;
        if settings.get_arguments().any(|arg| arg.get_id() == key.as_str() && key != "config") {
            command = command.mut_arg(key, |arg| arg.default_value(value));
        } else if key == "role" {
            command = command.mut_subcommand("serve", |serve| serve.mut_arg("role", |arg| arg.default_value(value)));
        } else {
            bail!("`{key}` is no setting");
        }
    }
    Ok(command)
}

fn plain(value: &toml::Value) -> Option<String> {
    Some(match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(yes) => yes.to_string(),
        toml::Value::Array(list) => list.iter().map(plain).collect::<Option<Vec<_>>>()?.join(","),
        _ => return None,
    })
}

/// Whether pages are served beyond this machine.
pub fn beyond_loopback(address: SocketAddr) -> bool {
    !address.ip().is_loopback()
}

/// A path as an absolute one, whether or not it exists.
///
/// # Errors
/// When the working directory is gone.
pub fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("making {} absolute", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{CommandFactory, Parser};

    fn parse(file: &str, args: &[&str]) -> anyhow::Result<Settings> {
        let command = with_defaults(Cli::command(), file)?;
        let matches = command.mut_args(|arg| arg.env(Resettable::Reset)).try_get_matches_from(args)?;
        Ok(Cli::from_arg_matches(&matches)?.settings)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        Cli::try_parse_from(["coalface", "serve", "--listen", "127.0.0.1:0"]).unwrap();
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = "listen = '127.0.0.1:1'\ningest_listen = '127.0.0.1:2'\nunsafe_database = true\ntrusted_proxies = ['192.0.2.0/24', '198.51.100.0/24']";
        let settings = parse(file, &["coalface", "serve", "--listen", "127.0.0.1:9"]).unwrap();
        assert_eq!(settings.listen.port(), 9);
        assert_eq!(settings.ingest_listen.port(), 2);
        assert!(settings.unsafe_database);
        assert_eq!(settings.trusted_proxies.len(), 2);
        assert_eq!(Settings::default().listen.port(), 8080);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = parse("lisen = '127.0.0.1:1'", &["coalface", "status"]).unwrap_err();
        assert!(format!("{error:#}").contains("`lisen` is no setting"), "{error:#}");
    }

    #[test]
    fn a_database_password_is_not_shown() {
        let url: DatabaseUrl = "postgres://a:secret@192.0.2.1/b".parse().unwrap();
        assert!(!format!("{:?}", Settings { database_url: Some(url), ..Settings::default() }).contains("secret"));
    }
}
