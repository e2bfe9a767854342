//! Zeek's tab-separated logs: what a header names, becomes the JSON that Zeek would have written.

use bytes::Bytes;
use std::borrow::Cow;

/// Most bytes of a header's names and types, so that a long header over short lines cannot make much of little.
const LONGEST_HEADER: usize = 2_048;

/// The header that the lines of a stream stand under.
#[derive(Debug)]
pub struct Header {
    separator: char,
    inner: String,
    empty: String,
    unset: String,
    path: String,
    fields: Vec<String>,
    types: Vec<String>,
    begun: bool,
}

impl Default for Header {
    fn default() -> Self {
        Self {
            separator: '\t',
            inner: ",".to_owned(),
            empty: "(empty)".to_owned(),
            unset: "-".to_owned(),
            path: String::new(),
            fields: Vec::new(),
            types: Vec::new(),
            begun: false,
        }
    }
}

impl Header {
    /// The record as it is to be decoded; `None` for a line of the header itself.
    pub fn place(&mut self, record: Bytes) -> Option<Bytes> {
        match record.first() {
            Some(b'#') if self.take(&record) => None,
            Some(b'#' | b'{' | b'[' | b'"' | b'<') | None => Some(record),
            Some(_) => Some(self.row(&record).map_or(record, Bytes::from)),
        }
    }

    /// Whether this is a line of a header.
    fn take(&mut self, line: &[u8]) -> bool {
        let line = String::from_utf8_lossy(line);
        if let Some(separator) = line.strip_prefix("#separator ") {
            *self = Self { separator: separator_of(separator), begun: true, ..Self::default() };
            return true;
        }
        let Some((name, value)) = line.split_once(self.separator).filter(|_| line.len() <= LONGEST_HEADER) else {
            return false;
        };
        let list = || value.split(self.separator).map(str::to_owned).collect();
        match name {
            "#fields" => {
                self.fields = list();
                self.types = Vec::new();
                self.begun = true;
            }
            "#types" if self.begun => self.types = list(),
            "#path" if self.begun => value.clone_into(&mut self.path),
            "#set_separator" if self.begun => value.clone_into(&mut self.inner),
            "#empty_field" if self.begun => value.clone_into(&mut self.empty),
            "#unset_field" if self.begun => value.clone_into(&mut self.unset),
            "#open" | "#close" => return self.begun,
            _ => return false,
        }
        true
    }

    /// A line below a header as an object.
    fn row(&self, line: &[u8]) -> Option<Vec<u8>> {
        if self.fields.is_empty() {
            return None;
        }
        let line: Cow<'_, str> = String::from_utf8_lossy(line);
        let mut values = line.split(self.separator).peekable();
        let first = values.next()?;
        values.peek()?;
        let mut object = serde_json::Map::new();
        object.insert("_path".to_owned(), self.path.as_str().into());
        let types = self.types.iter().map(String::as_str).chain(std::iter::repeat(""));
        for ((name, value), kind) in self.fields.iter().zip(std::iter::once(first).chain(values)).zip(types) {
            if *value == *self.unset {
                continue;
            }
            let value = if kind.starts_with("vector[") || kind.starts_with("set[") {
                let inner = value.split(self.inner.as_str()).filter(|v| *v != self.empty && !v.is_empty());
                inner.collect::<Vec<_>>().into()
            } else {
                value.into()
            };
            object.insert(name.clone(), value);
        }
        serde_json::to_vec(&object).ok()
    }
}

/// `\x09`, or the character itself.
fn separator_of(text: &str) -> char {
    let code = text.trim_end().strip_prefix("\\x").and_then(|hex| u8::from_str_radix(hex, 16).ok());
    code.map(char::from).or_else(|| text.chars().next()).unwrap_or('\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tdns\n#open\t2026-03-02-09-00-00\n\
        #fields\tts\tuid\tid.orig_h\tquery\tanswers\tTTLs\n#types\ttime\tstring\taddr\tstring\tvector[string]\tvector[interval]\n\
        1772442845.25\tC1\t10.0.0.5\tpool.example\t203.0.113.9,203.0.113.10\t(empty)\n1772442846.0\tC2\t10.0.0.5\t-\t-\t-\n#close\t2026-03-02-10-00-00";

    fn placed(header: &mut Header, text: &str) -> Vec<String> {
        let records = text.lines().filter_map(|line| header.place(Bytes::from(line.to_owned())));
        records.map(|record| String::from_utf8(record.to_vec()).unwrap()).collect()
    }

    #[test]
    fn rows_become_what_zeek_would_have_written_as_json() {
        let rows: Vec<serde_json::Value> =
            placed(&mut Header::default(), LOG).iter().map(|row| serde_json::from_str(row).unwrap()).collect();
        assert_eq!(
            rows,
            [
                serde_json::json!({"_path": "dns", "ts": "1772442845.25", "uid": "C1", "id.orig_h": "10.0.0.5", "query": "pool.example",
                    "answers": ["203.0.113.9", "203.0.113.10"], "TTLs": []}),
                serde_json::json!({"_path": "dns", "ts": "1772442846.0", "uid": "C2", "id.orig_h": "10.0.0.5"}),
            ]
        );
    }

    #[test]
    fn other_records_and_comments_pass_as_they_are() {
        let mut header = Header::default();
        let text = "# a comment\n#close\tx\nno header\tyet\n{\"a\":1}";
        assert_eq!(placed(&mut header, text), text.lines().collect::<Vec<_>>());
        placed(&mut header, LOG);
        assert_eq!(placed(&mut header, "{\"a\":1}\n<Event/>\nhello"), ["{\"a\":1}", "<Event/>", "hello"]);
        let long = format!("#fields\t{}", "x\t".repeat(LONGEST_HEADER));
        assert_eq!(placed(&mut Header::default(), &long), [long]);
    }
}
