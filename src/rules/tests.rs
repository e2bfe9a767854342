//! The shipped rules hold their own examples; a site's rules are read, refused or listed with a reason.

use super::{check::check, *};
use crate::model::fact::ProcessStart;
use std::path::PathBuf;

fn shipped() -> Ruleset {
    Ruleset::load(None).unwrap_or_else(|e| panic!("{e}"))
}

fn codes(rules: &Ruleset, fact: &Fact) -> Vec<(Code, Force)> {
    let mut hits = Vec::new();
    rules.hits_of(fact, &mut hits);
    hits.iter().map(|hit| (hit.code, hit.force)).collect()
}

fn start(image: &str, command_line: &str) -> Fact {
    ProcessStart {
        image: Some(image.to_owned()),
        command_line: Some(command_line.to_owned()),
        ..ProcessStart::default()
    }
    .into()
}

/// A rule file with one change.
fn rule(from: &str, to: &str) -> String {
    let text = "title: T\nid: 5f9c0f8e-0000-4000-8000-000000000001\nlogsource: {product: windows, category: process_creation}\n\
        detection:\n  s:\n    Image|endswith: '\\corp.exe'\n  condition: s\n\
        coalface:\n  code: C.MINERFLAG\n  points: 15\n  force: plain\n  examples:\n    match:\n      - Image: C:\\corp.exe\n    no_match:\n      - Image: C:\\other.exe\n";
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}

#[test]
fn every_rule_file_is_embedded() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let found = files_below(&root.join("rules")).unwrap();
    let found: Vec<String> = found
        .iter()
        .map(|(file, _)| Path::new(file).strip_prefix(&root).unwrap().display().to_string().replace('\\', "/"))
        .collect();
    let embedded: Vec<&str> = shipped::RULES.iter().map(|(file, _)| *file).collect();
    assert_eq!(embedded, found);
}

#[test]
fn every_shipped_rule_holds_its_examples() {
    let (run, problems) = shipped().prove();
    assert!(problems.is_empty(), "{}", RuleErrors(problems));
    assert!(run > 100, "{run}");
}

#[test]
fn hard_and_soft_variants_are_told_apart() {
    let rules = shipped();
    let hard =
        codes(&rules, &start(r"C:\Users\Public\m.exe", "m.exe -o stratum+tcp://pool.example:3333 -u worker-seven"));
    assert_eq!(hard, [(Code::CMinerFlag, Force::Hard), (Code::CMinerFlag, Force::Plain)]);
    assert!(
        codes(&rules, &start(r"C:\msys64\mingw64\bin\gcc.exe", "gcc -O2 -o wallet.o -c wallet.c -I../include"))
            .is_empty()
    );
    assert!(codes(&rules, &start(r"C:\Windows\System32\certutil.exe", "certutil -verifystore root")).is_empty());
}

#[test]
fn an_excerpt_shows_what_matched() {
    let line = format!("m.exe {} -o stratum+tcp://pool.example:3333 {}", "x".repeat(300), "y".repeat(300));
    let mut hits = Vec::new();
    shipped().hits_of(&start(r"C:\Users\Public\m.exe", &line), &mut hits);
    assert!(hits[0].excerpt.contains("stratum+tcp://"), "{}", hits[0].excerpt);
    assert!(hits[0].excerpt.chars().count() <= 200);
}

#[test]
fn long_and_strange_texts_are_survived() {
    let rules = shipped();
    for text in [
        " -e ".repeat(20_000),
        "A".repeat(200_000),
        "^a".repeat(50_000),
        "`o".repeat(50_000),
        "\u{202e}\u{0}".repeat(1_000),
    ] {
        codes(&rules, &start(r"C:\a.exe", &text));
    }
}

#[test]
fn what_is_wrong_with_a_rule_is_said_with_file_and_place() {
    for (from, to, place) in [
        ("  code: C.MINERFLAG", "  code: C.NOSUCH", "coalface"),
        ("  code: C.MINERFLAG", "  code: R.SUSTAINED", "coalface.code"),
        ("  points: 15", "  points: 90", "coalface.points"),
        ("  force: plain", "  force: very", "coalface"),
        ("  force: plain", "  force: plain\n  hard: true", "coalface"),
        ("Image|endswith", "Image|re", "detection"),
        ("Image: C:\\other.exe", "Color: red", "coalface.examples.no_match[0]"),
        ("      - Image: C:\\other.exe", "      []", "coalface.examples.no_match"),
        ("id: 5f9c0f8e-0000-4000-8000-000000000001\n", "", "id"),
        ("title: T", "title: [", "rule"),
    ] {
        let to = if to == "Image|re" { "Image|re: '('\n    Image|endswith" } else { to };
        let problems = sigma::parse("own.yml", &rule(from, to)).map(|_| ()).unwrap_err();
        assert_eq!((problems[0].file.as_str(), problems[0].place.as_str()), ("own.yml", place), "{problems:?}");
    }
}

#[test]
fn a_directory_is_checked_as_it_would_be_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("own.yml", &rule("T", "T"));
    write("foreign.yml", &rule("category: process_creation", "category: webserver").replace("0001", "0002"));
    write("sigmahq.yml", rule("T", "T").replace("0001", "0003").split("coalface:").next().unwrap());
    let report = check(dir.path());
    assert!(report.is_ok(), "{report}");
    assert_eq!((report.files, report.evaluated, report.examples), (3, 1, 2));
    assert_eq!(report.idle.values().sum::<usize>(), 2, "{report}");

    let rules = Ruleset::load(Some(dir.path())).unwrap();
    assert_eq!(codes(&rules, &start(r"C:\corp.exe", "")), [(Code::CMinerFlag, Force::Plain)]);
    assert_eq!(rules.rules().filter(|info| info.evidence.is_err()).count(), 2);
    assert_eq!(rules.current().count(), shipped().current().count() + 1);

    write("lying.yml", &rule("Image: C:\\other.exe", "Image: D:\\corp.exe").replace("0001", "0004"));
    write("twice.yml", &rule("T", "T"));
    write("shadow.yml", &rule("5f9c0f8e-0000-4000-8000-000000000001", shipped_id()));
    let report = check(dir.path());
    let places: Vec<&str> = report.problems.iter().map(|p| p.place.as_str()).collect();
    assert_eq!(places, ["id", "id", "coalface.examples.no_match[0]"], "{report}");
    assert!(Ruleset::load(Some(dir.path())).is_err());
}

fn shipped_id() -> &'static str {
    shipped::RULES[0].1.lines().find_map(|line| line.strip_prefix("id: ")).unwrap()
}

#[test]
fn the_shipped_directory_passes_its_own_check() {
    let report = check(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("rules"));
    assert!(report.is_ok(), "{report}");
    assert!(!check(Path::new("/nonexistent")).is_ok());
}

/// The text with what stands between two markers replaced.
fn with_section(manual: &str, marker: &str, table: &str) -> String {
    let (before, rest) = manual.split_once(&format!("<!-- {marker} -->\n")).unwrap();
    let (_, after) = rest.split_once(&format!("<!-- end of {marker} -->")).unwrap();
    format!("{before}<!-- {marker} -->\n{table}<!-- end of {marker} -->{after}")
}

#[test]
fn the_manual_says_what_the_code_says() {
    use std::fmt::Write as _;
    let mut codes = String::from(
        "| code | class | points | force | replaced by | technique | meaning |\n|---|---|--:|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let entry = code.entry();
        let (class, points, force) = (entry.class.title(), entry.points, entry.force.as_str());
        let over = entry.replaced_by.join(", ");
        let technique = entry.technique.unwrap_or_default();
        writeln!(codes, "| {code} | {class} | {points} | {force} | {over} | {technique} | {} |", entry.says).unwrap();
    }
    let mut rules = String::from("| rule | code | points | force | file |\n|---|---|--:|---|---|\n");
    for info in shipped().rules() {
        let Ok(Evidence { code, points, force, .. }) = &info.evidence else {
            panic!("{} is shipped and idle", info.file)
        };
        let file = if info.file.starts_with("rules/") { format!("`{}`", info.file) } else { String::new() };
        writeln!(rules, "| {} | {code} | {points} | {} | {file} |", info.title, force.as_str()).unwrap();
    }
    let manual = include_str!("../../docs/DETECTION.md");
    let due = with_section(&with_section(manual, "catalogue", &codes), "rules", &rules);
    if manual != due {
        let renewed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/DETECTION.md");
        fs::write(&renewed, due).unwrap();
        panic!("docs/DETECTION.md is out of date: replace it by {}", renewed.display());
    }
}

#[test]
fn rules_on_texts_wait_behind_a_gate_and_those_on_absence_do_not() {
    let rules = shipped();
    let shelf = &rules.by_category[Category::ProcessCreation as usize];
    assert!(shelf.gated.len() > 10, "{} of {} rules are gated", shelf.gated.len(), shelf.gated.len() + shelf.open.len());
    let start = |line: &str| fields::fact_of(Category::ProcessCreation, [("CommandLine", line)]).unwrap();
    assert_eq!(shelf.candidates(&start("notepad.exe report.txt")).len(), shelf.open.len());
    let miner = shelf.candidates(&start("x -o stratum+tcp://192.0.2.1:3333"));
    assert!(miner.len() > shelf.open.len() && miner.len() < shelf.open.len() + shelf.gated.len(), "{} rules", miner.len());

    // nothing that holds is kept outside
    for fact in rules.sigma.iter().flat_map(|rule| &rule.examples).map(|example| &example.fact) {
        let Some(category) = Category::of(fact) else { continue };
        let shelf = &rules.by_category[category as usize];
        let inside = shelf.candidates(fact);
        for n in shelf.gated.iter().filter(|n| !inside.contains(n)) {
            assert_eq!(rules.sigma[*n].excerpt(fact), None, "{} on {fact:?}", rules.sigma[*n].info.title);
        }
    }

    let dir = tempfile::tempdir().unwrap();
    let text = |id: &str, detection: &str, yes: &str, no: &str| {
        format!("title: t\nid: {id}\nlogsource: {{product: windows, category: process_creation}}\ndetection:\n{detection}\nlevel: low\ncoalface:\n  code: C.CRADLE\n  points: 1\n  force: plain\n  examples:\n    match: [{{CommandLine: '{yes}'}}]\n    no_match: [{{CommandLine: '{no}'}}]\n")
    };
    std::fs::write(dir.path().join("absent.yml"), text("absent", "  a: {CommandLine|contains: 'known'}\n  condition: not a", "other", "known")).unwrap();
    std::fs::write(dir.path().join("none.yml"), text("none", "  a: {Image: null}\n  condition: a", "any", "any")).unwrap();
    let rules = Ruleset::load(Some(dir.path())).unwrap();
    let mut hits = Vec::new();
    rules.hits_of(&start("other"), &mut hits);
    assert_eq!(hits.iter().map(|hit| hit.rule_id.as_str()).collect::<Vec<_>>(), ["absent", "none"]);
}
