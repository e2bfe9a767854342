//! Every value that crosses a folder line: identifiers, events and their facts, evidence codes, detections, exceptions.
//!
//! No SQL statements, no HTTP, no clock. Parsing happens here once; everything behind trusts the types.

pub mod code;
pub mod coverage;
pub mod detection;
pub mod event;
pub mod exceptions;
pub mod fact;
pub mod fingerprint;
pub mod group;
pub mod ids;
pub mod names;
pub mod networks;
pub mod permission;
pub mod preview;
pub mod profile;
pub mod runbook;
pub mod table;
pub mod tunables;
