//! A lenient, borrowed JSON tree: what every JSON shape is read from.
//!
//! The fast path is `serde_json`; what it refuses goes once through [`super::repair`] and is read again. Dotted and nested
//! keys are one field, the nested one counts; of a key given twice the first counts (wire formats, section 1.1).

use super::repair;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, cell::Cell, fmt};

/// Deepest nesting that is read; what lies deeper is text. Source: wire formats, section 1.1.
pub(super) const DEEPEST: usize = 64;
/// Most keys of one record. Source: wire formats, section 1.1.
pub(super) const MOST_KEYS: usize = 4_096;

/// Members of an object in the order sent.
pub(super) type Members<'a> = [(Cow<'a, str>, Json<'a>)];

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`.
    Big(u64),
    Float(f64),
    Str(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Member of an object; the first of several with one name.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => member(members, key),
            _ => None,
        }
    }

    /// Value at a dotted path, whether the record nests or writes dotted keys. `None` for null.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        self.reach(path).filter(|found| !matches!(found, Self::Null))
    }

    fn reach(&self, path: &str) -> Option<&Self> {
        for (dot, _) in path.match_indices('.') {
            let (head, rest) = path.split_at_checked(dot)?;
            if let Some(found) = self.get(head).and_then(|child| child.reach(rest.get(1..)?)) {
                return Some(found);
            }
        }
        self.get(path)
    }

    /// Text at a dotted path; numbers are no text.
    pub(super) fn str_at(&self, path: &str) -> Option<&str> {
        self.at(path)?.as_str()
    }

    /// As text, without conversion.
    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Members of an object, else none.
    pub(super) fn members(&self) -> &Members<'a> {
        match self {
            Self::Object(members) => members,
            _ => &[],
        }
    }

    /// Elements of an array, else none.
    pub(super) fn elements(&self) -> &[Self] {
        match self {
            Self::Array(elements) => elements,
            _ => &[],
        }
    }

    /// Appends the canonical form: keys sorted, no blanks, the first of several equal keys.
    pub(super) fn canonical(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
            Self::Big(n) => out.extend_from_slice(n.to_string().as_bytes()),
            Self::Float(n) => out.extend_from_slice(n.to_string().as_bytes()),
            Self::Str(text) => canonical_text(text, out),
            Self::Array(elements) => {
                out.push(b'[');
                for (n, element) in elements.iter().enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    element.canonical(out);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                let mut sorted: Vec<_> = members.iter().collect();
                sorted.sort_by(|a, b| a.0.cmp(&b.0));
                sorted.dedup_by(|later, first| later.0 == first.0);
                out.push(b'{');
                for (n, (key, value)) in sorted.into_iter().enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    canonical_text(key, out);
                    out.push(b':');
                    value.canonical(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// First member with this name.
pub(super) fn member<'m, 'a>(members: &'m Members<'a>, key: &str) -> Option<&'m Json<'a>> {
    members.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

fn canonical_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text.as_bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// What had to be repaired while reading; the names go to `field_errors`.
#[derive(Debug, Default)]
pub(super) struct Notes {
    nul: Cell<bool>,
    twice: Cell<bool>,
    keys: Cell<usize>,
    repaired: Vec<&'static str>,
}

impl Notes {
    /// Names of what was repaired.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        let own = [(self.nul.get(), "(nul)"), (self.twice.get(), "(key twice)")];
        self.repaired.iter().copied().chain(own.into_iter().filter_map(|(set, name)| set.then_some(name)))
    }
}

/// Reads one document, and hands the tree to `then`.
///
/// # Errors
/// What `serde_json` said, when it stays unreadable after repair.
pub(super) fn read<T>(bytes: &[u8], then: impl FnOnce(&Json<'_>, &Notes) -> T) -> Result<T, String> {
    let mut notes = Notes::default();
    if let Ok(tree) = parse(bytes, &notes) {
        return Ok(then(&tree, &notes));
    }
    let (repaired, what) = repair::repair(bytes);
    notes = Notes { repaired: what, ..Notes::default() };
    let tree = parse(&repaired, &notes).map_err(|e| e.to_string())?;
    Ok(then(&tree, &notes))
}

fn parse<'a>(bytes: &'a [u8], notes: &Notes) -> serde_json::Result<Json<'a>> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let tree = Tree { notes, depth: 0 }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(tree)
}

#[derive(Clone, Copy)]
struct Tree<'n> {
    notes: &'n Notes,
    depth: usize,
}

impl Tree<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEEPEST {
            return Err(E::custom("nested too deep"));
        }
        Ok(Self { depth: self.depth.saturating_add(1), ..self })
    }

    fn text(self, text: String) -> String {
        if memchr::memchr(0, text.as_bytes()).is_none() {
            return text;
        }
        self.notes.nul.set(true);
        text.replace('\0', "\u{fffd}")
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Json<'de>;
    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Json<'de>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Int(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(i64::try_from(value).map_or(Json::Big(value), Json::Int))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Json::Float(value))
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Str(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Str(Cow::Owned(self.text(text.to_owned()))))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element_seed(inner)? {
            elements.push(element);
        }
        Ok(Json::Array(elements))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut members: Vec<(Cow<'de, str>, Json<'de>)> = Vec::with_capacity(16);
        let mut seen = [0u64; 8];
        while let Some(Key(key)) = map.next_key_seed(KeySeed(self))? {
            self.notes.keys.set(self.notes.keys.get().saturating_add(1));
            if self.notes.keys.get() > MOST_KEYS {
                return Err(A::Error::custom("too many keys"));
            }
            if was_seen(&mut seen, &key) && members.iter().any(|(name, _)| *name == key) {
                self.notes.twice.set(true);
            }
            members.push((key, map.next_value_seed(inner)?));
        }
        Ok(Json::Object(members))
    }
}

/// Whether a key of the same 9-bit hash came before; only then a comparison is worth it.
fn was_seen(seen: &mut [u64; 8], key: &str) -> bool {
    let hash = key.bytes().fold(0u32, |h, b| (h.rotate_left(5) ^ u32::from(b)).wrapping_mul(0x9e37_79b1));
    let (word, bit) = ((hash >> 29) as usize, (hash >> 23) & 63);
    let Some(word) = seen.get_mut(word) else { return true };
    let before = *word & (1 << bit) != 0;
    *word |= 1 << bit;
    before
}

struct Key<'de>(Cow<'de, str>);
#[derive(Clone, Copy)]
struct KeySeed<'n>(Tree<'n>);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Key<'de>;
    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Key<'de>, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = Key<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(self.0.text(text.to_owned()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        read(text.as_bytes(), |tree, _| {
            let mut out = Vec::new();
            tree.canonical(&mut out);
            String::from_utf8(out).unwrap()
        })
        .unwrap()
    }

    #[test]
    fn nested_and_dotted_keys_are_one_field_and_the_nested_one_counts() {
        read(br#"{"host.name":"dotted","host":{"name":"nested"},"a.b":{"c":1},"x.y":null}"#, |tree, _| {
            assert_eq!(tree.str_at("host.name"), Some("nested"));
            assert_eq!(tree.at("a.b.c"), Some(&Json::Int(1)));
            assert_eq!(tree.at("x.y"), None);
        })
        .unwrap();
    }

    #[test]
    fn of_a_key_given_twice_the_first_counts_and_it_is_noted() {
        read(br#"{"a":1,"a":2}"#, |tree, notes| {
            assert_eq!(tree.get("a"), Some(&Json::Int(1)));
            assert_eq!(notes.names().collect::<Vec<_>>(), ["(key twice)"]);
        })
        .unwrap();
    }

    #[test]
    fn the_canonical_form_does_not_depend_on_order_or_blanks() {
        assert_eq!(canonical(r#"{"b": [1, 2.5], "a": "x\"\u0041"}"#), canonical(r#"{"a":"x\"A","b":[1,2.5]}"#));
        assert_ne!(canonical(r#"{"a":"1"}"#), canonical(r#"{"a":1}"#));
    }

    #[test]
    fn nul_becomes_the_replacement_character() {
        read(br#"{"a":"x\u0000y"}"#, |tree, notes| {
            assert_eq!(tree.str_at("a"), Some("x\u{fffd}y"));
            assert_eq!(notes.names().next(), Some("(nul)"));
        })
        .unwrap();
    }
}
