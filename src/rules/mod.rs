//! Per-event evidence: event -> hits, in memory, pure. Sigma rules (`rules/`) and the checks no rule language says (`native`).

use crate::model::{
    code::{Code, Force},
    event::Event,
};

/// What a rule says of one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Evidence code.
    pub code: Code,
    /// Points of this variant.
    pub points: f64,
    /// Force of this variant.
    pub force: Force,
    /// Id of the rule.
    pub rule_id: String,
    /// SHA-256 of the rule's text: only hits of the current text count.
    pub rule_hash: [u8; 32],
    /// What matched, at most 200 characters.
    pub excerpt: String,
}

/// Compiled rules.
#[derive(Debug, Default)]
pub struct Ruleset {}

impl Ruleset {
    /// Appends what the rules say of the event.
    pub fn hits(&self, event: &Event, out: &mut Vec<Hit>) {
        let _ = (event, out);
    }
}
