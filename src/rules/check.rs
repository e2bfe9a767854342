//! `coalface rules check DIR`: reads a directory of rules as `serve` would and holds every rule against its own examples.

use super::{Ruleset, shipped, sigma::Problem};
use std::{collections::BTreeMap, fmt, path::Path};

/// What was found in a directory of rules. Displays as the report that the command prints.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Files read.
    pub files: usize,
    /// Rules that will be evaluated.
    pub evaluated: usize,
    /// Examples that were run.
    pub examples: usize,
    /// Rules that load but are never evaluated, counted by the reason.
    pub idle: BTreeMap<&'static str, usize>,
    /// Everything that is wrong; empty = the directory can be mounted.
    pub problems: Vec<Problem>,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, evaluated, examples, .. } = self;
        writeln!(f, "{files} files: {evaluated} rules are evaluated, {examples} examples run")?;
        for (reason, count) in &self.idle {
            writeln!(f, "{count} rules are not evaluated: {reason}")?;
        }
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        match self.problems.len() {
            0 => write!(f, "no problems"),
            1 => write!(f, "1 problem"),
            n => write!(f, "{n} problems"),
        }
    }
}

/// Checks the rules below a directory. The directory of the shipped rules itself may be checked, too.
pub fn check(dir: &Path) -> CheckReport {
    let mut report = CheckReport::default();
    let mut rules = Ruleset::default();
    match super::files_below(dir) {
        Ok(found) => {
            report.files = found.len();
            for (file, text) in found {
                report.problems.extend(rules.add(&file, &text).err().into_iter().flatten());
                report.problems.extend(shadowing(&file, &text, &rules));
            }
        }
        Err(problems) => report.problems.extend(problems),
    }
    rules.close();
    if report.files == 0 && report.is_ok() {
        report.problems.push(Problem {
            file: dir.display().to_string(),
            place: "directory".to_owned(),
            message: "no *.yml or *.yaml below it".to_owned(),
        });
    }
    for info in rules.rules() {
        match info.evidence {
            Ok(_) => report.evaluated += 1,
            Err(reason) => *report.idle.entry(reason).or_default() += 1,
        }
    }
    let (examples, problems) = rules.prove();
    report.examples = examples;
    report.problems.extend(problems);
    report
}

/// A rule with the id of a shipped one could not be loaded beside it, unless it is that very file.
fn shadowing(file: &str, text: &str, rules: &Ruleset) -> Vec<Problem> {
    let ours = shipped_ids();
    let here = rules.rules().filter(|info| info.file == file);
    here.filter_map(|info| ours.get(info.id.as_str()))
        .filter(|shipped| **shipped != text)
        .map(|_| Problem {
            file: file.to_owned(),
            place: "id".to_owned(),
            message: "is the id of a rule that ships with coalface".to_owned(),
        })
        .collect()
}

fn shipped_ids() -> BTreeMap<&'static str, &'static str> {
    let id = |text: &'static str| text.lines().find_map(|line| line.strip_prefix("id: "));
    shipped::RULES.iter().filter_map(|(_, text)| Some((id(text)?, *text))).collect()
}
