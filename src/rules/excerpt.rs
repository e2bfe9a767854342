//! The piece of a text that an analyst needs to see: what matched, with what stands around it.

use std::ops::Range;

/// Longest excerpt, in characters. Source: interface of [`super::Hit`].
pub(super) const LONGEST: usize = 200;

/// At most [`LONGEST`] characters of the text around the match; cuts are shown as `…`, control characters as blanks.
pub(super) fn around(text: &str, found: Range<usize>) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().nth(LONGEST).is_none() {
        return text.chars().map(shown).collect();
    }
    let room = LONGEST - 2;
    let matched = text.get(found.clone()).map_or(0, |m| m.chars().count().min(room));
    let before = text.get(..found.start).unwrap_or_default();
    let lead: Vec<char> = before.chars().rev().take((room - matched) / 2).collect();
    let start = found.start - lead.iter().map(|c| c.len_utf8()).sum::<usize>();
    let rest = text.get(start..).unwrap_or(text);
    let mut out = String::from(if start > 0 { "…" } else { "" });
    out.extend(rest.chars().take(room).map(shown));
    if rest.chars().nth(room).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_short_text_is_whole_and_a_long_one_keeps_the_match() {
        assert_eq!(around("a\nb", 0..1), "a b");
        let text = format!("{}stratum+tcp://{}", "ä".repeat(500), "z".repeat(500));
        let at = text.find("stratum").unwrap();
        let shown = around(&text, at..at + 14);
        assert!(shown.starts_with('…') && shown.contains("stratum+tcp://") && shown.ends_with('…'));
    }

    proptest! {
        #[test]
        fn never_too_long_and_never_a_panic(text in "\\PC{0,400}", start in 0usize..500, len in 0usize..500) {
            let start = text.floor_char_boundary(start.min(text.len()));
            let end = text.floor_char_boundary((start + len).min(text.len()));
            let shown = around(&text, start..end.max(start));
            prop_assert!(shown.chars().count() <= LONGEST);
            prop_assert!(text.is_empty() || !shown.is_empty());
        }
    }
}
