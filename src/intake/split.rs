//! Where one record ends and the next begins, in whatever a sender made of them: a JSON array, one object, objects end to end,
//! one per line, a run of `<Event>` elements, or lines of text. Iterative and shallow: containers are matched, values are not
//! read. What is broken becomes a record too, for the decoder to refuse, so nothing that was sent disappears.
//!
//! On an error it goes on line by line (wire formats, section 5), and inside a line at the next place where a record can begin.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "positions come from searches in the same text and stay inside it; property tests feed it arbitrary bytes"
)]

use crate::sources::Header;
pub use crate::sources::{LARGEST_RECORD, Signal, influx_lines, split_batch, split_protobuf};
use bytes::Bytes;
use memchr::{memchr, memchr_iter, memchr3, memmem};
use std::{
    io::{self, Read},
    iter,
    ops::Range,
};

/// Longest stretch that is read on in the hope of its end, when more can come. Chosen: eight records of the largest size.
const LONGEST_OPEN: usize = 8 << 20;
/// What [`Records`] reads at a time.
const STEP: usize = 1 << 20;

/// Splits a whole body; the records are slices of it. Lines of a table become the objects that its header makes of them.
pub fn records(body: &Bytes) -> impl Iterator<Item = Bytes> {
    let (mut splitter, mut header) = (Splitter::default(), Header::default());
    iter::from_fn(move || splitter.next(body, true).map(|range| body.slice(range)))
        .filter_map(move |record| header.place(record))
}

/// The same, with documents of OTLP, Telegraf and osquery that carry many records cut into these.
pub fn documents(body: &Bytes) -> impl Iterator<Item = Bytes> {
    records(body).flat_map(opened)
}

/// The records of a document, which is one itself unless it is a batch.
pub fn opened(document: Bytes) -> Vec<Bytes> {
    split_batch(&document).unwrap_or_else(|| vec![document])
}

/// Splits a stream of any length; an error of the reader comes after the records before it.
#[derive(Debug)]
pub struct Records<R> {
    reader: R,
    window: Bytes,
    splitter: Splitter,
    header: Header,
    step: usize,
    last: bool,
    error: Option<io::Error>,
}

impl<R: Read> Records<R> {
    /// Starts at the reader's position.
    pub fn new(reader: R) -> Self {
        let (splitter, header) = (Splitter::default(), Header::default());
        Self { reader, window: Bytes::new(), splitter, header, step: STEP, last: false, error: None }
    }

    fn refill(&mut self) {
        let rest = self.window.slice(self.splitter.take_position()..);
        let mut window = Vec::with_capacity(rest.len() + self.step);
        window.extend_from_slice(&rest);
        match self.reader.by_ref().take(self.step as u64).read_to_end(&mut window) {
            Ok(read) => self.last = read < self.step,
            Err(error) => (self.last, self.error) = (true, Some(error)),
        }
        self.window = Bytes::from(window);
    }
}

impl<R: Read> Iterator for Records<R> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(range) = self.splitter.next(&self.window, self.last) {
                match self.header.place(self.window.slice(range)) {
                    Some(record) => return Some(Ok(record)),
                    None => continue,
                }
            }
            if self.last {
                return self.error.take().map(Err);
            }
            self.refill();
        }
    }
}

/// How a look for the end of something came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// First byte after it.
    At(usize),
    /// It cannot end well; the first byte that does not fit.
    Broken(usize),
    /// The text ends before it does.
    Open,
}

/// What may come next inside a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Key,
    Colon,
    Value,
    Comma,
}

/// The state between two records.
#[derive(Debug, Default)]
struct Splitter {
    position: usize,
    /// Arrays around the records, opened and not yet closed.
    arrays: usize,
    /// Bytes looked at in vain. Beyond about four times the text only single lines are looked at, so that no input costs more
    /// than a constant number of readings.
    wasted: usize,
    containers: Containers,
}

impl Splitter {
    /// The next record, or `None` when the text ends (`last`) or ends too early.
    fn next(&mut self, text: &[u8], last: bool) -> Option<Range<usize>> {
        loop {
            let start = self.skip_separators(text);
            let first = *text.get(start)?;
            let piece = match first {
                b'[' => match text[start + 1..].iter().copied().find(|b| !b.is_ascii_whitespace()) {
                    None if !last => return None,
                    Some(b'{' | b'[' | b']' | b'"' | b'<') => {
                        self.arrays += 1;
                        self.position += 1;
                        continue;
                    }
                    _ => self.line(text, start, last),
                },
                b'{' | b'"' => self.value(text, start, last),
                b'<' if is_tag(&text[start..], b"<Event") => self.element(text, start, last),
                b'<' if is_wrapper(&text[start..]) => match memchr(b'>', &text[start..]) {
                    Some(length) => {
                        self.position = start + length + 1;
                        continue;
                    }
                    None => self.line(text, start, last),
                },
                _ => self.line(text, start, last),
            }?;
            self.position = piece.end;
            let length = text[piece.clone()].trim_ascii_end().len();
            if length > 0 {
                return Some(piece.start..piece.start + length);
            }
        }
    }

    /// The position, which the caller makes the beginning of the next text.
    fn take_position(&mut self) -> usize {
        std::mem::take(&mut self.position)
    }

    fn skip_separators(&mut self, text: &[u8]) -> usize {
        while let Some(rest) = text.get(self.position..).filter(|rest| !rest.is_empty()) {
            self.position += match rest {
                // A byte order mark, also in the middle: senders concatenate files.
                [0xEF, 0xBB, 0xBF, ..] => 3,
                // U+001E separates records of RFC 7464 text sequences.
                [b' ' | b'\t' | b'\r' | b'\n' | b',' | 0x1E, ..] => 1,
                [b']', ..] if self.arrays > 0 => {
                    self.arrays -= 1;
                    1
                }
                _ => break,
            };
        }
        self.position
    }

    /// An object or a string.
    fn value(&mut self, text: &[u8], start: usize, last: bool) -> Option<Range<usize>> {
        let (text_end, last) = self.horizon(text, start, last);
        let seen = &text[..text_end];
        let end = match text[start] {
            b'"' => string_end(seen, start + 1, last),
            _ => self.containers.object_end(seen, start, last),
        };
        match end {
            End::At(end) => Some(start..end),
            End::Open if !last => None,
            // The line it stands in may go on.
            End::Broken(_) if !last && memchr(b'\n', &text[start..]).is_none() => None,
            End::Open => Some(start..self.resume(text, start, text_end)),
            End::Broken(at) => Some(start..self.resume(text, start, at)),
        }
    }

    /// An `<Event>` element. Events hold no events, so a second beginning means that the first never ended.
    fn element(&mut self, text: &[u8], start: usize, last: bool) -> Option<Range<usize>> {
        const CLOSE: &[u8] = b"</Event>";
        let (text_end, last) = self.horizon(text, start, last);
        let seen = &text[..text_end];
        let edge = memmem::find_iter(&seen[start + 1..], b"Event").find_map(|offset| {
            let name = start + 1 + offset;
            if seen[..name].ends_with(b"</") && seen[name - 2..].starts_with(CLOSE) {
                return Some(name - 2 + CLOSE.len());
            }
            (name - 1 > start && is_tag(&seen[name - 1..], b"<Event")).then_some(name - 1)
        });
        match edge {
            Some(edge) => Some(start..edge),
            None if !last => None,
            None => Some(start..self.resume(text, start, text_end)),
        }
    }

    /// A line that is neither JSON nor an event; inside an array up to the next object.
    fn line(&self, text: &[u8], start: usize, last: bool) -> Option<Range<usize>> {
        let newline = memchr(b'\n', &text[start..]);
        if newline.is_none() && !last && text.len() - start < LONGEST_OPEN {
            return None;
        }
        let end = newline.map_or(text.len(), |length| start + length);
        let end = if self.arrays > 0 { boundary(text, start, end, b",") } else { end };
        Some(start..end)
    }

    /// How far to look from `start`, and whether nothing comes after that.
    fn horizon(&self, text: &[u8], start: usize, last: bool) -> (usize, bool) {
        if self.lines_only(text) {
            return (line_end(text, start), true);
        }
        (text.len(), last || text.len() - start >= LONGEST_OPEN)
    }

    fn lines_only(&self, text: &[u8]) -> bool {
        self.wasted > LONGEST_OPEN + text.len().saturating_mul(4)
    }

    /// Where to go on after what began at `start` turned out broken at `at`.
    fn resume(&mut self, text: &[u8], start: usize, at: usize) -> usize {
        let end = line_end(text, start);
        if self.lines_only(text) {
            return end;
        }
        self.wasted += at - start;
        boundary(text, start, end, if self.arrays > 0 { b"},".as_slice() } else { b"}".as_slice() })
    }
}

fn line_end(text: &[u8], start: usize) -> usize {
    memchr(b'\n', &text[start..]).map_or(text.len(), |length| start + length)
}

/// The first `{` after `start` and before `end` whose last neighbour is one of `before`; else `end`.
fn boundary(text: &[u8], start: usize, end: usize, before: &[u8]) -> usize {
    memchr_iter(b'{', &text[start..end])
        .map(|offset| start + offset)
        .skip_while(|at| *at == start)
        .find(|at| text[start..*at].trim_ascii_end().last().is_some_and(|byte| before.contains(byte)))
        .unwrap_or(end)
}

/// Whether the text begins with this tag, and not with one of a longer name.
fn is_tag(text: &[u8], tag: &[u8]) -> bool {
    text.strip_prefix(tag).and_then(<[u8]>::first).is_some_and(|b| b.is_ascii_whitespace() || matches!(b, b'>' | b'/'))
}

/// Markup around events: the declaration, `<Events>` and its end.
fn is_wrapper(text: &[u8]) -> bool {
    text.starts_with(b"<?xml") || text.starts_with(b"</Events") || is_tag(text, b"<Events")
}

/// The end of a string whose first byte is at `at`. A raw line end stays in it unless an object begins the next line: then the
/// string was cut off.
fn string_end(text: &[u8], mut at: usize, last: bool) -> End {
    while let Some(offset) = text.get(at..).and_then(|rest| memchr3(b'"', b'\\', b'\n', rest)) {
        at += offset;
        match text[at] {
            b'"' => return End::At(at + 1),
            // A line end is no escape.
            b'\\' => at += if text.get(at + 1) == Some(&b'\n') { 1 } else { 2 },
            _ => match text[at..].iter().position(|b| !b.is_ascii_whitespace()) {
                Some(blank) if text[at + blank] == b'{' => return End::Broken(at),
                Some(blank) => at += blank,
                None if last => return End::Broken(at),
                None => return End::Open,
            },
        }
    }
    End::Open
}

/// The open containers of one object, a bit each: objects are ones. Depth is bounded by the body, not by the stack.
#[derive(Debug, Default)]
struct Containers {
    bits: Vec<u64>,
    depth: usize,
}

impl Containers {
    fn push(&mut self, object: bool) {
        let (word, bit) = (self.depth / 64, 1 << (self.depth % 64));
        if word == self.bits.len() {
            self.bits.push(0);
        }
        if object {
            self.bits[word] |= bit;
        } else {
            self.bits[word] &= !bit;
        }
        self.depth += 1;
    }

    fn in_object(&self) -> bool {
        let top = self.depth - 1;
        self.bits[top / 64] >> (top % 64) & 1 == 1
    }

    /// The end of the object that begins at `start`. Only what tells records apart is checked: that containers close in turn,
    /// and that objects, arrays and strings stand where one may. Numbers and words are skipped.
    fn object_end(&mut self, text: &[u8], start: usize, last: bool) -> End {
        self.depth = 0;
        let mut expect = Expect::Value;
        let mut at = start;
        while let Some(&byte) = text.get(at) {
            at += 1;
            match byte {
                b'{' | b'[' if expect == Expect::Value => {
                    self.push(byte == b'{');
                    expect = if byte == b'{' { Expect::Key } else { Expect::Value };
                }
                b'"' if matches!(expect, Expect::Key | Expect::Value) => match string_end(text, at, last) {
                    End::At(end) => {
                        at = end;
                        expect = if expect == Expect::Key { Expect::Colon } else { Expect::Comma };
                    }
                    other => return other,
                },
                b'{' | b'[' | b'"' => return End::Broken(at - 1),
                b'}' | b']' if self.in_object() != (byte == b'}') => return End::Broken(at - 1),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return End::At(at);
                    }
                    expect = Expect::Comma;
                }
                b':' if self.in_object() => expect = Expect::Value,
                b',' => expect = if self.in_object() { Expect::Key } else { Expect::Value },
                b' ' | b'\t' | b'\r' | b'\n' => {}
                // A word or number where a value may stand is one; elsewhere it is the decoder's business.
                _ if expect == Expect::Value => expect = Expect::Comma,
                _ => {}
            }
        }
        End::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &[u8]) -> Vec<String> {
        records(&Bytes::copy_from_slice(text)).map(|r| String::from_utf8_lossy(&r).into_owned()).collect()
    }

    fn split_stream(text: &[u8], step: usize) -> Vec<String> {
        let mut stream = Records::new(text);
        stream.step = step;
        stream.map(|r| String::from_utf8_lossy(&r.unwrap()).into_owned()).collect()
    }

    #[test]
    fn every_framing_of_the_same_records_gives_the_same_records() {
        let (a, b) = (r#"{"a":[1,{"b":"}{"}]}"#, r#"{"c":"x\\\"]\\"}"#);
        for text in [
            format!("[{a},{b}]"),
            format!("[\n  {a},\n  {b},\n]\n"),
            format!("{a}{b}"),
            format!("{a}\n{b}\n"),
            format!("{a},\r\n{b},\r\n"),
            format!("\u{feff}{a}\n\n\u{feff}{b}\n\n"),
            format!("\u{1e}{a}\n\u{1e}{b}\n"),
            format!("[[{a}],[{b}]]"),
            format!("[{a}][{b}]"),
        ] {
            assert_eq!(split(text.as_bytes()), [a, b], "{text}");
        }
    }

    #[test]
    fn broken_records_do_not_take_their_neighbours_with_them() {
        let cases: &[(&str, &[&str])] = &[
            ("{\"a\":1}\nrubbish\n{\"b\":2}\n", &["{\"a\":1}", "rubbish", "{\"b\":2}"]),
            ("{\"a\":{\"x\":1}\n{\"b\":2}\n{\"c\":3}", &["{\"a\":{\"x\":1}", "{\"b\":2}", "{\"c\":3}"]),
            ("{\"a\":\"cut off\n{\"b\":2}\n", &["{\"a\":\"cut off", "{\"b\":2}"]),
            ("{\"a\":[\n{\"b\":2}\n{\"c\":3}", &["{\"a\":[", "{\"b\":2}", "{\"c\":3}"]),
            ("[{\"a\":1},{\"b\":,{\"c\":3}]", &["{\"a\":1}", "{\"b\":,", "{\"c\":3}"]),
            ("[{\"a\":1},oops,{\"c\":3}]", &["{\"a\":1}", "oops,", "{\"c\":3}"]),
            ("{\"b\":{\"x\":3}{\"d\":4}", &["{\"b\":{\"x\":3}", "{\"d\":4}"]),
            ("{\"a\":1}]\n{\"b\":2}", &["{\"a\":1}", "]", "{\"b\":2}"]),
            ("[2026-03-02] text of a log\n{\"b\":2}", &["[2026-03-02] text of a log", "{\"b\":2}"]),
            (
                "1772442845.049 5006 192.0.2.5 TCP_TUNNEL/200\n<189>date=x",
                &["1772442845.049 5006 192.0.2.5 TCP_TUNNEL/200", "<189>date=x"],
            ),
            ("{\"a\":\"two\nlines\"}", &["{\"a\":\"two\nlines\"}"]),
            ("", &[]),
            (" \r\n,,[]\n", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text.as_bytes()), *expected, "{text}");
        }
    }

    #[test]
    fn events_in_xml_may_span_lines_and_stand_in_a_list() {
        let one = "<Event xmlns='x'>\n<System><EventID>1</EventID></System>\n<EventData/></Event>";
        assert_eq!(split(format!("<?xml version=\"1.0\"?>\n<Events>{one}{one}\n</Events>").as_bytes()), [one, one]);
        assert_eq!(split(format!("<Event><System>\n{one}").as_bytes()), ["<Event><System>", one]);
        assert_eq!(split(b"[\"<Event>\\n</Event>\",\"b\"]"), ["\"<Event>\\n</Event>\"", "\"b\""]);
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(split(format!("{deep}\n{{\"b\":2}}").as_bytes()), [deep.as_str(), "{\"b\":2}"]);
    }

    #[test]
    fn hostile_text_is_read_a_constant_number_of_times() {
        // Each of these would be read to its end again from each of its lines or commas.
        for unit in ["{\"a\":[\n", "{\"a\":[1,", "<Event>\n", "<Event x=\"", "\"\n\n", "{\"a\":\"\n\n "] {
            let text = Bytes::from(format!("[{}", unit.repeat((4 << 20) / unit.len())));
            assert!(records(&text).take(200_000).count() > 0, "{unit}");
        }
    }

    /// A small JSON object in one line.
    fn good() -> impl Strategy<Value = String> {
        prop::collection::vec(("[a-z]{1,4}", any::<String>(), any::<i32>()), 1..4).prop_map(|fields| {
            let mut object = serde_json::Map::new();
            for (key, text, number) in fields {
                object.insert(key, serde_json::json!([number, { "t": text }]));
            }
            serde_json::Value::Object(object).to_string()
        })
    }

    proptest! {
        #[test]
        fn any_chunking_of_good_records_gives_the_same_records(
            list in prop::collection::vec(good(), 0..8),
            array: bool,
            gap in prop::sample::select(vec!["\n", "\r\n", ",\n", " , "]),
            step in 1usize..64,
        ) {
            let joined = list.join(gap);
            let text = if array { format!("[{joined}]") } else { joined };
            prop_assert_eq!(&split(text.as_bytes()), &list);
            prop_assert_eq!(&split_stream(text.as_bytes(), step), &list);
        }

        #[test]
        fn a_good_record_beside_rubbish_is_whole(
            lines in prop::collection::vec((good(), prop::collection::vec(any::<u8>(), 0..40)), 1..8),
            step in 1usize..64,
        ) {
            let mut text = Vec::new();
            for (record, rubbish) in &lines {
                // Closing brackets could complete what rubbish opened: then the good line truly is part of a larger record.
                text.extend(rubbish.iter().filter(|b| !matches!(b, b'}' | b']' | b'\n')));
                text.push(b'\n');
                text.extend(record.as_bytes());
                text.push(b'\n');
            }
            let found = split(&text);
            for (record, _) in &lines {
                prop_assert!(found.contains(record), "{} in {:?}", record, found);
            }
            prop_assert_eq!(found, split_stream(&text, step));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_pieces_keep_their_order(text in prop::collection::vec(any::<u8>(), 0..400)) {
            let body = Bytes::from(text);
            let mut position = body.as_ptr() as usize;
            for piece in records(&body) {
                prop_assert!(!piece.is_empty() && piece.as_ptr() as usize >= position);
                position = piece.as_ptr() as usize + piece.len();
            }
        }

        #[test]
        fn structure_alone_never_panics(text in "[\\[\\]{}\",:<>/\\\\a \n]{0,80}", step in 1usize..9) {
            let whole = split(text.as_bytes());
            let kept: usize = whole.iter().map(String::len).sum();
            prop_assert!(kept <= text.len());
            split_stream(text.as_bytes(), step);
        }
    }
}
