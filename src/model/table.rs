//! Tables that people import: CSV with a header line. A bad line is refused by its number, good lines beside it are kept.

use crate::model::exceptions::Invalid;
use serde::{Serialize, de::DeserializeOwned};

/// Most lines of one table: each is a row with an audit entry, in one transaction. Chosen: a few seconds of work.
pub const MOST_LINES: usize = 5_000;

/// A line that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Line in the file, from 1; the header is the first.
    pub line: u64,
    /// Column, where one is to blame.
    pub field: Option<String>,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl Refused {
    /// A line whose content is wrong.
    pub fn of(line: u64, invalid: &Invalid) -> Self {
        Self { line, field: Some(invalid.field.to_owned()), reason: invalid.reason.clone() }
    }
}

/// Lines that can be read, with their number, and those that cannot. Empty cells are absent values; columns are separated by commas, or
/// by semicolons where the header has no comma.
///
/// # Errors
/// A header that names an unknown column or lacks `needed`, and a table that is too long: nothing is taken then.
pub fn read<T: DeserializeOwned>(bytes: &[u8], needed: &str, known: &[&str]) -> Result<(Vec<(u64, T)>, Vec<Refused>), Invalid> {
    let invalid = |reason: String| Invalid { field: "header", reason };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let header = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let delimiter = if header.contains(&b';') && !header.contains(&b',') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).from_reader(bytes);
    let header: csv::StringRecord = reader.headers().map_err(|e| invalid(e.to_string()))?.iter().map(str::to_lowercase).collect();
    if let Some(odd) = header.iter().find(|name| !known.contains(name)) {
        return Err(invalid(format!("unknown column `{odd}`: expected {}", known.join(", "))));
    }
    if !header.iter().any(|name| name == needed) {
        return Err(invalid(format!("the first line names the columns; `{needed}` is needed, {} are known", known.join(", "))));
    }
    let (mut rows, mut refused) = (Vec::new(), Vec::new());
    // The reader counts lines from where it looked, blank ones included; people count those of the file.
    let (mut reached, mut line) = (0, 1);
    let mut at = |position: Option<&csv::Position>| {
        let mut byte = position.and_then(|p| usize::try_from(p.byte()).ok()).unwrap_or(reached);
        while matches!(bytes.get(byte), Some(b'\r' | b'\n')) {
            byte += 1;
        }
        line += bytes.get(reached..byte).unwrap_or_default().iter().filter(|b| **b == b'\n').count() as u64;
        reached = reached.max(byte);
        line
    };
    for record in reader.records() {
        if rows.len() + refused.len() >= MOST_LINES {
            return Err(Invalid { field: "line", reason: format!("at most {MOST_LINES} lines at a time: split the table") });
        }
        let record = match record {
            Ok(record) => record,
            Err(e) => {
                refused.push(Refused { line: at(e.position()), field: None, reason: e.to_string() });
                continue;
            }
        };
        let line = at(record.position());
        if record.iter().any(|cell| cell.contains('\0')) {
            refused.push(Refused { line, field: None, reason: "text must not hold the character NUL".to_owned() });
            continue;
        }
        match record.deserialize(Some(&header)) {
            Ok(row) => rows.push((line, row)),
            Err(e) => {
                let field = match e.kind() {
                    csv::ErrorKind::Deserialize { err, .. } => err.field().and_then(|n| header.get(usize::try_from(n).ok()?)).map(str::to_owned),
                    _ => None,
                };
                let reason = match e.kind() {
                    csv::ErrorKind::Deserialize { err, .. } => err.kind().to_string(),
                    _ => e.to_string(),
                };
                refused.push(Refused { line, field, reason });
            }
        }
    }
    Ok((rows, refused))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Row {
        name: String,
        tier: Option<i16>,
    }

    #[test]
    fn good_lines_beside_bad_ones_are_read_and_bad_ones_named() {
        let text = b"\xef\xbb\xbfTier;Name\r\n2; ws-1 \r\n\r\n;ws-2\r\nhigh;ws-3\r\n1;ws-4;more\r\n3;\xff\r\n4;\"ws\n5\"\r\n1;last";
        let (rows, refused) = read::<Row>(text, "name", &["name", "tier"]).unwrap();
        let names: Vec<_> = rows.iter().map(|(line, r)| (*line, r.name.as_str(), r.tier)).collect();
        assert_eq!(names, [(2, "ws-1", Some(2)), (4, "ws-2", None), (8, "ws\n5", Some(4)), (10, "last", Some(1))]);
        let lines: Vec<_> = refused.iter().map(|r| (r.line, r.field.as_deref())).collect();
        assert_eq!(lines, [(5, Some("tier")), (6, None), (7, None)]);
        assert!(refused[0].reason.contains("invalid digit"), "{refused:?}");
    }

    #[test]
    fn a_header_that_cannot_be_understood_takes_nothing() {
        for (text, says) in [("name,colour\nws-1,red", "colour"), ("ws-1\nws-2", "ws-1"), ("", "name"), ("tier\n1", "`name` is needed")] {
            let refused = read::<Row>(text.as_bytes(), "name", &["name", "tier"]).unwrap_err();
            assert!(refused.reason.contains(says), "{text}: {refused}");
        }
    }
}
