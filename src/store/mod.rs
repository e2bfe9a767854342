//! All SQL of the tables, a file per family; free functions on `&mut PgConnection`, so that they compose in a transaction.

pub mod accounts;
pub mod allowlist;
pub mod audit;
pub mod baselines;
pub mod coverage;
pub mod cpu;
pub mod detections;
pub mod evidence;
pub mod fleet;
pub mod events;
pub mod explain;
pub mod flows;
pub mod hosts;
pub mod indicators;
pub mod lineage;
pub mod maintenance;
pub mod marks;
pub mod overview;
pub mod prevalence;
pub mod record;
pub mod processes;
pub mod sessions;
pub mod status;
pub mod tokens;
pub mod triage;
