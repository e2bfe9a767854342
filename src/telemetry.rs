//! The log: one line per record on standard error, so that standard output stays free for what a command prints.

use crate::config::LogForm;
use anyhow::Context;
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging for this process, panics included.
///
/// A line that cannot be written (full disk, closed terminal) is dropped; it never stops the program.
///
/// # Errors
/// When the filter is not understood, or logging was started before.
pub fn start(form: LogForm, filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("log filter `{filter}`"))?;
    let lines =
        fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(filter);
    match form {
        LogForm::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogForm::Pretty => registry.with(lines.compact().with_target(false)).try_init(),
    }
    .context("starting the log")?;
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(%location, "panicked: {message}");
    }));
    Ok(())
}
