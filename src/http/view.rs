//! Words and shapes that several pages share: class chips, verdicts, destinations of a list. Logic here, layout in templates.

use crate::{
    http::filters::reveal,
    model::{
        code::Class,
        detection::{ClassState, Content, Detection, Disposition, Evidence, State, Status, Verdict},
        ids::EventRef,
    },
};
use std::collections::BTreeMap;

/// State of a class: letter, sign, words.
#[derive(Debug, Clone)]
pub struct Chip {
    /// Letter.
    pub class: Class,
    /// Word for the style.
    pub state: &'static str,
    /// `#` met, `-` below, blank looked and found nothing, `?` cannot see, `/` covered, `!` void.
    pub sign: &'static str,
    /// In words.
    pub words: String,
}

/// Sign of a state; the same everywhere.
pub fn sign(state: State) -> &'static str {
    match state {
        State::Met => "#",
        State::Below => "-",
        State::ObservedAbsent => "\u{a0}",
        State::Unobservable => "?",
        State::Suppressed => "/",
        State::Void => "!",
    }
}

fn number(value: f64) -> String {
    if value.fract().abs() < 0.05 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// A state in words, with its numbers.
pub fn state_words(class: Class, state: &ClassState) -> String {
    let reason = state.reason.as_deref().map(reveal).unwrap_or_default();
    let with = |words: &str| if reason.is_empty() { words.to_owned() } else { format!("{words}: {reason}") };
    match state.state {
        State::Met | State::Below if class == Class::B => format!("lowers the score by {}", number(-state.score)),
        State::Met => format!("met {} of {}", number(state.score), number(class.cap())),
        State::Below => format!("below: {} of {}", number(state.score), number(class.minimum())),
        State::ObservedAbsent => "looked, found nothing".to_owned(),
        State::Unobservable => with("no coverage"),
        State::Suppressed => with("covered"),
        State::Void => with(&format!("met {} of {}, an entry is void", number(state.score), number(class.cap()))),
    }
}

/// The same without the reason, for a row.
fn short_words(class: Class, state: &ClassState) -> String {
    state_words(class, &ClassState { reason: None, ..state.clone() })
}

/// First label of a name; addresses whole.
pub fn short_host(name: &str) -> &str {
    if name.parse::<std::net::IpAddr>().is_ok() { name } else { name.split('.').next().unwrap_or(name) }
}

/// A disposition on a button.
pub fn disposition_label(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::TruePositive => "True positive",
        Disposition::BenignPositive => "Benign",
        Disposition::FalsePositiveLogic => "False: logic",
        Disposition::FalsePositiveData => "False: data",
        Disposition::Duplicate => "Duplicate",
        Disposition::Undetermined => "Undetermined",
    }
}

/// Chips of a row: the six classes the analytics ask for, and the two others where they say something.
pub fn chips(classes: &BTreeMap<Class, ClassState>) -> Vec<Chip> {
    let silent = |s: &ClassState| matches!(s.state, State::ObservedAbsent | State::Unobservable);
    Class::ALL
        .into_iter()
        .filter_map(|class| classes.get(&class).map(|state| (class, state)))
        .filter(|(class, state)| !(matches!(class, Class::A | Class::B) && silent(state)))
        .map(|(class, state)| Chip {
            class,
            state: state.state.as_str(),
            sign: sign(state.state),
            words: format!("{class} {}", short_words(class, state)),
        })
        .collect()
}

/// A class with its evidence, for the page of a detection.
#[derive(Debug)]
pub struct ClassView<'a> {
    /// Letter, sign, words.
    pub chip: Chip,
    /// Words for people.
    pub title: &'static str,
    /// Largest first.
    pub evidence: Vec<&'a Evidence>,
}

/// All classes with their evidence.
pub fn classes(content: &Content) -> Vec<ClassView<'_>> {
    Class::ALL
        .into_iter()
        .filter_map(|class| content.classes.get(&class).map(|state| (class, state)))
        .map(|(class, state)| {
            let mut evidence: Vec<&Evidence> = content.evidence.iter().filter(|e| e.class == class).collect();
            evidence.sort_by(|a, b| (b.points * b.hop).abs().total_cmp(&(a.points * a.hop).abs()));
            let chip = Chip { class, state: state.state.as_str(), sign: sign(state.state), words: state_words(class, state) };
            ClassView { chip, title: class.title(), evidence }
        })
        .collect()
}

/// A verdict as shown.
pub fn verdict_words(content: &Content) -> String {
    let covered = content.evidence.iter().find_map(|e| e.suppressed_by.as_deref());
    verdict_of(content.verdict, &content.classes, covered)
}

/// The same from its parts.
pub fn verdict_of(verdict: Verdict, classes: &BTreeMap<Class, ClassState>, covered_by: Option<&str>) -> String {
    match verdict {
        Verdict::Alert => "Alert".to_owned(),
        Verdict::Partial => {
            let blind: Vec<String> =
                classes.iter().filter(|(_, s)| s.state == State::Unobservable).map(|(class, _)| class.to_string()).collect();
            if blind.is_empty() { "Partial".to_owned() } else { format!("Partial: {} not observable", blind.join(", ")) }
        }
        Verdict::EarlyWarning => "Early warning".to_owned(),
        Verdict::Candidate => "Candidate".to_owned(),
        Verdict::Suppressed => {
            format!("Suppressed by {}", reveal(covered_by.unwrap_or("an entry")))
        }
        Verdict::NotAssessable => "Not assessable".to_owned(),
        Verdict::None => "No verdict".to_owned(),
    }
}

/// A status as shown.
pub fn status_words(status: Status) -> &'static str {
    match status {
        Status::New => "New",
        Status::InProgress => "In progress",
        Status::Closed => "Closed",
    }
}

/// A disposition as shown, with what it means.
pub fn disposition_words(disposition: Disposition) -> (&'static str, &'static str) {
    match disposition {
        Disposition::TruePositive => ("True positive", "hijacked compute"),
        Disposition::BenignPositive => ("Benign positive", "real but expected"),
        Disposition::FalsePositiveLogic => ("False positive: logic", "the rule is wrong"),
        Disposition::FalsePositiveData => ("False positive: data", "the telemetry is wrong"),
        Disposition::Duplicate => ("Duplicate", "same as another"),
        Disposition::Undetermined => ("Undetermined", "cannot tell"),
    }
}

/// Higher score of both analytics.
pub fn score(detection: &Detection) -> f64 {
    detection.content.analytics.iter().map(|a| a.score).fold(0.0, f64::max)
}

/// Anchor of an event on the page of its detection.
pub fn event_anchor(event: &EventRef) -> String {
    format!("event-{event}")
}

/// Names and addresses a detection talks to, as they are compared.
pub fn destination_keys(content: &Content) -> Vec<String> {
    let mut keys: Vec<String> = content.destinations.iter().flat_map(|d| [d.host.clone(), d.ip.clone()]).flatten().collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// First letters of a long text, cut between characters.
pub fn clipped(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().take(most).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    reveal(&shown).into_owned()
}
