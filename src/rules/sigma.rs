//! Sigma rules: text -> compiled rule with what it stands for. The one module that knows `rsigma`.
//!
//! A rule says in its key `coalface` which evidence it is and proves itself with examples. Rules without that key (`SigmaHQ`'s) are
//! listed and not evaluated: a hit of theirs would be no evidence.

use super::{
    excerpt,
    fields::{Category, Decoded, View, fact_of, subject_name},
};
use crate::model::{
    code::{Class, Code, Force},
    fact::Fact,
};
use regex::Regex;
use rsigma_eval::{
    CompiledDetection, CompiledDetectionItem, CompiledMatcher, CompiledRule, Event, ResultBody, compile_rule,
    evaluate_rule,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc};

/// Longest rule file that is read, in bytes. Chosen: the longest of `SigmaHQ` has 40 kB.
pub(super) const LONGEST_FILE: usize = 256 * 1024;

/// What a rule stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Evidence code.
    pub code: Code,
    /// Points of this variant.
    pub points: f64,
    /// Force of this variant.
    pub force: Force,
    /// Kinds of events it is held against.
    pub categories: Vec<Category>,
}

/// A rule as people see it.
#[derive(Debug, Clone)]
pub struct RuleInfo {
    /// Unique id.
    pub id: String,
    /// One line.
    pub title: String,
    /// What it looks for and why.
    pub description: Option<String>,
    /// Who wrote it; shown with every match where the licence wants it.
    pub author: Option<String>,
    /// Pages behind it.
    pub references: Vec<String>,
    /// File it came from; `src/rules/native/..` for a native check.
    pub file: String,
    /// SHA-256 of its text (of id and version for a native check).
    pub hash: [u8; 32],
    /// What a hit stands for, or why the rule is never evaluated.
    pub evidence: Result<Evidence, &'static str>,
}

/// What is wrong with a rule, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {place}: {message}")]
pub struct Problem {
    /// File.
    pub file: String,
    /// Key or line in it.
    pub place: String,
    /// What was found and what was expected.
    pub message: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    code: Code,
    points: f64,
    force: Force,
    examples: Examples,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Examples {
    #[serde(rename = "match")]
    matching: Vec<BTreeMap<String, String>>,
    #[serde(rename = "no_match")]
    other: Vec<BTreeMap<String, String>>,
}

/// Where a detection found something: for the excerpt only.
#[derive(Debug)]
struct Needle {
    detection: String,
    field: String,
    pattern: Regex,
}

/// An event of a rule's examples and whether the rule must fire on it.
#[derive(Debug)]
pub(super) struct Example {
    /// The event.
    pub fact: Fact,
    /// Whether the rule must fire.
    pub fires: bool,
    /// Where it stands.
    pub place: String,
}

/// A rule of ours: compiled, with its meaning.
#[derive(Debug)]
pub(super) struct Rule {
    /// What it is.
    pub info: Arc<RuleInfo>,
    /// What it stands for.
    pub evidence: Evidence,
    /// Its proof.
    pub examples: Vec<Example>,
    compiled: CompiledRule,
    needles: Vec<Needle>,
    /// Whether it cannot hold unless one of its needles is found.
    gated: bool,
}

/// One rule of a file: evaluated, or listed only.
#[derive(Debug)]
pub(super) enum Parsed {
    Live(Box<Rule>),
    Idle(Arc<RuleInfo>),
}

/// SHA-256 of a rule's text.
pub(super) fn hash_of(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Reads one rule file.
///
/// # Errors
/// Everything that is wrong with it, not only the first.
pub(super) fn parse(file: &str, text: &str) -> Result<Vec<Parsed>, Vec<Problem>> {
    let problem = |place: &str, message: String| Problem { file: file.to_owned(), place: place.to_owned(), message };
    if text.len() > LONGEST_FILE {
        return Err(vec![problem("file", format!("{} bytes, expected at most {LONGEST_FILE}", text.len()))]);
    }
    let collection = rsigma_parser::parse_sigma_yaml(text).map_err(|e| {
        let place = e.location().map_or_else(|| "YAML".to_owned(), |at| format!("line {}, column {}", at.line, at.col));
        vec![problem(&place, e.to_string())]
    })?;
    let mut problems: Vec<Problem> = collection.errors.iter().map(|e| problem("rule", e.clone())).collect();
    let hash = hash_of(text);
    let mut parsed = Vec::new();
    for rule in &collection.rules {
        match read(file, hash, rule) {
            Ok(rule) => parsed.push(rule),
            Err(found) => problems.extend(found),
        }
    }
    if collection.is_empty() && problems.is_empty() {
        problems.push(problem("file", "holds no Sigma rule".to_owned()));
    }
    if problems.is_empty() { Ok(parsed) } else { Err(problems) }
}

fn read(file: &str, hash: [u8; 32], rule: &rsigma_parser::SigmaRule) -> Result<Parsed, Vec<Problem>> {
    let problem = |place: &str, message: String| Problem { file: file.to_owned(), place: place.to_owned(), message };
    let one = |place: &str, message: String| vec![problem(place, message)];
    let mut info = RuleInfo {
        id: rule.id.clone().unwrap_or_else(|| file.to_owned()),
        title: rule.title.clone(),
        description: rule.description.clone(),
        author: rule.author.clone(),
        references: rule.references.clone(),
        file: file.to_owned(),
        hash,
        evidence: Err("carries no coalface code"),
    };
    if !rule.custom_attributes.contains_key("coalface") {
        return Ok(Parsed::Idle(Arc::new(info)));
    }
    if rule.id.is_none() {
        return Err(one("id", "missing: hits are stored under the rule's id".to_owned()));
    }
    let compiled = compile_rule(rule).map_err(|e| one("detection", e.to_string()))?;
    let key = compiled.custom_attributes.get("coalface").cloned().unwrap_or_default();
    let key: Key = serde_json::from_value(key).map_err(|e| one("coalface", e.to_string()))?;

    let mut problems = Vec::new();
    let class = key.code.class();
    if matches!(class, Class::R | Class::P | Class::B) {
        problems.push(problem(
            "coalface.code",
            format!("{} needs more than one event: expected a code of class C, N, L, M or A", key.code),
        ));
    } else if !(key.points > 0.0 && key.points <= class.cap()) {
        problems.push(problem(
            "coalface.points",
            format!("{} is not above 0 and at most {}, the cap of class {class}", key.points, class.cap()),
        ));
    }
    let source = &rule.logsource;
    let foreign = source.product.as_deref().is_some_and(|p| p != "windows") || source.service.is_some();
    let categories = if foreign { &[] } else { Category::named(source.category.as_deref().unwrap_or_default()) };
    let Some(usual) = categories.first() else {
        info.evidence = Err("its log source is not one that is decoded");
        return if problems.is_empty() { Ok(Parsed::Idle(Arc::new(info))) } else { Err(problems) };
    };

    let mut examples = Vec::new();
    for (name, list, fires) in [("match", key.examples.matching, true), ("no_match", key.examples.other, false)] {
        if list.is_empty() {
            problems
                .push(problem(&format!("coalface.examples.{name}"), "empty: expected at least one event".to_owned()));
        }
        for (n, mut fields) in list.into_iter().enumerate() {
            let place = format!("coalface.examples.{name}[{n}]");
            let named = fields.remove("category").map_or(Some(*usual), |name| Category::named(&name).first().copied());
            let fact = named.ok_or_else(|| "unknown category".to_owned()).and_then(|category| {
                fact_of(category, fields.iter().map(|(name, text)| (name.as_str(), text.as_str())))
            });
            match fact {
                Ok(fact) => examples.push(Example { fact, fires, place }),
                Err(message) => problems.push(problem(&place, message)),
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let evidence = Evidence { code: key.code, points: key.points, force: key.force, categories: categories.to_vec() };
    info.evidence = Ok(evidence.clone());
    let (needles, all) = needles(&compiled);
    // With nothing found every selection is false; what holds then says something about absence.
    let gated = all && evaluate_rule(&compiled, &Decoded("")).is_none();
    Ok(Parsed::Live(Box::new(Rule { info: Arc::new(info), evidence, examples, compiled, needles, gated })))
}

impl Rule {
    /// Fields and patterns of which one must be found for the rule to hold; `None` = it may hold without.
    pub(super) fn gate(&self) -> Option<impl Iterator<Item = (&str, &str)>> {
        self.gated.then(|| self.needles.iter().map(|needle| (needle.field.as_str(), needle.pattern.as_str())))
    }

    /// What matched in the fact, or `None` if the rule does not hold.
    pub(super) fn excerpt(&self, fact: &Fact) -> Option<String> {
        let found = self.found(&View(fact))?;
        Some(if found.is_empty() { subject_name(fact).to_owned() } else { found })
    }

    /// What matched in any event, or `None` if the rule does not hold; empty if it holds for something that is absent.
    pub(super) fn found(&self, event: &impl Event) -> Option<String> {
        let result = evaluate_rule(&self.compiled, event)?;
        let ResultBody::Detection(body) = result.body else { return None };
        let text = |field: &str| event.get_field(field).and_then(|v| v.as_str().map(std::borrow::Cow::into_owned));
        let mut best: Option<(String, std::ops::Range<usize>)> = None;
        // The longest text says most: a path more than the access mask beside it.
        for needle in self.needles.iter().filter(|n| body.matched_selections.contains(&n.detection)) {
            if let Some(text) = text(&needle.field)
                && best.as_ref().is_none_or(|(shown, _)| text.len() > shown.len())
                && let Some(at) = needle.pattern.find(&text)
            {
                let at = at.range();
                best = Some((text, at));
            }
        }
        if let Some((text, at)) = best {
            return Some(excerpt::around(&text, at));
        }
        let whole = body.matched_fields.iter().find_map(|m| text(&m.field));
        Some(whole.map_or_else(String::new, |text| excerpt::around(&text, 0..0)))
    }
}

/// Patterns of a rule's positive matchers, so that an excerpt can show the place; and whether they are all it looks for.
fn needles(rule: &CompiledRule) -> (Vec<Needle>, bool) {
    let (mut out, mut all) = (Vec::new(), true);
    let mut names: Vec<&String> = rule.detections.keys().collect();
    names.sort_unstable();
    for name in names {
        all &= walk(&rule.detections[name], &mut |field, pattern| {
            let pattern = Regex::new(&pattern);
            let usable = pattern.is_ok();
            out.extend(pattern.ok().map(|pattern| Needle { detection: name.clone(), field: field.to_owned(), pattern }));
            usable
        });
    }
    (out, all)
}

/// Hands out field and pattern of what the detection looks for; answers whether that was everything, and everything was taken.
fn walk(detection: &CompiledDetection, out: &mut impl FnMut(&str, String) -> bool) -> bool {
    match detection {
        CompiledDetection::AllOf(items) => items.iter().fold(true, |all, CompiledDetectionItem { field, matcher, .. }| {
            let Some(field) = field else { return false };
            patterns(matcher, &mut |pattern| out(field, pattern)) && all
        }),
        CompiledDetection::AnyOf(inner) | CompiledDetection::And(inner) => inner.iter().fold(true, |all, d| walk(d, out) && all),
        // Keywords and arrays have no one field to show.
        CompiledDetection::Keywords(_) | CompiledDetection::ArrayMatch { .. } | CompiledDetection::Conditional { .. } => false,
    }
}

fn patterns(matcher: &CompiledMatcher, out: &mut dyn FnMut(String) -> bool) -> bool {
    let literal = |before: &str, value: &str, after: &str| format!("(?i){before}{}{after}", regex::escape(value));
    match matcher {
        CompiledMatcher::Exact { value, .. } => out(literal("^", value, "$")),
        CompiledMatcher::Contains { value, .. } => out(literal("", value, "")),
        CompiledMatcher::StartsWith { value, .. } => out(literal("^", value, "")),
        CompiledMatcher::EndsWith { value, .. } => out(literal("", value, "$")),
        CompiledMatcher::Regex(regex) => out(regex.as_str().to_owned()),
        CompiledMatcher::AhoCorasickSet { needles, .. } => needles.iter().fold(true, |all, n| out(literal("", n, "")) && all),
        CompiledMatcher::RegexSetMatch { set, .. } => set.patterns().iter().fold(true, |all, p| out(p.clone()) && all),
        CompiledMatcher::AnyOf(children)
        | CompiledMatcher::AllOf(children)
        | CompiledMatcher::CaseInsensitiveGroup { children, .. } => children.iter().fold(true, |all, c| patterns(c, out) && all),
        // Numbers, addresses and what must not be there have no place in a text.
        _ => false,
    }
}
