//! C.B64MINER: mining text inside base64, as ASCII or UTF-16LE, up to two layers deep (T1140).
//!
//! What counts as mining text is said by the hard rules on command text, so both cannot drift apart. A token that does not start
//! where its blob starts is met by the base64 of two telling words at any of the three offsets.

use super::Check;
use crate::{
    model::{code::Code, fact::Fact},
    rules::{
        Ruleset, excerpt,
        fields::{COMMAND_TEXT, Category, command_text},
    },
};
use ::base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD_NO_PAD},
};
use regex::Regex;
use std::{ops::Range, sync::LazyLock};

/// Shortest token that is decoded, in characters. Source: detection design, section 5, C.B64MINER.
const SHORTEST: usize = 24;
/// Layers of base64 that are opened. Source: as above.
const LAYERS: u32 = 2;
/// Tokens of one text that are opened. Chosen: scripts with more are data, and each costs a decoding.
const MOST_TOKENS: usize = 256;

pub(super) const CHECK: Check = Check {
    id: "coalface-native-base64-miner",
    version: 1,
    title: "Mining text inside base64",
    description: "A base64 token of at least 24 characters, ASCII or UTF-16LE, up to two layers, that holds a pool address, a miner's option or a wallet.",
    code: Code::CB64Miner,
    categories: COMMAND_TEXT,
    run,
    fires: &[
        // -o stratum+tcp://node:3333 -u x --donate-level=1 -t 8
        (
            Category::ProcessCreation,
            &[(
                "CommandLine",
                "powershell -c \"$a='LW8gc3RyYXR1bSt0Y3A6Ly9ub2RlOjMzMzMgLXUgeCAtLWRvbmF0ZS1sZXZlbD0xIC10IDg='\"",
            )],
        ),
        // a.exe -a rx/0 -o p:443 as UTF-16LE
        (
            Category::ProcessCreation,
            &[("CommandLine", "powershell -enc YQAuAGUAeABlACAALQBhACAAcgB4AC8AMAAgAC0AbwAgAHAAOgA0ADQAMwA=")],
        ),
        // Two layers of a.exe -a rx/0 -o p:443.
        (
            Category::ScheduledTask,
            &[
                ("Command", "cmd.exe"),
                ("Arguments", "/c x YS5leGUgLWEgcngvMCAtbyBwOjQ0Mw== WVM1bGVHVWdMV0VnY25ndk1DQXRieUJ3T2pRME13PT0="),
            ],
        ),
        // stratum+tcp:// behind one letter that does not belong to the blob.
        (Category::PsScript, &[("ScriptBlockText", "$x='QQQc3RyYXR1bSt0Y3A6Ly9ub2RlOjMzMzM'")]),
    ],
    silent: &[
        (
            Category::ProcessCreation,
            &[(
                "CommandLine",
                "powershell -enc RwBlAHQALQBQAHIAbwBjAGUAcwBzACAAfAAgAFMAbwByAHQALQBPAGIAagBlAGMAdAAgAEMAUABVAA==",
            )],
        ),
        (
            Category::ProcessCreation,
            &[("CommandLine", r"C:\Windows\System32\BackgroundTransferHost.exe -ServerName:BackgroundTransferHost.1")],
        ),
        (Category::ProcessCreation, &[("CommandLine", "x.exe -o stratum+tcp://node:3333")]),
    ],
};

/// Reads any padding and ignores left-over bits, as PowerShell's callers do after cutting.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Base64 of the telling words at each offset, without the characters that depend on their neighbours.
static ANY_OFFSET: LazyLock<Regex> = LazyLock::new(|| {
    let pieces = ["stratum+tcp://", "--donate-level="].iter().flat_map(|word| {
        (0..3usize).map(|offset| {
            let mut bytes = vec![0u8; offset];
            bytes.extend_from_slice(word.as_bytes());
            let text = STANDARD_NO_PAD.encode(&bytes);
            let whole = bytes.len() * 8 / 6;
            regex::escape(text.get((offset * 8).div_ceil(6)..whole).unwrap_or_default())
        })
    });
    Regex::new(&pieces.collect::<Vec<_>>().join("|")).expect("escaped literals")
});

fn run(fact: &Fact, rules: &Ruleset) -> Option<String> {
    let text = command_text(fact)?;
    find(&text, LAYERS, rules)
}

fn find(text: &str, layers: u32, rules: &Ruleset) -> Option<String> {
    let mut seen = 0;
    for token in tokens(text) {
        let word = text.get(token.clone())?;
        if let Some(at) = ANY_OFFSET.find(word) {
            return Some(excerpt::around(text, token.start + at.start()..token.start + at.end()));
        }
        seen += 1;
        if seen > MOST_TOKENS {
            return None;
        }
        let Some(decoded) = decode(word) else { continue };
        if let Some(found) = rules.mining_text(&decoded) {
            return Some(found);
        }
        if layers > 1
            && let Some(found) = find(&decoded, layers - 1, rules)
        {
            return Some(found);
        }
    }
    None
}

/// Runs of base64 characters long enough to be worth decoding.
fn tokens(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let start = at;
            at += bytes[start..].iter().take_while(|b| is_token(**b)).count();
            let run = start..at;
            at += 1;
            if run.len() >= SHORTEST {
                return Some(run);
            }
        }
        None
    })
}

/// The text in a token: UTF-16LE or ASCII; `None` if it is neither.
fn decode(token: &str) -> Option<String> {
    // One character too many carries no byte.
    let whole = if token.len() % 4 == 1 { token.len() - 1 } else { token.len() };
    let readable = |bytes: &[u8]| bytes.iter().all(|b| matches!(b, b'\t' | b'\n' | b'\r' | b' '..=b'~'));
    // Most tokens are paths and names: their first bytes tell.
    let first = LENIENT.decode(token.get(..16)?).ok()?;
    let wide = first.iter().skip(1).step_by(2).all(|b| *b == 0);
    if !wide && !readable(&first) {
        return None;
    }
    let bytes = LENIENT.decode(token.get(..whole)?).ok()?;
    if wide {
        let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        return Some(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect());
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    #[test]
    fn telling_words_are_met_at_any_offset() {
        for junk in ["", "a", "ab", "abc"] {
            for word in ["stratum+tcp://", "--donate-level="] {
                let token = STANDARD.encode(format!("{junk}{word}x"));
                assert!(ANY_OFFSET.is_match(&token), "{junk}{word}: {token}");
            }
        }
    }

    #[test]
    fn tokens_are_the_long_runs() {
        let text = "short abcdefghijklmnopqrstuvwx== tail";
        let found: Vec<_> = tokens(text).map(|token| &text[token]).collect();
        assert_eq!(found, ["abcdefghijklmnopqrstuvwx"]);
        assert_eq!(tokens("").count(), 0);
    }

    proptest! {
        #[test]
        fn any_text_survives(text in "\\PC{0,200}", token in "[A-Za-z0-9+/]{24,80}") {
            prop_assert!(tokens(&text).all(|r| r.len() >= SHORTEST));
            if let Some(decoded) = decode(&token) {
                prop_assert!(decoded.len() <= token.len() * 3);
            }
        }
    }
}
