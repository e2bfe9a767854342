//! The language of hunts: `field:value`, quotes, `*`, a leading `-`, `a,b` for or, `>` and `<` on numbers, bare words.

use crate::{
    http::error::{Error, Result},
    model::fact::Fact,
    store::hunt::{FIELDS, Field, Kind, Term, Test},
};

/// Most terms of a question.
const MOST: usize = 30;

/// A word as typed.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    not: bool,
    field: Option<String>,
    value: String,
    quoted: bool,
}

fn is_field(name: &str) -> bool {
    let name = name.to_lowercase();
    matches!(name.as_str(), "host" | "event") || Field::find(&name).is_some()
}

/// Cuts a question into words; `""` inside quotes is a quote.
fn words(text: &str) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (not, after) = match rest.strip_prefix('-') {
            Some(after) if !after.starts_with(char::is_whitespace) && !after.is_empty() => (true, after),
            _ => (false, rest),
        };
        // Names of fields have two letters at least: `C:\` is a path.
        let name: usize = after.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        let (field, after) = match after.split_at_checked(name) {
            Some((field, rest)) if name > 1 && rest.starts_with(':') && (is_field(field) || !rest.starts_with("://")) => {
                (Some(field.to_lowercase()), rest.get(1..).unwrap_or_default())
            }
            _ => (None, after),
        };
        let (value, quoted, after) = if let Some(inner) = after.strip_prefix('"') {
            let mut value = String::new();
            let mut inner = inner;
            loop {
                let Some((part, after)) = inner.split_once('"') else {
                    return Err(Error::Malformed(format!("a quote is not closed: `\"{inner}`")));
                };
                value.push_str(part);
                match after.strip_prefix('"') {
                    Some(more) => {
                        value.push('"');
                        inner = more;
                    }
                    None => break (value, true, after),
                }
            }
        } else {
            let end = after.find(char::is_whitespace).unwrap_or(after.len());
            let (value, after) = after.split_at(end);
            (value.to_owned(), false, after)
        };
        if field.is_some() && value.is_empty() {
            return Err(Error::Malformed(format!("`{}:` wants a value", field.unwrap_or_default())));
        }
        if !value.is_empty() {
            words.push(Word { not, field, value, quoted });
        }
        rest = after.trim_start();
    }
    Ok(words)
}

/// Names of fields that begin alike, or all of them.
fn nearest(name: &str) -> String {
    let all: Vec<&str> = ["host", "event"].into_iter().chain(FIELDS.iter().map(|f| f.name)).collect();
    let alike: Vec<&str> = all.iter().copied().filter(|f| f.chars().next() == name.chars().next() || f.contains(name) || name.contains(f)).collect();
    (if alike.is_empty() { all } else { alike }).join(", ")
}

fn term(word: Word) -> Result<Term> {
    let Word { not, field, value, quoted } = word;
    let Some(name) = field else {
        return Ok(Term { field: "any", not, test: Test::Like(vec![value]) });
    };
    let texts = |value: &str| -> Vec<String> {
        if quoted { vec![value.to_owned()] } else { value.split(',').filter(|v| !v.is_empty()).map(str::to_owned).collect() }
    };
    match name.as_str() {
        "host" => return Ok(Term { field: "host", not, test: Test::Like(texts(&value)) }),
        "event" => {
            let names = texts(&value);
            let known = |n: &String| Fact::TABLES.iter().any(|(t, _)| crate::model::exceptions::wildcard(n, t));
            if let Some(unknown) = names.iter().find(|n| !known(n)) {
                let all: Vec<&str> = Fact::TABLES.iter().map(|(t, _)| *t).collect();
                return Err(Error::Malformed(format!("no kind of event is called `{unknown}`: {}", all.join(", "))));
            }
            return Ok(Term { field: "event", not, test: Test::Like(names) });
        }
        _ => {}
    }
    let Some(found) = Field::find(&name) else {
        return Err(Error::Malformed(format!("there is no field `{name}`; perhaps {}", nearest(&name))));
    };
    let number = |text: &str| {
        let read = text.trim_end_matches('%').parse::<f64>().ok().filter(|n| n.is_finite());
        read.ok_or_else(|| Error::Malformed(format!("`{name}` is a number: `{text}` is none")))
    };
    let test = match (found.kind, value.chars().next()) {
        (Kind::Number, Some('>')) => Test::Above(number(value.get(1..).unwrap_or_default())?),
        (Kind::Number, Some('<')) => Test::Below(number(value.get(1..).unwrap_or_default())?),
        (Kind::Number, _) => Test::Equal(texts(&value).iter().map(|t| number(t)).collect::<Result<_>>()?),
        (Kind::Text | Kind::Path, _) => Test::Like(texts(&value)),
    };
    Ok(Term { field: found.name, not, test })
}

/// Reads a question.
///
/// # Errors
/// 400 naming what is not understood and what would be.
pub(super) fn parse(text: &str) -> Result<Vec<Term>> {
    let words = words(text)?;
    if words.len() > MOST {
        return Err(Error::Malformed(format!("{} terms: at most {MOST}", words.len())));
    }
    words.into_iter().map(term).collect()
}

/// `field:value` as it is typed.
pub(super) fn written(field: &str, value: &str) -> String {
    let plain = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || matches!(c, '"' | ',')) && !value.starts_with(['>', '<']);
    if plain { format!("{field}:{value}") } else { format!("{field}:\"{}\"", value.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn like(field: &'static str, not: bool, texts: &[&str]) -> Term {
        Term { field, not, test: Test::Like(texts.iter().map(|t| (*t).to_owned()).collect()) }
    }

    #[test]
    fn the_language_of_hunts() {
        let found = parse(r#"event:process_start image:*\svchost.exe -path:*\System32\* cpu_share:>20 host:a,b user:"NT AUTHORITY\SYSTEM" C:\x.exe -stratum+tcp://pool port:3333,4444"#).unwrap();
        assert_eq!(
            found,
            [
                like("event", false, &["process_start"]),
                like("image", false, &[r"*\svchost.exe"]),
                like("path", true, &[r"*\System32\*"]),
                Term { field: "cpu_share", not: false, test: Test::Above(20.0) },
                like("host", false, &["a", "b"]),
                like("user", false, &[r"NT AUTHORITY\SYSTEM"]),
                like("any", false, &[r"C:\x.exe"]),
                like("any", true, &["stratum+tcp://pool"]),
                Term { field: "port", not: false, test: Test::Equal(vec![3333.0, 4444.0]) },
            ]
        );
        for (text, said) in [
            ("imag:x", "there is no field `imag`; perhaps image, ip"),
            ("port:x", "`port` is a number"),
            ("event:nothing", "no kind of event is called `nothing`"),
            ("user:\"x", "a quote is not closed"),
            ("host:", "`host:` wants a value"),
        ] {
            assert!(parse(text).unwrap_err().to_string().contains(said), "{text}: {}", parse(text).unwrap_err());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in "[^\0]{1,40}") {
            prop_assume!(!value.trim().is_empty());
            let read = parse(&written("user", &value)).unwrap();
            prop_assert_eq!(read, vec![like("user", false, &[value.as_str()])]);
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _read = parse(&text);
        }
    }
}
