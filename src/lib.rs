//! Coalface finds compute hijacking on Windows hosts (MITRE ATT&CK analytics AN0741 and AN1489) in what forwarders send, and gives
//! it to analysts.
//!
//! One event's way, no step back:
//!
//! ```text
//! http::ingest -records-> sources -events-> rules -hits-> intake::Writer ==COMMIT==> facts + marks + raw segment
//! http pages <- store <- detections <- analytics (pure) <- worker: SQL over time buckets <- marks
//! ```
//!
//! [`model`] holds every value that crosses a folder line. `docs/ARCHITECTURE.md` is the tour.

pub mod analytics;
pub mod app;
pub mod bench;
pub mod cli;
pub mod config;
pub mod database;
pub mod demo;
pub mod embedded;
pub mod http;
pub mod import;
pub mod intake;
pub mod model;
pub mod rules;
pub mod sources;
pub mod store;
pub mod telemetry;
pub mod time;
pub mod worker;
