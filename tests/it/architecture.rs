//! Who may use whom (docs/ARCHITECTURE.md): the table, held against the `crate::` paths and crate names of every source file.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What the files of a folder may use of ours, and which crates they never touch.
struct Folder {
    path: &'static str,
    ours: &'static [&'static str],
    never: &'static [&'static str],
}

/// The first that fits a file counts.
const HOUSE: &[Folder] = &[
    Folder { path: "time.rs", ours: &["model"], never: &["sqlx", "axum", "tokio"] },
    // columns of the database are derived on model types: `sqlx::Type` and no more
    Folder { path: "model/", ours: &["model", "time"], never: &["axum", "tokio"] },
    Folder { path: "sources/", ours: &["sources", "model", "time"], never: &["sqlx", "axum", "tokio"] },
    Folder { path: "rules/", ours: &["rules", "model", "time"], never: &["sqlx", "axum", "tokio"] },
    Folder { path: "analytics/", ours: &["analytics", "model", "time"], never: &["sqlx", "axum", "tokio"] },
    Folder { path: "store/", ours: &["store", "model", "time"], never: &["axum"] },
    Folder { path: "intake/", ours: &["intake", "model", "time", "sources", "rules", "store"], never: &["axum"] },
    Folder {
        path: "worker/",
        // rules judge what only the worker can put together: script blocks in parts
        ours: &["worker", "app", "model", "time", "analytics", "store", "intake", "rules"],
        never: &["axum"],
    },
    // of the store only `tokens`: forwarders prove themselves in more ways than programs of the API
    Folder { path: "http/ingest/", ours: &["http", "app", "model", "time", "intake", "store"], never: &[] },
    // `intake::unpack` reads what intake has packed: raw events are shown as they came; `worker::what_if` answers and writes nothing
    Folder {
        path: "http/",
        ours: &["http", "app", "config", "model", "time", "analytics", "store", "rules", "intake", "worker"],
        never: &[],
    },
    Folder { path: "embedded/", ours: &["config"], never: &["axum"] },
];

/// Sentences that are narrower than a folder.
const SENTENCES: &[(&str, &str, &str)] = &[
    ("model/", "sqlx::query", "SQL statements live in store/, worker/ and intake/"),
    ("http/", "sqlx::query", "SQL statements live in store/, worker/ and intake/"),
    ("http/", "QueryBuilder", "SQL statements live in store/, worker/ and intake/"),
    ("http/", "worker::pass", "pages do not evaluate: they ask worker::what_if, which only reads"),
    ("sources/", "Clock", "decoding does not know what time it is"),
    ("rules/", "Clock", "rules do not know what time it is"),
    ("analytics/", "Clock", "judgement does not know what time it is"),
];

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file: no comments, nothing from its tests on.
fn code(text: &str) -> String {
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
    lines.map(|line| if line.trim_start().starts_with("//") { "" } else { line }).collect::<Vec<_>>().join("\n")
}

/// First names after `crate::`, in paths and in groups.
fn ours(code: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::").filter(|(at, _)| !code[..*at].ends_with('$')) {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(name(rest));
            continue;
        };
        let mut depth = 0;
        let mut fresh = true;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => fresh = true,
                c if fresh && depth == 0 && c.is_alphabetic() => {
                    found.insert(name(&group[i..]));
                    fresh = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn uses_crate(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::"))
        .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}

#[test]
fn nobody_uses_what_the_house_does_not_allow() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    files_below(&root, &mut files);
    assert!(files.len() > 20, "the source files were not found");
    let mut broken = Vec::new();
    for file in files {
        let path = file.strip_prefix(&root).unwrap().display().to_string();
        let code = code(&fs::read_to_string(&file).unwrap());
        if let Some(folder) = HOUSE.iter().find(|folder| path.starts_with(folder.path)) {
            for name in ours(&code).iter().filter(|name| {
                !folder.ours.contains(&name.as_str())
                    && root.join(name).exists() | root.join(format!("{name}.rs")).exists()
            }) {
                broken.push(format!("{path} uses {name}: {} may use {}", folder.path, folder.ours.join(", ")));
            }
            for name in folder.never.iter().filter(|name| uses_crate(&code, name)) {
                broken.push(format!("{path} uses {name}: {} never does", folder.path));
            }
        }
        for (folder, word, sentence) in SENTENCES {
            if path.starts_with(folder) && code.contains(word) {
                broken.push(format!("{path} has `{word}`: {sentence}"));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn paths_and_groups_are_read() {
    let code = "use crate::{app::App, model::{ids::{HostId}, fact}, time};\nlet x = crate::store::read(); $crate::http::x; xcrate";
    assert_eq!(ours(code).into_iter().collect::<Vec<_>>(), ["app", "model", "store", "time"]);
    assert!(uses_crate("tokio::spawn", "tokio") && !uses_crate("my_tokio::x", "tokio"));
}
