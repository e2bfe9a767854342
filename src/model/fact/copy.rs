//! PostgreSQL COPY text format: one encoder for every fact column. Text is cut at 64 kB (wire formats, section 1.1);
//! NUL cannot be stored and is gone before (`sources::repair`), a leftover is written as U+FFFD.

use crate::model::ids::{EventId, GroupKey, HostId, ProcessGuid, SegmentId};
use chrono::{DateTime, Datelike as _, Timelike as _, Utc};
use std::{fmt::Write as _, net::IpAddr};

/// Longest text stored in one column, in bytes; the raw record keeps the rest.
pub(super) const LONGEST_TEXT: usize = 64 * 1024;

/// Rows in COPY text format.
#[derive(Debug, Default, Clone)]
pub struct CopyText {
    text: String,
    in_row: bool,
}

impl CopyText {
    /// With room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), in_row: false }
    }

    /// Appends one value (`None` = NULL) to the row under way.
    pub fn value<T: CopyValue + ?Sized>(&mut self, value: Option<&T>) {
        if self.in_row {
            self.text.push('\t');
        }
        self.in_row = true;
        match value {
            Some(value) => value.write(&mut self.text),
            None => self.text.push_str("\\N"),
        }
    }

    /// Appends columns that another `CopyText` wrote (without its row end).
    pub fn columns(&mut self, columns: &Self) {
        if self.in_row && columns.in_row {
            self.text.push('\t');
        }
        self.in_row |= columns.in_row;
        self.text.push_str(&columns.text);
    }

    /// Ends the row.
    pub fn end_row(&mut self) {
        self.text.push('\n');
        self.in_row = false;
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Whether no row was written.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.in_row = false;
    }
}

/// A value that COPY can carry.
pub trait CopyValue {
    /// Appends the escaped text of the value.
    fn write(&self, out: &mut String);
}

fn escaped(mut text: &str, out: &mut String) {
    while let Some(at) = text.bytes().position(|b| matches!(b, b'\\' | b'\n' | b'\r' | b'\t' | b'\0')) {
        let (before, rest) = text.split_at(at);
        out.push_str(before);
        out.push_str(match rest.as_bytes().first() {
            Some(b'\\') => "\\\\",
            Some(b'\n') => "\\n",
            Some(b'\r') => "\\r",
            Some(b'\t') => "\\t",
            _ => "\u{fffd}",
        });
        text = rest.get(1..).unwrap_or_default();
    }
    out.push_str(text);
}

/// The longest prefix of at most [`LONGEST_TEXT`] bytes that ends on a character.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST_TEXT)).unwrap_or(text)
}

impl CopyValue for str {
    fn write(&self, out: &mut String) {
        escaped(cut(self), out);
    }
}

impl CopyValue for String {
    fn write(&self, out: &mut String) {
        self.as_str().write(out);
    }
}

macro_rules! displayed {
    ($($type:ty),*) => { $( impl CopyValue for $type {
        fn write(&self, out: &mut String) { write!(out, "{self}").expect("writing to a String cannot fail"); }
    } )* };
}
displayed!(IpAddr);

// Numbers, ids and times are most of the values of a row: they go without the general formatter.
macro_rules! integers {
    ($($type:ty),*) => { $( impl CopyValue for $type {
        fn write(&self, out: &mut String) { out.push_str(itoa::Buffer::new().format(*self)); }
    } )* };
}
integers!(i16, i32, i64);

impl CopyValue for uuid::Uuid {
    fn write(&self, out: &mut String) {
        out.push_str(self.as_hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
    }
}

impl CopyValue for f64 {
    fn write(&self, out: &mut String) {
        // The columns are `real`: six digits are what they keep.
        write!(out, "{}", *self as f32).expect("writing to a String cannot fail");
    }
}

impl CopyValue for bool {
    fn write(&self, out: &mut String) {
        out.push(if *self { 't' } else { 'f' });
    }
}

impl CopyValue for DateTime<Utc> {
    fn write(&self, out: &mut String) {
        let (day, time) = (self.date_naive(), self.time());
        let mut padded = |n: u32, width: usize, after: &str| {
            let mut digits = itoa::Buffer::new();
            let digits = digits.format(n);
            out.extend(std::iter::repeat_n('0', width.saturating_sub(digits.len())));
            out.push_str(digits);
            out.push_str(after);
        };
        // Decoders take no year before 1990.
        padded(day.year().unsigned_abs(), 4, "-");
        padded(day.month(), 2, "-");
        padded(day.day(), 2, " ");
        padded(time.hour(), 2, ":");
        padded(time.minute(), 2, ":");
        padded(time.second(), 2, ".");
        // A leap second counts on in chrono's nanoseconds.
        padded((time.nanosecond() / 1_000).min(999_999), 6, "+00");
    }
}

macro_rules! newtypes {
    ($($type:ty),*) => { $( impl CopyValue for $type { fn write(&self, out: &mut String) { self.0.write(out); } } )* };
}
newtypes!(ProcessGuid, EventId, HostId, GroupKey, SegmentId);

impl<T: CopyValue> CopyValue for Vec<T> {
    fn write(&self, out: &mut String) {
        let mut element = String::new();
        out.push('{');
        for (n, value) in self.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            element.clear();
            value.write(&mut element);
            // One more level of reading: a backslash or quote needs the array's own escape; COPY's \n, \r and \t are read before it.
            out.push('"');
            let mut chars = element.chars();
            while let Some(c) = chars.next() {
                match (c, c == '\\') {
                    ('"', _) => out.push_str("\\\\\""),
                    (_, false) => out.push(c),
                    (_, true) => match chars.next() {
                        Some('\\') | None => out.push_str("\\\\\\\\"),
                        Some(control) => out.extend(['\\', control]),
                    },
                }
            }
            out.push('"');
        }
        out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one<T: CopyValue + ?Sized>(value: &T) -> String {
        let mut out = CopyText::default();
        out.value(Some(value));
        String::from_utf8(out.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn characters_that_mean_something_to_copy_are_escaped() {
        assert_eq!(one("a\tb\\c\nd\r\0"), "a\\tb\\\\c\\nd\\r\u{fffd}");
        assert_eq!(one("\\N"), "\\\\N");
    }

    #[test]
    fn arrays_survive_two_levels_of_reading() {
        // As PostgreSQL reads it: COPY turns it into {"a\"b\\c<newline>"}, the array parser into a"b\c<newline>.
        assert_eq!(one(&vec!["a\"b\\c\n".to_owned()]), "{\"a\\\\\"b\\\\\\\\c\\n\"}");
    }

    #[test]
    fn a_long_text_is_cut_on_a_character() {
        let long = "ä".repeat(LONGEST_TEXT);
        assert!(one(long.as_str()).len() <= LONGEST_TEXT);
    }

    #[test]
    fn rows_have_tabs_between_and_newlines_after() {
        let mut out = CopyText::default();
        out.value(Some(&1i64));
        out.value::<str>(None);
        out.value(Some(&true));
        out.end_row();
        out.value(Some(&DateTime::from_timestamp_micros(1_500_000).unwrap()));
        out.end_row();
        assert_eq!(out.as_bytes(), b"1\t\\N\tt\n1970-01-01 00:00:01.500000+00\n");
    }
}
