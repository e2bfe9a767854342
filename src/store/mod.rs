//! All SQL of the tables, a file per family; free functions on `&mut PgConnection`, so that they compose in a transaction.

pub mod accounts;
pub mod audit;
pub mod detections;
pub mod sessions;
pub mod tokens;
