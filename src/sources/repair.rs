//! One repair pass over a document that `serde_json` refused, so that a broken record is evaluated instead of lost.
//!
//! Iterative: hostile nesting costs no stack. Everything repaired is named; the raw bytes stay as sent elsewhere.

use super::json::{DEEPEST, MOST_KEYS};

/// The document in a form `serde_json` takes, and what was changed.
pub(super) fn repair(bytes: &[u8]) -> (Vec<u8>, Vec<&'static str>) {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    let mut scanner = Scanner {
        rest: text.trim_end_matches(|c: char| c == ',' || c.is_whitespace() || c == '\0').as_bytes(),
        out: Vec::with_capacity(bytes.len()),
        ..Scanner::default()
    };
    if matches!(text, std::borrow::Cow::Owned(_)) {
        scanner.note("(utf-8)");
    }
    scanner.run();
    (scanner.out, scanner.notes)
}

#[derive(Default)]
struct Scanner<'a> {
    rest: &'a [u8],
    out: Vec<u8>,
    /// Closing brackets that are due.
    open: Vec<u8>,
    keys: usize,
    notes: Vec<&'static str>,
}

impl<'a> Scanner<'a> {
    fn note(&mut self, what: &'static str) {
        if !self.notes.contains(&what) {
            self.notes.push(what);
        }
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(count).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    fn run(&mut self) {
        while let Some(&byte) = self.rest.first() {
            match byte {
                b'"' => self.string(),
                b'{' | b'[' if self.open.len() >= DEEPEST => self.as_text("(depth)"),
                b'{' | b'[' if self.keys >= MOST_KEYS => self.as_text("(keys)"),
                b'{' | b'[' => {
                    self.open.push(if byte == b'{' { b'}' } else { b']' });
                    self.out.push(byte);
                    self.take(1);
                }
                b'}' | b']' => {
                    self.open.pop();
                    self.drop_comma();
                    self.out.push(byte);
                    self.take(1);
                }
                b':' => {
                    self.keys = self.keys.saturating_add(1);
                    self.out.push(byte);
                    self.take(1);
                }
                b',' if self.keys >= MOST_KEYS => {
                    // The rest stays in the raw record only.
                    self.note("(keys)");
                    self.rest = &[];
                }
                b',' | b' ' | b'\t' | b'\r' | b'\n' => {
                    self.out.push(byte);
                    self.take(1);
                }
                _ => self.word(),
            }
        }
        while let Some(close) = self.open.pop() {
            if !self.notes.contains(&"(keys)") {
                // Cut off: not a whole document, so let the parser say so.
                return;
            }
            self.out.push(close);
        }
    }

    /// A comma before a closing bracket.
    fn drop_comma(&mut self) {
        let kept = self.out.trim_ascii_end();
        if kept.last() == Some(&b',') {
            let kept = kept.len().saturating_sub(1);
            self.out.truncate(kept);
            self.note("(comma)");
        }
    }

    /// A number or a word; what JSON cannot say is null.
    fn word(&mut self) {
        let length = self
            .rest
            .iter()
            .position(|b| matches!(b, b',' | b'}' | b']' | b':' | b'"' | b'{' | b'[') || b.is_ascii_whitespace())
            .unwrap_or(self.rest.len());
        let word = self.take(length.max(1));
        let fine = matches!(word, b"true" | b"false" | b"null")
            || (serde_json::from_slice::<f64>(word).is_ok_and(f64::is_finite));
        if fine {
            self.out.extend_from_slice(word);
        } else {
            self.note("(number)");
            self.out.extend_from_slice(b"null");
        }
    }

    /// A string: lone surrogates and NUL become U+FFFD, raw control characters are escaped, unknown escapes kept as text.
    fn string(&mut self) {
        self.out.push(b'"');
        self.take(1);
        while let Some(&byte) = self.rest.first() {
            match byte {
                b'"' => {
                    self.out.push(b'"');
                    self.take(1);
                    return;
                }
                b'\\' => self.escape(),
                0 => {
                    self.take(1);
                    self.note("(nul)");
                    self.out.extend_from_slice("\u{fffd}".as_bytes());
                }
                control @ 1..0x20 => {
                    self.take(1);
                    self.out.extend_from_slice(format!("\\u{control:04x}").as_bytes());
                }
                _ => {
                    let length = memchr::memchr2(b'"', b'\\', self.rest).unwrap_or(self.rest.len());
                    let chunk = self.rest.get(..length).unwrap_or_default();
                    let length = chunk.iter().position(|b| *b < 0x20).unwrap_or(length);
                    let chunk = self.take(length);
                    self.out.extend_from_slice(chunk);
                }
            }
        }
    }

    fn escape(&mut self) {
        match self.rest.get(1) {
            Some(b'u') => {
                let first = unit(self.rest);
                let second = first.filter(|u| (0xd800..0xdc00).contains(u)).and_then(|_| unit(self.rest.get(6..)?));
                match (first, second) {
                    (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => {
                        let pair = self.take(12);
                        self.out.extend_from_slice(pair);
                    }
                    (Some(0xd800..=0xdfff), _) => {
                        self.take(6);
                        self.note("(surrogate)");
                        self.out.extend_from_slice("\u{fffd}".as_bytes());
                    }
                    (Some(_), _) => {
                        let plain = self.take(6);
                        self.out.extend_from_slice(plain);
                    }
                    (None, _) => self.backslash(),
                }
            }
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                let plain = self.take(2);
                self.out.extend_from_slice(plain);
            }
            _ => self.backslash(),
        }
    }

    fn backslash(&mut self) {
        self.take(1);
        self.note("(escape)");
        self.out.extend_from_slice(b"\\\\");
    }

    /// A subtree beyond a limit, as text.
    fn as_text(&mut self, limit: &'static str) {
        self.note(limit);
        let (mut depth, mut quoted, mut escaped, mut length) = (0usize, false, false, 0usize);
        for &byte in self.rest {
            length = length.saturating_add(1);
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'{' | b'[' if !quoted => depth = depth.saturating_add(1),
                b'}' | b']' if !quoted => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        break;
                    }
                }
                _ => {}
            }
        }
        let inner = String::from_utf8_lossy(self.take(length)).replace('\0', "\u{fffd}");
        self.out.extend_from_slice(serde_json::Value::String(inner).to_string().as_bytes());
    }
}

/// The code unit of a `\uXXXX` at the beginning.
fn unit(bytes: &[u8]) -> Option<u32> {
    let hex = bytes.strip_prefix(b"\\u")?.get(..4)?;
    hex.iter().all(u8::is_ascii_hexdigit).then_some(())?;
    u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::super::json::{Json, read};
    use super::*;
    use proptest::prelude::*;

    fn text_of(bytes: &[u8], path: &str) -> (Option<String>, Vec<&'static str>) {
        read(bytes, |tree, notes| (tree.str_at(path).map(str::to_owned), notes.names().collect())).unwrap()
    }

    /// Wire formats, section 15, case 20.
    #[test]
    fn broken_text_is_repaired_and_named() {
        let cases: [(&[u8], &str, &str); 7] = [
            (b"{\"a\":\"x\xffy\"}", "x\u{fffd}y", "(utf-8)"),
            (br#"{"a":"x\ud800y"}"#, "x\u{fffd}y", "(surrogate)"),
            (br#"{"a":"x\udc00\ud83d\ude00"}"#, "x\u{fffd}😀", "(surrogate)"),
            (br#"{"a":"xy","n":1e400}"#, "xy", "(number)"),
            (br#"{"a":"xy","n":NaN}"#, "xy", "(number)"),
            (br#"{"a":"C:\Windows\x"}"#, r"C:\Windows\x", "(escape)"),
            (b"{\"a\":\"xy\",}", "xy", "(comma)"),
        ];
        for (bytes, expected, note) in cases {
            let (text, notes) = text_of(bytes, "a");
            assert_eq!(
                (text.as_deref(), notes.as_slice()),
                (Some(expected), [note].as_slice()),
                "{}",
                bytes.escape_ascii()
            );
        }
        assert_eq!(text_of(b"{\"a\":\"tab\there\"}", "a").0.as_deref(), Some("tab\there"));
    }

    #[test]
    fn what_lies_too_deep_is_text_and_the_rest_counts() {
        let bytes = format!(r#"{{"deep":{}1{},"a":"seen"}}"#, "[".repeat(10_000), "]".repeat(10_000));
        let (text, notes) = text_of(bytes.as_bytes(), "a");
        assert_eq!((text.as_deref(), notes.as_slice()), (Some("seen"), ["(depth)"].as_slice()));
    }

    #[test]
    fn keys_beyond_the_limit_are_dropped_from_the_reading() {
        let many: Vec<String> = (0..5_000).map(|n| format!("\"k{n}\":{n}")).collect();
        let bytes = format!("{{\"a\":\"seen\",{}}}", many.join(","));
        read(bytes.as_bytes(), |tree, notes| {
            assert_eq!(tree.members().len(), MOST_KEYS);
            assert_eq!(tree.get("k1"), Some(&Json::Int(1)));
            assert_eq!(notes.names().collect::<Vec<_>>(), ["(keys)"]);
        })
        .unwrap();
    }

    #[test]
    fn nested_keys_beyond_the_limit_are_text() {
        let many: Vec<String> = (0..4_095).map(|n| format!("\"k{n}\":{n}")).collect();
        let bytes = format!("{{{},\"last\":{{\"x\":{{\"y\":1}}}},\"gone\":1}}", many.join(","));
        let (text, notes) = text_of(bytes.as_bytes(), "last");
        assert_eq!((text.as_deref(), notes.as_slice()), (Some(r#"{"x":{"y":1}}"#), ["(keys)"].as_slice()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_repaired_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (out, _) = repair(&bytes);
            prop_assert!(std::str::from_utf8(&out).is_ok());
        }

        #[test]
        fn valid_documents_pass_unchanged_in_meaning(text in "[a-z\\\\\"\u{1}\u{fffd}é😀]{0,20}", n: i64) {
            let bytes = serde_json::json!({ "text": text, "n": n, "list": [null, true, 1.5] }).to_string();
            let (out, notes) = repair(bytes.as_bytes());
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), serde_json::from_str::<serde_json::Value>(&bytes).unwrap());
            prop_assert!(notes.is_empty());
        }
    }
}
