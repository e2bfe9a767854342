//! Files that leave the program: CSV for spreadsheets, JSON lines for programs (trust design, section 10).

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use std::borrow::Cow;

/// Form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    /// Comma-separated, every cell quoted, formulas made text.
    #[default]
    Csv,
    /// One JSON object per line; the exact form.
    Jsonl,
}

impl Form {
    /// End of the file's name.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Jsonl => "application/x-ndjson",
        }
    }
}

/// A cell as spreadsheets show it and never run it. Source of the first characters: trust design, section 10.
fn cell(text: &str) -> String {
    let first = text.chars().next();
    let runs = first.is_some_and(|c| matches!(c, '=' | '+' | '-' | '@' | '\t' | '\r' | '＝' | '＋' | '－' | '＠'));
    format!("\"{}{}\"", if runs { "'" } else { "" }, text.replace('"', "\"\""))
}

/// A line of CSV.
pub(crate) fn line<'a>(cells: impl IntoIterator<Item = Cow<'a, str>>) -> String {
    let mut line = cells.into_iter().map(|c| cell(&c)).collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

/// Rows of one shape as a file: the keys of the objects are the columns, in the order given.
pub(crate) fn rows(form: Form, columns: &[&str], rows: &[serde_json::Value], header: bool) -> String {
    let mut text = String::new();
    match form {
        Form::Csv => {
            if header {
                text.push_str(&line(columns.iter().map(|c| Cow::Borrowed(*c))));
            }
            for row in rows {
                text.push_str(&line(columns.iter().map(|c| match &row[*c] {
                    serde_json::Value::Null => Cow::Borrowed(""),
                    serde_json::Value::String(s) => Cow::Borrowed(s.as_str()),
                    other => Cow::Owned(other.to_string()),
                })));
            }
        }
        Form::Jsonl => {
            for row in rows {
                text.push_str(&row.to_string());
                text.push('\n');
            }
        }
    }
    text
}

/// A file to keep.
pub(crate) fn attachment(name: &str, media_type: &str, body: impl Into<Body>) -> Response {
    let mut response = body.into().into_response();
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' }).collect();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{plain}")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    if let Ok(value) = HeaderValue::from_str(media_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    response
}

/// A file of this form.
pub(crate) fn file(form: Form, name: &str, body: impl Into<Body>) -> Response {
    attachment(&format!("{name}.{}", form.extension()), form.media_type(), body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_cell_is_a_formula_and_every_cell_is_quoted() {
        for (text, shown) in [
            ("=1+1", "\"'=1+1\""),
            ("+x", "\"'+x\""),
            ("-x", "\"'-x\""),
            ("@x", "\"'@x\""),
            ("\tx", "\"'\tx\""),
            ("＝x", "\"'＝x\""),
            ("a\"b\nc", "\"a\"\"b\nc\""),
            ("a=1", "\"a=1\""),
            ("", "\"\""),
        ] {
            assert_eq!(cell(text), shown);
        }
        let table = [json!({"a": "=x", "b": 5, "c": null})];
        assert_eq!(rows(Form::Csv, &["a", "b", "c"], &table, true), "\"a\",\"b\",\"c\"\r\n\"'=x\",\"5\",\"\"\r\n");
        assert_eq!(rows(Form::Jsonl, &["a"], &table, true), "{\"a\":\"=x\",\"b\":5,\"c\":null}\n");
    }
}
