//! The `coalface` command.
fn main() {}
