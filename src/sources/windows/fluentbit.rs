//! Fluent Bit `winevtlog`: `EventData` as a map, or `StringInserts` without names.
//!
//! Names come from `positional_names.tsv` by (provider, event id, number of values); the version does not tell layouts
//! apart. An unknown number of values is kept raw only.

use super::{Record, event_id, logging_pid, record_id, text_of};
use crate::model::event::Reject;
use crate::sources::{
    Events,
    draft::Decoder,
    json::Json,
    scalar,
    shape::Context,
    values::{Layer, Values},
};
use std::{borrow::Cow, collections::HashMap, sync::LazyLock};

type Layouts = HashMap<(&'static str, u32, usize), Vec<&'static str>>;

/// Layouts with their names in the order of the event XML; of several versions with one count the one seen most.
static LAYOUTS: LazyLock<Layouts> = LazyLock::new(|| {
    let mut best: HashMap<(&str, u32, usize), (u64, Vec<&str>)> = HashMap::new();
    for line in include_str!("positional_names.tsv").lines().skip(1) {
        let mut columns = line.split('\t');
        let (Some(provider), Some(id), _, Some(count), Some(seen), Some(names)) =
            (columns.next(), columns.next(), columns.next(), columns.next(), columns.next(), columns.next())
        else {
            continue;
        };
        let (Ok(id), Ok(count), seen) = (id.parse(), count.parse(), seen.parse().unwrap_or(0)) else { continue };
        let layout = best.entry((provider, id, count)).or_default();
        if layout.1.is_empty() || seen > layout.0 {
            *layout = (seen, names.split(',').collect());
        }
    }
    best.into_iter().map(|(key, (_, names))| (key, names)).collect()
});

pub(in crate::sources) fn decode(
    decoder: &Decoder<'_>,
    doc: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let provider = text_of(doc.get("ProviderName")).unwrap_or_default();
    let event_id = event_id(doc.get("EventID"));
    let mut values = Values::default();
    if let Some(Json::Object(members)) = doc.get("EventData") {
        values.layers.push(Layer::Borrowed(members));
    } else {
        let inserts = doc.get("StringInserts").map(Json::elements).unwrap_or_default();
        match LAYOUTS.get(&(provider.as_ref(), event_id, inserts.len())) {
            Some(names) => {
                let pairs = names.iter().zip(inserts).map(|(name, value)| (Cow::Borrowed(*name), value.clone()));
                values.layers.push(Layer::Owned(pairs.collect()));
            }
            None if provider == "PowerShell" => values.texts.extend(inserts.iter().filter_map(scalar::text)),
            // Which value is which cannot be told.
            None if !inserts.is_empty() => return decoder.other(doc, context),
            None => {}
        }
    }
    let record = Record {
        created: ["TimeCreated", "date"].iter().find_map(|name| scalar::time(doc.get(name)?)),
        computer: text_of(doc.get("Computer")),
        channel: text_of(doc.get("Channel")).unwrap_or_default(),
        event_id,
        number: record_id(doc.get("EventRecordID")),
        logging_pid: logging_pid(doc.get("ProcessID")),
        logging_user: doc.str_at("UserID").and_then(scalar::account),
        provider,
        values,
        ..Record::default()
    };
    record.decode(decoder, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 15, case 33.
    #[test]
    fn a_layout_is_known_by_its_number_of_values() {
        let provider = "Microsoft-Windows-Security-Auditing";
        assert!(
            LAYOUTS
                .get(&(provider, 4688, 15))
                .is_some_and(|names| names[4] == "NewProcessId" && names[8] == "CommandLine")
        );
        assert!(LAYOUTS.contains_key(&(provider, 4688, 13)));
        assert!(!LAYOUTS.contains_key(&(provider, 4688, 14)));
        for (key, names) in LAYOUTS.iter() {
            assert_eq!(key.2, names.len(), "{key:?}");
        }
    }
}
