//! To come.

pub mod allowlist;
pub mod baselines;
pub mod hosts;
pub mod indicators;
pub mod maintenance;
pub mod marks;
pub mod triage;
pub mod coverage;
pub mod lineage;
pub mod prevalence;
pub mod status;
