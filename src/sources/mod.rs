//! From a record to events: recognise the shape, read its fields. Pure; hostile bytes are normal here.
//!
//! One file per shape; what an event id means is by meaning (`windows::sysmon`, `security` ..). No SQL, no clock, no async.
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::panic
    )
)]

mod batch;
mod draft;
mod json;
mod metrics;
mod network;
mod osquery;
mod otlp;
mod otlp_protobuf;
mod repair;
mod scalar;
mod shape;
#[cfg(test)]
mod tests;
mod values;
mod windows;
mod xml;

use crate::model::event::{Event, RawRecord, Reject};
pub use batch::{influx_lines, split_batch};
use draft::Decoder;
pub use network::zeek_table::Header;
pub use otlp_protobuf::{NotOtlp, Pieces, Signal, split_protobuf};
use shape::Context;
use smallvec::SmallVec;

/// Largest record. Source: wire formats, section 1.1.
pub const LARGEST_RECORD: usize = 1024 * 1024;

/// Events of one record; one, with few exceptions.
pub(crate) type Events = SmallVec<[Event; 1]>;

/// Decodes one record. One record may hold several events (a task with two actions), most hold one.
///
/// # Errors
/// [`Reject`] says why nothing usable is in it, or why a kind we judge lacks time or host.
pub fn decode(record: &RawRecord) -> Result<SmallVec<[Event; 1]>, Reject> {
    let bytes = record.bytes.trim_ascii();
    if bytes.len() > LARGEST_RECORD {
        return Err(Reject::TooLarge { bytes: bytes.len(), limit: LARGEST_RECORD });
    }
    let first = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start().first();
    if !matches!(first, Some(b'{' | b'[' | b'"')) {
        return Decoder::of_text(record, bytes).line(&String::from_utf8_lossy(bytes), &Context::default());
    }
    let read =
        json::read(bytes, |tree, notes| Decoder::of_tree(record, tree, notes).document(tree, &Context::default()));
    read.map_err(Reject::BadJson)?
}
