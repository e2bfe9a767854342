//! Per-event evidence: event -> hits, in memory, pure. Sigma rules (`rules/`) and the checks no rule language says (`native`).
//!
//! Evidence that needs more than one event is found by the worker in SQL. How a rule is written: `docs/DETECTION.md`.

pub mod check;
mod excerpt;
mod fields;
mod native;
mod shipped;
mod sigma;

pub use fields::Category;
pub use sigma::{Evidence, Problem, RuleInfo};

use crate::model::{
    code::{Code, Force},
    event::Event,
    fact::Fact,
};
use fields::{Decoded, View};
use native::Native;
use regex::RegexSet;
use rsigma_eval::Event as _;
use sigma::{Example, Parsed, Rule};
use smallvec::SmallVec;
use std::{
    collections::{BTreeMap, HashSet},
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
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

/// Why rules could not be loaded: every problem with its file and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleErrors(pub Vec<Problem>);

impl fmt::Display for RuleErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} problems in rules", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

impl std::error::Error for RuleErrors {}

/// Compiled rules. The default has none.
#[derive(Debug, Default)]
pub struct Ruleset {
    sigma: Vec<Rule>,
    native: Vec<Native>,
    idle: Vec<Arc<RuleInfo>>,
    by_category: [Shelf; Category::ALL.len()],
    /// Sigma rules (by position) whose text is mining text wherever it is found.
    mining: Vec<usize>,
    ids: HashSet<String>,
}

/// Sigma rules (by position) of one category.
#[derive(Debug, Default)]
struct Shelf {
    /// Always evaluated.
    open: Vec<usize>,
    /// Evaluated if one of the texts they look for is there at all. Nearly all events stop here: one search for all patterns stands
    /// for a search for each rule's.
    gated: Vec<usize>,
    gates: Vec<Gate>,
}

/// What the gated rules look for in one field.
#[derive(Debug)]
struct Gate {
    field: String,
    patterns: RegexSet,
    /// The rule of each pattern.
    rules: Vec<usize>,
}

impl Shelf {
    fn add(&mut self, position: usize, rule: &Rule) {
        if rule.gate().is_some() { self.gated.push(position) } else { self.open.push(position) }
    }

    /// Makes the gates of the gated rules; patterns that are too large together are left to each rule.
    fn close(&mut self, rules: &[Rule]) {
        let mut fields: BTreeMap<&str, (Vec<&str>, Vec<usize>)> = BTreeMap::new();
        for (position, gate) in self.gated.iter().filter_map(|n| Some((*n, rules[*n].gate()?))) {
            for (field, pattern) in gate {
                let (patterns, owners) = fields.entry(field).or_default();
                patterns.push(pattern);
                owners.push(position);
            }
        }
        let made = fields.into_iter().map(|(field, (patterns, rules))| {
            Ok(Gate { field: field.to_owned(), patterns: RegexSet::new(patterns)?, rules })
        });
        match made.collect::<Result<_, regex::Error>>() {
            Ok(gates) => self.gates = gates,
            Err(_) => self.open.append(&mut self.gated),
        }
    }

    /// Rules that may hold for the fact, in their order.
    fn candidates(&self, fact: &Fact) -> SmallVec<[usize; 8]> {
        let view = View(fact);
        let mut found = SmallVec::from_slice(&self.open);
        for Gate { field, patterns, rules } in &self.gates {
            if let Some(text) = view.get_field(field).as_ref().and_then(|value| value.as_str()) {
                found.extend(patterns.matches(&text).iter().map(|n| rules[n]));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Ruleset {
    /// The shipped rules and, if given, those below a directory of the site's own.
    ///
    /// # Errors
    /// Every problem of every file; nothing is loaded by halves.
    pub fn load(extra: Option<&Path>) -> Result<Self, RuleErrors> {
        let mut rules = Self { native: Native::all(), ..Self::default() };
        let mut problems = Vec::new();
        for (file, text) in shipped::RULES {
            problems.extend(rules.add(file, text).err().into_iter().flatten());
        }
        match extra.map_or_else(|| Ok(Vec::new()), files_below) {
            Ok(files) => {
                for (file, text) in files {
                    problems.extend(rules.add(&file, &text).err().into_iter().flatten());
                }
            }
            Err(found) => problems.extend(found),
        }
        rules.close();
        if problems.is_empty() { Ok(rules) } else { Err(RuleErrors(problems)) }
    }

    /// Appends what the rules say of the event.
    pub fn hits(&self, event: &Event, out: &mut Vec<Hit>) {
        self.hits_of(&event.fact, out);
    }

    /// Every rule, the ones that are never evaluated included.
    pub fn rules(&self) -> impl Iterator<Item = &RuleInfo> {
        let live = self.sigma.iter().map(|rule| &rule.info).chain(self.native.iter().map(|check| &check.info));
        live.chain(&self.idle).map(AsRef::as_ref)
    }

    /// Text of a file that ships, examples included; `None` for native checks and files of the site.
    pub fn shipped_text(file: &str) -> Option<&'static str> {
        shipped::RULES.iter().find(|(name, _)| *name == file).map(|(_, text)| *text)
    }

    /// Hashes of the rules that are evaluated: hits of other hashes are of the past and do not count.
    pub fn current(&self) -> impl Iterator<Item = [u8; 32]> {
        self.rules().filter(|info| info.evidence.is_ok()).map(|info| info.hash)
    }

    /// Appends what the rules say of a fact that is no single event's: a script block put together.
    pub fn hits_of(&self, fact: &Fact, out: &mut Vec<Hit>) {
        let Some(category) = Category::of(fact) else { return };
        for rule in self.by_category[category as usize].candidates(fact).into_iter().map(|n| &self.sigma[n]) {
            if let Some(excerpt) = rule.excerpt(fact) {
                out.push(hit(&rule.info, &rule.evidence, excerpt));
            }
        }
        for check in self.native.iter().filter(|check| check.evidence.categories.contains(&category)) {
            if let Some(excerpt) = check.excerpt(fact, self) {
                out.push(hit(&check.info, &check.evidence, excerpt));
            }
        }
    }

    /// What a hard rule on flags or wallets finds in a text that was decoded.
    fn mining_text(&self, text: &str) -> Option<String> {
        self.mining.iter().find_map(|n| self.sigma[*n].found(&Decoded(text)))
    }

    /// Reads one file.
    fn add(&mut self, file: &str, text: &str) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        for parsed in sigma::parse(file, text)? {
            let info = match &parsed {
                Parsed::Live(rule) => &rule.info,
                Parsed::Idle(info) => info,
            };
            if !self.ids.insert(info.id.clone()) {
                let message = format!("`{}` is the id of another rule", info.id);
                problems.push(Problem { file: file.to_owned(), place: "id".to_owned(), message });
                continue;
            }
            match parsed {
                Parsed::Live(rule) => self.admit(*rule),
                Parsed::Idle(info) => self.idle.push(info),
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Makes the gates, after the last rule.
    fn close(&mut self) {
        for shelf in &mut self.by_category {
            shelf.close(&self.sigma);
        }
    }

    fn admit(&mut self, rule: Rule) {
        let position = self.sigma.len();
        let Evidence { code, force, categories, .. } = &rule.evidence;
        for category in categories {
            self.by_category[*category as usize].add(position, &rule);
        }
        if *force == Force::Hard && matches!(code, Code::CMinerFlag | Code::CWallet) {
            self.mining.push(position);
        }
        self.sigma.push(rule);
    }

    /// Holds every rule against its examples: how many were run, and which of them came out wrong.
    fn prove(&self) -> (usize, Vec<Problem>) {
        let mut run = 0;
        let mut problems = Vec::new();
        let mut hold = |info: &RuleInfo, example: &Example| {
            let mut hits = Vec::new();
            self.hits_of(&example.fact, &mut hits);
            run += 1;
            if hits.iter().any(|hit| hit.rule_id == info.id) != example.fires {
                let message = if example.fires { "must fire and does not" } else { "must not fire and does" };
                problems.push(Problem {
                    file: info.file.clone(),
                    place: example.place.clone(),
                    message: message.to_owned(),
                });
            }
        };
        for rule in &self.sigma {
            rule.examples.iter().for_each(|example| hold(&rule.info, example));
        }
        let mut broken = Vec::new();
        for check in &self.native {
            match check.examples() {
                Ok(examples) => examples.iter().for_each(|example| hold(&check.info, example)),
                Err(message) => {
                    broken.push(Problem { file: check.info.file.clone(), place: check.info.id.clone(), message });
                }
            }
        }
        problems.append(&mut broken);
        (run, problems)
    }
}

fn hit(info: &RuleInfo, evidence: &Evidence, excerpt: String) -> Hit {
    Hit {
        code: evidence.code,
        points: evidence.points,
        force: evidence.force,
        rule_id: info.id.clone(),
        rule_hash: info.hash,
        excerpt,
    }
}

/// Rule files below a directory with their text, ordered by path.
fn files_below(dir: &Path) -> Result<Vec<(String, String)>, Vec<Problem>> {
    let problem = |path: &Path, e: &std::io::Error| Problem {
        file: path.display().to_string(),
        place: "file".to_owned(),
        message: e.to_string(),
    };
    let mut problems = Vec::new();
    let mut waiting: Vec<PathBuf> = vec![dir.to_owned()];
    let mut paths = Vec::new();
    while let Some(folder) = waiting.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) => {
                problems.push(problem(&folder, &e));
                continue;
            }
        };
        for entry in entries {
            match entry {
                Ok(entry) if entry.file_name().to_string_lossy().starts_with('.') => {}
                // Links are not followed: they could lead round in a circle.
                Ok(entry) if entry.file_type().is_ok_and(|t| t.is_dir()) => waiting.push(entry.path()),
                Ok(entry) if entry.path().extension().is_some_and(|e| e == "yml" || e == "yaml") => {
                    paths.push(entry.path());
                }
                Ok(_) => {}
                Err(e) => problems.push(problem(&folder, &e)),
            }
        }
    }
    paths.sort_unstable();
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        match fs::read_to_string(&path) {
            Ok(text) => files.push((path.display().to_string(), text)),
            Err(e) => problems.push(problem(&path, &e)),
        }
    }
    if problems.is_empty() { Ok(files) } else { Err(problems) }
}

#[cfg(test)]
mod tests;
