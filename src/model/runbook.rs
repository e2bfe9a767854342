//! What to do about a detection, step by step. The steps are data: `runbook.toml`, by analytic and class.

use crate::model::{
    code::Class,
    detection::{Content, State, Verdict},
};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Stored with a tick.
    pub id: String,
    /// Analytics it is for.
    pub analytics: Vec<String>,
    /// Class it is for; absent = always.
    #[serde(default)]
    pub class: Option<Class>,
    /// What to do.
    pub text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    step: Vec<Step>,
}

static STEPS: LazyLock<Vec<Step>> =
    LazyLock::new(|| toml::from_str::<File>(include_str!("runbook.toml")).expect("the file is part of the program, and a test reads it").step);

/// All steps, in order.
pub fn steps() -> &'static [Step] {
    &STEPS
}

/// The steps for a detection: of its analytics that say something, for classes with evidence, and those for all.
pub fn of(content: &Content) -> impl Iterator<Item = &'static Step> {
    let speaks = |step: &Step| content.analytics.iter().any(|a| a.verdict >= Verdict::Suppressed && step.analytics.contains(&a.id));
    let seen = |class: Class| {
        content.classes.get(&class).is_some_and(|c| matches!(c.state, State::Met | State::Below | State::Suppressed | State::Void))
    };
    STEPS.iter().filter(move |step| speaks(step) && step.class.is_none_or(seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::detection::Analytic;
    use std::collections::BTreeSet;

    #[test]
    fn each_analytic_has_steps_for_the_classes_it_is_made_of() {
        let ids: BTreeSet<&str> = steps().iter().map(|s| s.id.as_str()).collect();
        assert_eq!(ids.len(), steps().len(), "an id is there once");
        for (analytic, classes) in [("AN0741", &[Class::R, Class::C, Class::N][..]), ("AN1489", &[Class::R, Class::L, Class::P, Class::M, Class::A])] {
            for class in classes {
                assert!(steps().iter().any(|s| s.class == Some(*class) && s.analytics.iter().any(|a| a == analytic)), "{analytic} {class}");
            }
        }
        let known: Vec<&str> = Analytic::ALL.iter().map(|a| a.as_str()).collect();
        assert!(steps().iter().flat_map(|s| &s.analytics).all(|a| known.contains(&a.as_str())));
    }
}
