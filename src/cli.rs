//! The command line: what can be asked of the program. Each command is a thin call.

use crate::config::{Part, Settings};
use clap::{Parser, Subcommand};

/// Triage dashboard for compute hijacking on Windows fleets
#[derive(Debug, Parser)]
#[command(name = "coalface", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Settings of this process
    #[command(flatten)]
    pub settings: Settings,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve pages and API, take events, evaluate them
    Serve {
        /// What this process does; several processes may share one database
        #[arg(long, env = "COALFACE_ROLE", value_enum, value_delimiter = ',', default_value = "web,ingest,worker")]
        role: Vec<Part>,
    },
    /// Print the status as JSON
    Status {
        /// Return when everything stored has been evaluated
        #[arg(long)]
        wait: bool,
    },
    /// Bring the database schema up to date
    Migrate,
}
