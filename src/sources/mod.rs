//! From a record to events: recognise the shape, read its fields. Pure; hostile bytes are normal here.
//!
//! One file per shape; what an event id means is by meaning (`windows::sysmon`, `security` ..). No SQL, no clock, no async.
#![warn(clippy::indexing_slicing, clippy::string_slice, clippy::arithmetic_side_effects, clippy::expect_used, clippy::panic)]

use crate::model::event::{Event, RawRecord, Reject};
use smallvec::SmallVec;

/// Decodes one record. One record may hold several events (a metric batch), most hold one.
///
/// # Errors
/// [`Reject`] says why nothing usable is in it, or why a kind we judge lacks time or host.
pub fn decode(record: &RawRecord) -> Result<SmallVec<[Event; 1]>, Reject> {
    let _ = record;
    Err(Reject::BadJson("not implemented".into()))
}
