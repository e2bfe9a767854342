//! What a detection says of itself: title and story. Source: detection design, section 12.

use super::{
    assess::Picture,
    case::{Case, Item, UNATTRIBUTED},
};
use crate::model::{
    code::{Class, Code, Force},
    detection::{Band, State},
};

/// The first title that fits.
pub fn title(case: &Case, items: &[Item]) -> String {
    let hard = |class: Class| items.iter().any(|i| i.code.class() == class && i.is_hard());
    let pool = items.iter().any(|i| matches!(i.code, Code::NIoc | Code::NStratum));
    let launch = items.iter().any(|i| i.code.class() == Class::L && i.force >= Force::Discriminator);
    let title = if hard(Class::C) && pool {
        "Miner connected to a known pool"
    } else if hard(Class::M) {
        "Disguised process under sustained load"
    } else if hard(Class::C) {
        "Mining command line"
    } else if launch {
        "Sustained load from a suspicious launch"
    } else {
        "Sustained load with other evidence"
    };
    format!("{title} on {}", case.host.name)
}

/// Why it fired, in sentences; one per class, then what is absent, what cannot be seen, and which exceptions apply.
pub fn tell(case: &Case, picture: &Picture, items: &[Item], band: Option<Band>) -> String {
    let process = picture.process(case).filter(|p| p.id != UNATTRIBUTED);
    let image = process.map_or_else(|| "A process".to_owned(), |p| p.name());
    let path = process.and_then(|p| p.image.clone()).unwrap_or_default();
    let signature = process.map_or("signature not known", |p| match p.signature.as_deref() {
        Some("valid") => "signed",
        Some("unsigned") => "unsigned",
        Some(_) => "signature invalid",
        None => "signature not known",
    });
    let original = process
        .and_then(|p| p.original_file_name.as_deref())
        .filter(|o| !o.eq_ignore_ascii_case(&image))
        .map(|o| format!(", original name {o}"))
        .unwrap_or_default();
    let best = |class: Class| {
        items.iter().filter(|i| i.code.class() == class).max_by(|a, b| (a.points * a.hop).abs().total_cmp(&(b.points * b.hop).abs()))
    };
    let certainty = band.map_or_else(|| "Not certain".to_owned(), |b| {
        let word = b.to_string();
        word.get(..1).unwrap_or_default().to_uppercase() + word.get(1..).unwrap_or_default()
    });
    let who = process.map_or_else(|| "load that no process explains".to_owned(), |_| format!("{image} ({path}, {signature}{original})"));
    let mut story = format!("{certainty}: {who} on {}", case.host.name);
    match best(Class::R) {
        Some(load) => story.push_str(&format!(" used {}.", load.summary)),
        None => story.push_str(" was judged without a load of its own."),
    }
    for class in [Class::L, Class::P, Class::N, Class::M, Class::C, Class::A] {
        if let Some(item) = best(class) {
            story.push_str(&format!(" {}: {}.", class.title(), item.summary.trim_end_matches('.')));
        }
    }
    let named = |state: State| {
        picture.classes.iter().filter(|(class, s)| **class != Class::B && s.state == state).map(|(c, _)| c.title()).collect::<Vec<_>>()
    };
    let absent = named(State::ObservedAbsent);
    if !absent.is_empty() {
        story.push_str(&format!(" Looked for and not found: {}.", absent.join(", ")));
    }
    for (class, state) in picture.classes.iter().filter(|(_, s)| s.state == State::Unobservable) {
        story.push_str(&format!(" Not observable: {} ({}).", class.title(), state.reason.as_deref().unwrap_or_default()));
    }
    if !picture.applied.names.is_empty() {
        story.push_str(&format!(" Covered by {}.", picture.applied.names.join(", ")));
    }
    for (entry, code) in &picture.applied.voided {
        story.push_str(&format!(" {entry} voided by {code}."));
    }
    story
}
