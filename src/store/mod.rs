//! All SQL of the tables, a file per family; free functions on `&mut PgConnection`, so that they compose in a transaction.

pub mod evidence;
