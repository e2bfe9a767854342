//! Class sums and the two scores. Source: detection design, section 6.1 and 6.2.

use super::case::Item;
use crate::model::{
    code::{Class, Code, Force},
    detection::Analytic,
};
use std::collections::{BTreeMap, BTreeSet};

/// Scores per class at one point in time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores(BTreeMap<Class, f64>);

impl Scores {
    /// Sums items: per code the best one, replaced codes dropped, each next one of a class counts half; capped.
    pub fn of<'a>(items: impl Iterator<Item = &'a Item>) -> Self {
        let mut best: BTreeMap<Code, f64> = BTreeMap::new();
        for item in items {
            let points = item.points * item.hop;
            best.entry(item.code).and_modify(|b| if points.abs() > b.abs() { *b = points }).or_insert(points);
        }
        let names: BTreeSet<&str> = best.keys().map(|c| c.name()).collect();
        let mut by_class: BTreeMap<Class, Vec<f64>> = BTreeMap::new();
        for (code, points) in &best {
            if !code.entry().replaced_by.iter().any(|over| names.contains(over)) {
                by_class.entry(code.class()).or_default().push(*points);
            }
        }
        Self(
            by_class
                .into_iter()
                .map(|(class, mut points)| {
                    points.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
                    let sum = points.iter().rev().fold(0.0, |sum, p| p + sum / 2.0);
                    (class, if class == Class::B { sum.max(class.cap()) } else { sum.min(class.cap()) })
                })
                .collect(),
        )
    }

    /// Score of a class; 0 without evidence.
    pub fn get(&self, class: Class) -> f64 {
        self.0.get(&class).copied().unwrap_or(0.0)
    }

    /// Whether the class reaches its minimum.
    pub fn met(&self, class: Class) -> bool {
        self.get(class) >= class.minimum()
    }

    /// The analytic's score, exact.
    pub fn total(&self, analytic: Analytic) -> f64 {
        let [r, c, n, l, p, m, a, b] = Class::ALL.map(|class| self.get(class));
        match analytic {
            Analytic::An0741 => r + c + n + a + b + (0.25 * (l + p + m)).min(15.0),
            Analytic::An1489 => r + l + p + m + a + b + (0.25 * (c + n)).min(15.0),
        }
    }
}

/// Whether a discriminator is among the active, unsuppressed items, or A is met.
pub fn discriminates<'a>(items: impl Iterator<Item = &'a Item> + Clone, scores: &Scores) -> bool {
    let softened = items.clone().any(|i| matches!(i.code, Code::BAdmin | Code::BBaseline | Code::BPrevDest));
    scores.met(Class::A)
        || items.filter(|i| i.hops <= 2).any(|i| match i.force {
            Force::Hard | Force::Discriminator => true,
            Force::Weak => !softened,
            Force::Plain => false,
        })
}

#[cfg(test)]
mod tests {
    use super::super::case::Instance;
    use super::*;

    pub(super) fn item(code: Code) -> Item {
        Item::for_life(code, &Instance::default(), String::new())
    }

    #[test]
    fn repetition_is_discounted_and_classes_are_capped() {
        let items = [item(Code::CMinerFlag), item(Code::CWallet), item(Code::CMinerName)];
        assert!((Scores::of(items.iter()).get(Class::C) - 35.0).abs() < 1e-9);
        let items = [item(Code::NPersist), item(Code::NRare)];
        assert!((Scores::of(items.iter()).get(Class::N) - 16.0).abs() < 1e-9);
    }

    #[test]
    fn a_stronger_code_replaces_the_one_it_extends() {
        let items = [item(Code::RSustained), item(Code::RPersistent)];
        assert!((Scores::of(items.iter()).get(Class::R) - 22.0).abs() < 1e-9);
    }

    #[test]
    fn benign_context_lowers_to_its_floor() {
        let items = [item(Code::BBaseline), item(Code::BAdmin), item(Code::BSignedCanon), item(Code::BPrevDest)];
        let b = Scores::of(items.iter()).get(Class::B);
        assert!((b - -26.75).abs() < 1e-9, "{b}");
    }

    #[test]
    fn encoded_powershell_is_daily_work_where_the_parent_is_known() {
        let shell = Item { force: Force::Weak, ..item(Code::LPsSusp) };
        let items = [shell.clone()];
        assert!(discriminates(items.iter(), &Scores::of(items.iter())));
        let items = [shell, item(Code::BAdmin)];
        assert!(!discriminates(items.iter(), &Scores::of(items.iter())));
    }
}
