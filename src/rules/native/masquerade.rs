//! M.SYSPATH and M.LOOKALIKE: a system binary's name outside its folder, or a name made to be read as one (T1036.005).

use super::Check;
use crate::{
    model::{
        code::Code,
        fact::Fact,
        group::{base_name, comparable_path},
        names,
    },
    rules::{Ruleset, excerpt, fields::Category},
};
use smallvec::SmallVec;
use std::sync::LazyLock;

pub(super) const SYSTEM_PATH: Check = Check {
    id: "coalface-native-system-path",
    version: 1,
    title: "System name outside its folder",
    description: "A program with the name of a Windows binary runs from a folder where Windows does not keep it.",
    code: Code::MSysPath,
    categories: &[Category::ProcessCreation],
    run: system_path,
    fires: &[
        (Category::ProcessCreation, &[("Image", r"C:\ProgramData\Microsoft\svchost.exe")]),
        (Category::ProcessCreation, &[("Image", r"C:\Users\kim\AppData\Roaming\EXPLORER.EXE")]),
    ],
    silent: &[
        (Category::ProcessCreation, &[("Image", r"C:\Windows\System32\svchost.exe")]),
        (Category::ProcessCreation, &[("Image", r"C:\Windows\ImmersiveControlPanel\SystemSettings.exe")]),
        (
            Category::ProcessCreation,
            &[("Image", r"C:\Program Files\WindowsApps\Microsoft.WindowsNotepad_11.2401.26.0_x64\Notepad\Notepad.exe")],
        ),
        (Category::ProcessCreation, &[("Image", "svchost.exe")]),
    ],
};

pub(super) const LOOKALIKE: Check = Check {
    id: "coalface-native-lookalike",
    version: 1,
    title: "Name one letter away from a system name",
    description: "A name that equals that of a Windows binary once look-alike characters are folded, or differs from it by one letter; not validly signed.",
    code: Code::MLookalike,
    categories: &[Category::ProcessCreation],
    run: lookalike,
    fires: &[
        (Category::ProcessCreation, &[("Image", r"C:\ProgramData\Intel\scvhost.exe")]),
        (Category::ProcessCreation, &[("Image", r"C:\Windows\svch0st.exe")]),
        (Category::ProcessCreation, &[("Image", r"C:\Users\Public\expIorer.exe")]),
        (Category::ProcessCreation, &[("Image", "C:\\Users\\Public\\ls\u{430}ss.exe")]),
        (Category::ProcessCreation, &[("Image", r"C:\Temp\svchosts.exe"), ("SignatureStatus", "Unsigned")]),
        (Category::ProcessCreation, &[("Image", r"C:\Temp\cornhost.exe")]),
    ],
    silent: &[
        (Category::ProcessCreation, &[("Image", r"C:\Windows\System32\svchost.exe")]),
        (Category::ProcessCreation, &[("Image", r"C:\Windows\System32\msdt.exe")]),
        (Category::ProcessCreation, &[("Image", r"C:\Program Files\Vendor\service.exe")]),
        (Category::ProcessCreation, &[("Image", r"C:\Tools\Notepad2.exe")]),
        (Category::ProcessCreation, &[("Image", r"C:\Tools\svchosts.exe"), ("SignatureStatus", "Valid")]),
        (Category::ProcessCreation, &[("Image", r"C:\Tools\ism.exe")]),
        (Category::ProcessCreation, &[("Image", r"C:\Program Files\Internet Explorer\iexplore.exe")]),
    ],
};

/// System names without their extension, as given and with look-alike characters folded.
static SYSTEM_STEMS: LazyLock<Vec<(&str, String)>> = LazyLock::new(|| {
    names::SYSTEM_NAMES.iter().filter_map(|name| name.strip_suffix(".exe")).map(|stem| (stem, fold(stem))).collect()
});

/// Names of honest programs that happen to be one letter away from a system name: Microsoft's diagnostics and Notepad's successors,
/// and what every second service calls itself.
const HONEST: &[&str] = &["msdt", "service", "notepad2", "notepad3", "notepads", "taskmgr2", "explorers"];

/// Shortest system name, in letters, that one edit may be measured from. Source: detection design, section 5, M.LOOKALIKE.
const SHORTEST: usize = 5;

fn system_path(fact: &Fact, _rules: &Ruleset) -> Option<String> {
    let Fact::ProcessStart(start) = fact else { return None };
    let image = start.image.as_deref()?;
    let name = base_name(image);
    // Cheap look first: the full test spells the path out.
    let known = names::SYSTEM_NAMES.iter().any(|system| system.eq_ignore_ascii_case(name.trim()));
    (known && names::is_misplaced_system_name(image)).then(|| excerpt::around(image, 0..0))
}

fn lookalike(fact: &Fact, _rules: &Ruleset) -> Option<String> {
    let Fact::ProcessStart(start) = fact else { return None };
    let image = start.image.as_deref()?;
    if start.signature.as_deref() == Some("valid") {
        return None;
    }
    let name = base_name(image).trim().to_lowercase();
    if names::SYSTEM_NAMES.contains(&name.as_str()) {
        return None;
    }
    let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
    let (letters, folded): (SmallVec<[char; 32]>, String) = (stem.chars().collect(), fold(stem));
    let near = |system: &str| {
        system.len() >= SHORTEST && system.len().abs_diff(letters.len()) <= 1 && one_edit(&letters, system)
    };
    let (imitated, _) = SYSTEM_STEMS.iter().find(|(system, as_read)| {
        stem != *system && system.len() > 3 && folded == *as_read
            // Windows has honest neighbours of its own names, and only administrators write there.
            || near(system) && !HONEST.contains(&stem) && !in_system_folder(image)
    })?;
    Some(excerpt::around(&format!("{image} reads as {imitated}.exe"), 0..0))
}

fn in_system_folder(image: &str) -> bool {
    names::in_system_folder(&comparable_path(image))
}

/// The text with look-alike characters replaced by the one they are read as.
fn fold(text: &str) -> String {
    let folded: String = text
        .chars()
        .map(|c| match c {
            '0' | 'о' | 'ο' | 'ö' | 'ó' | 'ò' => 'o',
            '1' | 'i' | '|' | '!' | 'і' | 'ı' | 'í' | 'ì' | 'ӏ' => 'l',
            '3' | 'е' | 'é' | 'è' | 'ё' => 'e',
            '4' | '@' | 'а' | 'á' | 'à' | 'ä' => 'a',
            '5' | '$' | 'ѕ' => 's',
            'с' | 'ϲ' => 'c',
            'р' => 'p',
            'х' => 'x',
            'у' => 'y',
            'һ' => 'h',
            'ԁ' => 'd',
            'ν' => 'v',
            // Full-width forms.
            '\u{ff41}'..='\u{ff5a}' => char::from_u32(u32::from(c) - 0xff41 + u32::from('a')).unwrap_or(c),
            c => c,
        })
        .collect();
    if folded.contains("rn") || folded.contains("vv") { folded.replace("rn", "m").replace("vv", "w") } else { folded }
}

/// Whether the Damerau-Levenshtein distance is exactly one: a letter more, less, changed, or two neighbours swapped.
fn one_edit(a: &[char], b: &str) -> bool {
    let b: SmallVec<[char; 32]> = b.chars().collect();
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    match (&a[head..a.len() - tail], &b[head..b.len() - tail]) {
        ([_], [_] | []) | ([], [_]) => true,
        ([a1, a2], [b1, b2]) => a1 == b2 && a2 == b1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn one_edit(a: &str, b: &str) -> bool {
        super::one_edit(&a.chars().collect::<Vec<_>>(), b)
    }

    #[test]
    fn one_edit_is_one() {
        for (a, b) in [
            ("svchost", "scvhost"),
            ("lsass", "lsas"),
            ("csrss", "csrsss"),
            ("svchost", "svchast"),
            ("conhost", "ocnhost"),
        ] {
            assert!(one_edit(a, b) && one_edit(b, a), "{a} {b}");
        }
        for (a, b) in [("svchost", "svchost"), ("explorer", "iexplore"), ("svchost", "shost"), ("lsass", "saslss")] {
            assert!(!one_edit(a, b), "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn an_inserted_letter_is_one_edit(text in "[a-z]{1,12}", at in 0usize..12, letter in proptest::char::range('a', 'z')) {
            let mut longer = text.clone();
            longer.insert(at.min(text.len()), letter);
            prop_assert!(one_edit(&text, &longer));
            prop_assert!(!one_edit(&text, &text));
        }
    }
}
