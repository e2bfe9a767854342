//! Template filters: one way to show event text, times, counts and durations.
#![expect(
    clippy::inline_always,
    missing_docs,
    reason = "the shape askama's filter_fn expands to"
)]

use chrono::{DateTime, TimeDelta, Utc};
use std::borrow::Cow;

/// Characters that change how text looks without being seen: controls, bidi marks, zero-width, invisible operators.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Event text with every hidden character written out as `\u{202e}`. Every event string goes through here.
pub fn reveal(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hidden(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// `2026-11-21 02:13:07Z`.
pub fn utc_text(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// `4 h 12 min`, `3 d 2 h`, `45 s`.
pub fn span_text(span: TimeDelta) -> String {
    let seconds = span.num_seconds().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 if seconds % 3_600 < 60 => format!("{} h", seconds / 3_600),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ if seconds % 86_400 < 3_600 => format!("{} d", seconds / 86_400),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// `1.2 MB`, decimal units.
pub fn bytes_text(bytes: i64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value.abs() < 1_000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1_000.0;
    }
    format!("{value:.1} TB")
}

/// Event text: see [`reveal`].
#[askama::filter_fn]
pub fn event(text: impl AsRef<str>, _: &dyn askama::Values) -> askama::Result<String> {
    Ok(reveal(text.as_ref()).into_owned())
}

/// Last part of a path, as event text.
#[askama::filter_fn]
pub fn base(path: impl AsRef<str>, _: &dyn askama::Values) -> askama::Result<String> {
    Ok(reveal(crate::model::group::base_name(path.as_ref())).into_owned())
}

/// Machine form of a time, for `datetime`.
#[askama::filter_fn]
pub fn iso(at: &DateTime<Utc>, _: &dyn askama::Values) -> askama::Result<String> {
    Ok(at.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// See [`utc_text`].
#[askama::filter_fn]
pub fn utc(at: &DateTime<Utc>, _: &dyn askama::Values) -> askama::Result<String> {
    Ok(utc_text(*at))
}

/// Minute as the fields of a page take it: `2026-11-21T02:13Z`.
#[askama::filter_fn]
pub fn minute(at: &DateTime<Utc>, _: &dyn askama::Values) -> askama::Result<String> {
    Ok(at.format("%Y-%m-%dT%H:%MZ").to_string())
}

/// Time of day.
#[askama::filter_fn]
pub fn hm(at: &DateTime<Utc>, _: &dyn askama::Values) -> askama::Result<String> {
    Ok(at.format("%H:%M").to_string())
}

/// Day.
#[askama::filter_fn]
pub fn day(at: &DateTime<Utc>, _: &dyn askama::Values) -> askama::Result<String> {
    Ok(at.format("%Y-%m-%d").to_string())
}

/// See [`span_text`].
#[askama::filter_fn]
pub fn span(span: &TimeDelta, _: &dyn askama::Values) -> askama::Result<String> {
    Ok(span_text(*span))
}

/// See [`bytes_text`].
#[askama::filter_fn]
pub fn size(bytes: &i64, _: &dyn askama::Values) -> askama::Result<String> {
    Ok(bytes_text(*bytes))
}

/// A machine word as people write it: `scheduled_task` is `scheduled task`.
#[askama::filter_fn]
pub fn words(text: impl AsRef<str>, _: &dyn askama::Values) -> askama::Result<String> {
    Ok(reveal(&text.as_ref().replace('_', " ")).into_owned())
}

/// Points and scores: no decimals where there are none.
#[askama::filter_fn]
pub fn points(value: &f64, _: &dyn askama::Values) -> askama::Result<String> {
    Ok(if value.fract().abs() < 0.05 { format!("{value:.0}") } else { format!("{value:.1}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_written_out() {
        assert_eq!(reveal("a\u{202e}exe.txt\0\u{200b}\n"), "a\\u{202e}exe.txt\\u{0}\\u{200b}\\u{a}");
        assert_eq!(reveal("plain é 漢"), "plain é 漢");
    }

    #[test]
    fn spans_and_sizes_are_short() {
        assert_eq!(span_text(TimeDelta::minutes(252)), "4 h 12 min");
        assert_eq!(span_text(TimeDelta::hours(74)), "3 d 2 h");
        assert_eq!(span_text(TimeDelta::seconds(-3)), "0 s");
        assert_eq!(bytes_text(999), "999 B");
        assert_eq!(bytes_text(1_234_567), "1.2 MB");
    }
}
