//! The text of a queue filter: `image:*\svchost.exe -host:build-* monero`. Fields, quotes, `*`, a leading `-`, `a,b` for or; words
//! without a field search everything. Source: interface design, section 6.6.

use sqlx::{Postgres, QueryBuilder};

/// Fields by name, and the SQL that reads them. Lists are searched as text.
const FIELDS: &[(&str, &str)] = &[
    ("image", "d.content->'process'->>'image'"),
    ("command", "d.content->'process'->>'command_line'"),
    ("user", "d.content->'process'->>'user'"),
    ("hash", "d.content->'process'->>'sha256'"),
    ("signer", "d.content->'process'->>'signer'"),
    ("original", "d.content->'process'->>'original_file_name'"),
    ("parent", "d.content->'process'->>'parent_image'"),
    ("host", "h.name"),
    ("tag", "array_to_string(h.tags, ' ')"),
    ("role", "h.role"),
    ("class", "h.class"),
    ("title", "d.title"),
    ("campaign", "d.campaign"),
    ("note", "d.note"),
    ("destination", "jsonb_path_query_array(d.content, '$.destinations[*].*')::text"),
    ("code", "jsonb_path_query_array(d.content, '$.evidence[*].code')::text"),
];

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    /// Index in [`FIELDS`]; none = anywhere.
    field: Option<usize>,
    /// Any of them.
    values: Vec<String>,
    negated: bool,
}

/// A parsed text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms(Vec<Term>);

/// A field that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no field `{name}`: there are {}; put text with a colon in quotes", FIELDS.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", "))]
pub struct UnknownField {
    name: String,
}

/// Words of a text; quotes keep spaces and take the meaning of colons away.
fn words(text: &str) -> Vec<(String, Option<usize>)> {
    let (mut out, mut word, mut quoted, mut colon, mut any) = (Vec::new(), String::new(), false, None, false);
    for c in text.chars() {
        match c {
            '"' => (quoted, any) = (!quoted, true),
            c if c.is_whitespace() && !quoted => {
                if any {
                    out.push((std::mem::take(&mut word), colon.take()));
                }
                any = false;
            }
            c => {
                if c == ':' && !quoted && colon.is_none() {
                    colon = Some(word.len());
                }
                word.push(c);
                any = true;
            }
        }
    }
    if any {
        out.push((word, colon));
    }
    out
}

impl std::str::FromStr for Terms {
    type Err = UnknownField;

    fn from_str(text: &str) -> Result<Self, UnknownField> {
        let mut terms = Vec::new();
        for (word, colon) in words(text) {
            let (negated, word, colon) = match word.strip_prefix('-') {
                Some(rest) if !rest.is_empty() => (true, rest, colon.map(|at| at - 1)),
                _ => (false, word.as_str(), colon),
            };
            let named = colon.and_then(|at| word.get(..at).zip(word.get(at + 1..)));
            // `C:\x`, `https://x` and `pool.example:3333` are text, not fields
            let is_name = |name: &str| name.len() > 1 && name.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
            let (field, value) = match named {
                Some((name, value)) if is_name(name) && !value.starts_with("//") => {
                    let known = FIELDS.iter().position(|(n, _)| n.eq_ignore_ascii_case(name));
                    (Some(known.ok_or_else(|| UnknownField { name: name.to_owned() })?), value)
                }
                _ => (None, word),
            };
            let values = match field {
                Some(_) => value.split(',').filter(|v| !v.is_empty()).map(str::to_owned).collect(),
                None => vec![value.to_owned()],
            };
            terms.push(Term { field, values, negated });
        }
        Ok(Self(terms.into_iter().filter(|t| t.values.iter().any(|v| !v.is_empty())).collect()))
    }
}

/// A `like` pattern: `*` is any text; without one, the value may stand anywhere.
fn pattern(value: &str) -> String {
    let escaped = value.to_lowercase().replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_");
    if value.contains('*') { escaped.replace('*', "%") } else { format!("%{escaped}%") }
}

impl Terms {
    /// Adds `and ..` per term to a query on `detection d join host h`.
    pub(super) fn push(&self, sql: &mut QueryBuilder<Postgres>) {
        for term in &self.0 {
            sql.push(if term.negated { " and not coalesce(" } else { " and (" });
            for (n, value) in term.values.iter().enumerate() {
                if n > 0 {
                    sql.push(" or ");
                }
                match term.field.and_then(|index| FIELDS.get(index)) {
                    Some((_, expression)) => {
                        // lists are JSON: their ends are not the ends of a value
                        let list = expression.ends_with("::text");
                        let wanted = if list { json_text(value.trim_matches('*')) } else { value.clone() };
                        sql.push(format!("lower({expression}) like ")).push_bind(pattern(&wanted));
                    }
                    None => {
                        sql.push("strpos(lower(d.content::text), lower(").push_bind(json_text(value)).push(")) > 0");
                        sql.push(" or strpos(h.name, lower(").push_bind(value.clone()).push(")) > 0");
                    }
                }
            }
            sql.push(if term.negated { ", false)" } else { ")" });
        }
    }
}

/// Text as it is written inside JSON, where `\` is doubled.
fn json_text(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(field: Option<&str>, values: &[&str], negated: bool) -> Term {
        let field = field.map(|name| FIELDS.iter().position(|(n, _)| *n == name).unwrap());
        Term { field, values: values.iter().map(|v| (*v).to_owned()).collect(), negated }
    }

    #[test]
    fn fields_quotes_and_plain_text_are_told_apart() {
        for (text, expected) in [
            (r"image:*\svchost.exe", vec![term(Some("image"), &[r"*\svchost.exe"], false)]),
            (
                "-host:build-*,lab-* monero",
                vec![term(Some("host"), &["build-*", "lab-*"], true), term(None, &["monero"], false)],
            ),
            (
                r"C:\ProgramData pool.example:3333 https://x",
                vec![
                    term(None, &[r"C:\ProgramData"], false),
                    term(None, &["pool.example:3333"], false),
                    term(None, &["https://x"], false),
                ],
            ),
            (
                r#""a: b" title:"two words" -"#,
                vec![
                    term(None, &["a: b"], false),
                    term(Some("title"), &["two words"], false),
                    term(None, &["-"], false),
                ],
            ),
            ("  ", vec![]),
            ("image:", vec![]),
        ] {
            assert_eq!(text.parse::<Terms>().unwrap().0, expected, "{text}");
        }
        let refused = "colour:red".parse::<Terms>().unwrap_err().to_string();
        assert!(refused.starts_with("no field `colour`: there are image, command"), "{refused}");
    }

    #[test]
    fn wildcards_of_sql_are_text() {
        assert_eq!(pattern("100%_a"), r"%100\%\_a%");
        assert_eq!(pattern(r"*\X.exe"), r"%\\x.exe");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
            let _read = text.parse::<Terms>();
        }
    }
}
