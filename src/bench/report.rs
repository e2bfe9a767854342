//! The table that the benchmark prints and the JSON it keeps.

use serde::Serialize;
use serde_json::Value;
use std::fmt::{self, Write as _};

/// On which side of its bar a figure should lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bar {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Bar {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bar) => value >= bar,
            Self::AtMost(bar) => value <= bar,
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// Number of the performance design (`P1`).
    pub id: &'static str,
    /// What was measured.
    pub what: String,
    /// Its unit.
    pub unit: &'static str,
    /// Median where several were measured.
    pub value: f64,
    /// The limit measured in the same run.
    pub limit: Option<f64>,
    /// What it should be; absent = for information.
    pub bar: Option<Bar>,
    /// How much of the limit it should reach.
    pub ratio_bar: Option<f64>,
    /// What to know about it.
    pub note: String,
}

impl Figure {
    pub(super) fn new(id: &'static str, what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { id, what: what.into(), unit, value, limit: None, bar: None, ratio_bar: None, note: String::new() }
    }

    pub(super) fn bar(self, bar: Bar) -> Self {
        Self { bar: Some(bar), ..self }
    }

    pub(super) fn against(self, limit: f64, ratio_bar: f64) -> Self {
        Self { limit: Some(limit), ratio_bar: Some(ratio_bar), ..self }
    }

    pub(super) fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// Part of the limit that was reached.
    pub fn ratio(&self) -> Option<f64> {
        self.limit.map(|limit| self.value / limit)
    }

    /// Whether bar and ratio are met; absent for information only.
    pub fn met(&self) -> Option<bool> {
        let bar = self.bar.map(|bar| bar.met(self.value));
        let ratio = self.ratio().zip(self.ratio_bar).map(|(ratio, bar)| ratio >= bar);
        bar.into_iter().chain(ratio).reduce(|a, b| a && b)
    }
}

/// Everything one run found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// When it began, RFC 3339.
    pub at: String,
    /// Whether it was the short form.
    pub quick: bool,
    /// Machine and database settings.
    pub machine: Value,
    /// Part of all cores that sending took while P1 was measured, 0 to 1.
    pub sender_cpu: f64,
    /// The table.
    pub figures: Vec<Figure>,
}

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => {
            let digits = format!("{value:.0}");
            let mut out = String::new();
            for (n, digit) in digits.chars().enumerate() {
                if n > 0 && (digits.len() - n) % 3 == 0 && !out.ends_with('-') {
                    out.push(',');
                }
                out.push(digit);
            }
            out
        }
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |key: &str| self.machine[key].as_str().map_or_else(|| self.machine[key].to_string(), str::to_owned);
        writeln!(f, "{} · {} cores · {}{}", text("processor"), text("cores"), text("memory"), if self.quick { " · quick" } else { "" })?;
        if self.machine["optimised"] == Value::Bool(false) {
            writeln!(f, "NOT OPTIMISED: a debug build says nothing about speed")?;
        }
        if let Value::Object(settings) = &self.machine["postgresql"] {
            let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
            writeln!(f, "PostgreSQL: {}", settings.join(" · "))?;
        }
        writeln!(f, "sender: {:.0} % of all cores while P1 was measured\n", self.sender_cpu * 100.0)?;
        let header = ["", "figure", "value", "unit", "limit", "ratio", "bar", "met", "note"].map(str::to_owned);
        let rows: Vec<[String; 9]> = std::iter::once(header).chain(self.figures.iter().map(Figure::cells)).collect();
        let widths: Vec<usize> = (0..9).map(|n| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or(0)).collect();
        for row in rows {
            let mut line = String::new();
            for (n, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let right = matches!(n, 2 | 4 | 5);
                if right {
                    write!(line, "{cell:>width$}  ")?;
                } else {
                    write!(line, "{cell:<width$}  ")?;
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Figure {
    fn cells(&self) -> [String; 9] {
        let mut bars: Vec<String> = Vec::new();
        bars.extend(self.bar.map(|bar| match bar {
            Bar::AtLeast(bar) => format!("≥ {}", number(bar)),
            Bar::AtMost(bar) => format!("≤ {}", number(bar)),
        }));
        bars.extend(self.ratio_bar.map(|bar| format!("ratio ≥ {bar}")));
        let met = self.met().map_or("", |met| if met { "yes" } else { "NO" });
        [
            self.id.to_owned(), self.what.clone(), number(self.value), self.unit.to_owned(), self.limit.map(number).unwrap_or_default(),
            self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default(), bars.join(", "), met.to_owned(), self.note.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_met_when_bar_and_ratio_are() {
        let figure = |value| Figure::new("P1", "ingest", value, "events/s").bar(Bar::AtLeast(50_000.0)).against(100_000.0, 0.5);
        assert_eq!(figure(60_000.0).met(), Some(true));
        assert_eq!(figure(49_000.0).met(), Some(false));
        assert_eq!(Figure::new("", "x", 1.0, "s").met(), None);
        assert_eq!(Figure::new("P3", "p50", 30.0, "ms").bar(Bar::AtMost(25.0)).met(), Some(false));
    }

    #[test]
    fn the_table_is_aligned() {
        let figures = vec![
            Figure::new("P1", "ingest", 61_234.0, "events/s").against(120_000.0, 0.5).bar(Bar::AtLeast(50_000.0)),
            Figure::new("P3", "acknowledgement, p50", 12.345, "ms").bar(Bar::AtMost(25.0)),
        ];
        let machine = serde_json::json!({ "processor": "x", "cores": 2, "memory": "24 GiB", "optimised": true, "postgresql": { "fsync": "on" } });
        let text = Report { at: String::new(), quick: true, machine, sender_cpu: 0.1, figures }.to_string();
        let rows: Vec<&str> = text.lines().skip_while(|l| !l.contains("figure")).collect();
        let column = |row: &str, word: &str| row.chars().collect::<String>().find(word).map(|at| row[..at].chars().count());
        assert_eq!(column(rows[0], "unit"), column(rows[1], "events/s"));
        assert_eq!(column(rows[1], "events/s"), column(rows[2], "ms"));
        assert!(text.contains("61,234") && text.contains("0.51") && text.contains("≤ 25.0"));
    }
}
