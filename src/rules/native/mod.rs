//! Checks that no rule language says: edit distance, decoding, tables of names. Each has an id, a version and examples as a rule has.

mod base64;
mod masquerade;
mod miner_name;

use super::{
    Ruleset,
    fields::{Category, fact_of},
    sigma::{Evidence, Example, RuleInfo, hash_of},
};
use crate::model::{code::Code, fact::Fact};
use std::sync::Arc;

/// Fields of an event under Sigma's names.
type Fields = &'static [(&'static str, &'static str)];

/// A check in Rust. Points and force are those of its code's usual variant.
#[derive(Debug)]
pub(super) struct Check {
    id: &'static str,
    /// Raised with every change of what fires: only hits of the current version count.
    version: u32,
    title: &'static str,
    description: &'static str,
    code: Code,
    categories: &'static [Category],
    /// What matched, or `None`.
    run: fn(&Fact, &Ruleset) -> Option<String>,
    fires: &'static [(Category, Fields)],
    silent: &'static [(Category, Fields)],
}

/// All native checks.
pub(super) const CHECKS: &[Check] =
    &[base64::CHECK, masquerade::SYSTEM_PATH, masquerade::LOOKALIKE, miner_name::NAMED, miner_name::RENAMED];

/// A native check, ready to run.
#[derive(Debug)]
pub(super) struct Native {
    /// What it is.
    pub info: Arc<RuleInfo>,
    /// What it stands for.
    pub evidence: Evidence,
    /// The check.
    pub check: &'static Check,
}

impl Native {
    /// All checks, ready to run.
    pub(super) fn all() -> Vec<Self> {
        CHECKS.iter().map(Self::new).collect()
    }

    fn new(check: &'static Check) -> Self {
        let entry = check.code.entry();
        let categories = check.categories.to_vec();
        let evidence = Evidence { code: check.code, points: entry.points, force: entry.force, categories };
        let info = RuleInfo {
            id: check.id.to_owned(),
            title: check.title.to_owned(),
            description: Some(check.description.to_owned()),
            author: None,
            references: Vec::new(),
            file: "src/rules/native".to_owned(),
            hash: hash_of(&format!("{} version {}", check.id, check.version)),
            evidence: Ok(evidence.clone()),
        };
        Self { info: Arc::new(info), evidence, check }
    }

    /// What matched, or `None`.
    pub(super) fn excerpt(&self, fact: &Fact, rules: &Ruleset) -> Option<String> {
        (self.check.run)(fact, rules)
    }

    /// The events that prove it.
    ///
    /// # Errors
    /// Names a field that the category lacks.
    pub(super) fn examples(&self) -> Result<Vec<Example>, String> {
        let example = |fires: bool| {
            move |(category, fields): &(Category, Fields)| {
                let fact = fact_of(*category, fields.iter().copied())?;
                Ok(Example { fact, fires, place: format!("{} {fields:?}", self.check.id) })
            }
        };
        let firing = self.check.fires.iter().map(example(true));
        firing.chain(self.check.silent.iter().map(example(false))).collect()
    }
}
