//! The `coalface` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    coalface::cli::main(std::env::args_os().collect())
}
