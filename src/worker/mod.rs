//! The worker.
mod derive;
mod spans;
