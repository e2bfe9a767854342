//! The integration tests: one binary, a database per test.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod api;
mod architecture;
mod aside;
mod embedded;
mod evidence;
mod faults;
mod fuzz;
mod harness;
mod import;
mod order;
mod pages;
mod rules;
mod samples;
mod story;
mod tuning;
mod walkthrough;
mod wire;
