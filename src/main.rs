//! The `coalface` command.

use std::process::ExitCode;

/// Receiving allocates on one thread and frees on another, which keeps the system's allocator busy and its arenas large.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    coalface::cli::main(std::env::args_os().collect())
}
