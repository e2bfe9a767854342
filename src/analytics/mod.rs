//! Judgement on evidence: pure functions of a [`Case`]. No SQL, no clock, no async.
//!
//! [`context`] adds what only matters beside load, command or pool (launch, connections, masquerade, benign context);
//! [`score`] and [`gates`] decide; [`exceptions`] applies what people allowed; [`story`] tells it. Source: detection design.

pub mod assess;
pub mod case;
pub mod context;
pub mod exceptions;
pub mod gates;
pub mod observability;
pub mod score;
pub mod severity;
pub mod story;

pub use assess::{assess, consider};
pub use case::Case;
