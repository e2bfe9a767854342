//! XML as a tree: event XML in the form of the `evtx` crate's JSON, and task XML. Iterative, bounded depth.

use super::json::{DEEPEST, Json};
use quick_xml::{Reader, escape, events::Event};
use std::borrow::Cow;

/// An element with its own text.
#[derive(Debug, Default)]
pub(super) struct Element {
    /// Without its prefix.
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

impl Element {
    /// First child with this name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// First element at this path of names.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |element, name| element.child(name))
    }
}

/// Reads a document; the declaration's encoding is ignored (task XML claims UTF-16).
///
/// # Errors
/// What is wrong with it.
pub(super) fn tree(text: &str) -> Result<Element, String> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    loop {
        let event = reader.read_event().map_err(|e| e.to_string())?;
        let closed = match event {
            Event::Start(start) => {
                if open.len() >= DEEPEST {
                    return Err("nested too deep".to_owned());
                }
                open.push(element(&start)?);
                None
            }
            Event::Empty(start) => Some(element(&start)?),
            Event::End(_) => open.pop(),
            Event::Text(text) => {
                append(&mut open, &text.xml10_content());
                None
            }
            Event::CData(data) => {
                append(&mut open, &data.xml10_content());
                None
            }
            Event::GeneralRef(reference) => {
                let name: &str = &reference;
                let whole = format!("&{name};");
                append(&mut open, &escape::unescape(&whole).unwrap_or(Cow::Borrowed("\u{fffd}")));
                None
            }
            Event::Eof => return Err("ends early".to_owned()),
            _ => None,
        };
        if let Some(element) = closed {
            match open.last_mut() {
                Some(parent) => parent.children.push(element),
                None => return Ok(element),
            }
        }
    }
}

fn append(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn element(start: &quick_xml::events::BytesStart<'_>) -> Result<Element, String> {
    let mut element = Element { name: start.local_name().as_ref().to_owned(), ..Element::default() };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|e| e.to_string())?;
        let value = escape::unescape(&attribute.value).map_err(|e| e.to_string())?.into_owned();
        element.attributes.push((attribute.key.local_name().as_ref().to_owned(), value));
    }
    Ok(element)
}

/// Event XML as `{"Event": {"System": .., "EventData": ..}}`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn event(text: &str) -> Result<Json<'static>, String> {
    let root = tree(text)?;
    if root.name != "Event" {
        return Err(format!("expected Event, found {}", root.name));
    }
    let members = root.children.into_iter().map(|child| match child.name.as_str() {
        "EventData" => (Cow::Borrowed("EventData"), event_data(child)),
        _ => (Cow::Owned(child.name.clone()), plain(child)),
    });
    Ok(Json::Object(vec![(Cow::Borrowed("Event"), Json::Object(members.collect()))]))
}

/// `<Data Name="x">y</Data>` by name; nameless ones as `Data.#text`.
fn event_data(element: Element) -> Json<'static> {
    let (mut named, mut nameless) = (Vec::new(), Vec::new());
    for data in element.children {
        let name = data.attributes.into_iter().find(|(key, _)| key == "Name").map(|(_, name)| name);
        let value = Json::Str(Cow::Owned(data.text));
        match name {
            Some(name) => named.push((Cow::Owned(name), value)),
            None if data.name == "Data" => nameless.push(value),
            None => named.push((Cow::Owned(data.name), value)),
        }
    }
    if !nameless.is_empty() {
        let texts = Json::Object(vec![(Cow::Borrowed("#text"), Json::Array(nameless))]);
        named.push((Cow::Borrowed("Data"), texts));
    }
    Json::Object(named)
}

/// Text alone, or attributes, text and children as members.
fn plain(element: Element) -> Json<'static> {
    let text = Json::Str(Cow::Owned(element.text));
    if element.attributes.is_empty() && element.children.is_empty() {
        return text;
    }
    let attributes =
        element.attributes.into_iter().map(|(key, value)| (Cow::Owned(key), Json::Str(Cow::Owned(value)))).collect();
    let mut members = vec![(Cow::Borrowed("#attributes"), Json::Object(attributes)), (Cow::Borrowed("#text"), text)];
    members.extend(element.children.into_iter().map(|child| (Cow::Owned(child.name.clone()), plain(child))));
    Json::Object(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_xml_reads_like_the_evtx_crates_json() {
        let xml = "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System><Provider Name='P'/><EventID Qualifiers='16384'>7045</EventID>\
                   </System><EventData><Data Name='A'>x &gt; y &amp;amp; &#65;</Data><Data>one</Data><Data>two</Data></EventData></Event>";
        let tree = event(xml).unwrap();
        assert_eq!(tree.str_at("Event.System.Provider.#attributes.Name"), Some("P"));
        assert_eq!(tree.str_at("Event.System.EventID.#text"), Some("7045"));
        assert_eq!(tree.str_at("Event.EventData.A"), Some("x > y &amp; A"));
        assert_eq!(tree.at("Event.EventData.Data.#text").map(|t| t.elements().len()), Some(2));
    }

    #[test]
    fn broken_or_deep_xml_is_an_error_and_no_overflow() {
        for xml in ["<Event>", "<Event><a></Event>", "nothing", "<Other/>"] {
            assert!(event(xml).is_err(), "{xml}");
        }
        assert!(tree(&"<a>".repeat(100_000)).is_err());
    }
}
