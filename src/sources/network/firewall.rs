//! Firewall logs as syslog lines: `FortiGate` (`key=value`; traffic, utm) and PAN-OS (comma-separated; TRAFFIC, THREAT).
//!
//! Both write a session when it ends. Times without a zone are placed by the token, else UTC.

use super::flow::{self, Flow};
use crate::model::{
    event::Reject,
    fact::{OtherEvent, SecurityAlert},
};
use crate::sources::{
    Events,
    draft::{Decoder, Draft},
    scalar::{self, Stamp},
    shape::Context,
};
use smallvec::{SmallVec, smallvec};
use std::borrow::Cow;

/// Begins of the words for "not let through".
const BLOCKED: &[&str] = &["deny", "denied", "drop", "block", "reset", "sinkhole"];

/// A line of a firewall.
#[derive(Debug)]
pub(in crate::sources) struct Entry<'t> {
    line: &'t str,
    product: &'static str,
    /// Log type, for what is only kept.
    kind: String,
    stamp: Option<Stamp>,
    /// What it shows of a connection; none for the product's own events.
    session: Option<Session<'t>>,
}

#[derive(Debug)]
struct Session<'t> {
    flow: Flow<'t>,
    start: Option<Stamp>,
    seconds: Option<f64>,
    alert: Option<SecurityAlert>,
}

/// Reads a line of either product.
pub(in crate::sources) fn line(text: &str) -> Option<Entry<'_>> {
    let text = text.trim();
    fortigate(text).or_else(|| panos(text))
}

impl Entry<'_> {
    /// The connection of the internal end, and what was found in it.
    pub(in crate::sources) fn decode(self, decoder: &Decoder<'_>, context: &Context<'_>) -> Result<Events, Reject> {
        let line = Some(self.line.as_bytes().to_vec());
        let time = self.stamp.ok_or(Reject::NoTime).and_then(|stamp| flow::placed(decoder, stamp));
        let Some(Session { flow, start, seconds, alert }) = self.session else {
            let (provider, channel) = (Some(self.product.to_owned()), Some(self.kind));
            let facts = smallvec![OtherEvent { provider, channel, code: None }.into()];
            return decoder.finish(Draft {
                time,
                name: context.host.map(str::to_owned),
                content: line,
                facts,
                ..Draft::default()
            });
        };
        let (at, quality) = time?;
        // Without a start of its own a session ended when it was written.
        let started_at = match (start, seconds) {
            (Some(start), _) => flow::placed(decoder, start).ok().map(|(start, _)| start),
            (None, Some(seconds)) => flow::before(at, seconds),
            (None, None) => Some(at),
        };
        let ended_at = started_at.zip(seconds).and_then(|(start, seconds)| flow::after(start, seconds));
        let flow = Flow { started_at, ended_at, ..flow };
        let internal = flow.internal();
        let mut facts: SmallVec<_> = smallvec![flow.connection().into()];
        facts.extend(alert.map(Into::into));
        decoder.finish(Draft {
            time: Ok((started_at.unwrap_or(at), quality)),
            internal,
            content: line,
            facts,
            ..Draft::default()
        })
    }
}

fn allowed(action: &str) -> bool {
    !BLOCKED.iter().any(|word| action.starts_with(word))
}

/// What the firewall recognised; words for mining under one name.
fn application(names: &[&str]) -> Option<String> {
    if names.iter().any(|name| flow::means_mining(name)) {
        return Some("stratum".to_owned());
    }
    flow::application(names.first()?).filter(|name| !matches!(name.as_str(), "incomplete" | "not-applicable"))
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok().filter(|n| *n >= 0)
}

fn port(text: &str) -> Option<i64> {
    text.parse::<u16>().ok().map(i64::from)
}

/// `key=value key="value with blanks"`, after the head that syslog puts before it.
fn pairs(text: &str) -> Option<Vec<(&str, &str)>> {
    let begins = |at: &usize| text.get(..*at).is_some_and(|head| head.is_empty() || head.ends_with([' ', '>']));
    let (start, _) = text.match_indices("date=").find(|(at, _)| begins(at))?;
    let mut rest = text.get(start..)?;
    let mut pairs = Vec::with_capacity(64);
    while let Some((key, after)) = rest.trim_start().split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        pairs.push((key, value));
        rest = next;
    }
    Some(pairs)
}

fn fortigate(text: &str) -> Option<Entry<'_>> {
    let pairs = pairs(text)?;
    let get = |name: &str| {
        let value = pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        value.filter(|value| !scalar::is_null(value))
    };
    let (kind, _) = get("type").zip(get("logid"))?;
    let stamp = get("date")
        .zip(get("time"))
        .and_then(|(date, time)| scalar::time_text(&format!("{date} {time} {}", get("tz").unwrap_or_default())));
    let address = |name: &str| get(name).and_then(scalar::ip_text);
    let traffic = kind == "traffic";
    let session = (traffic || kind == "utm").then(|| address("srcip").zip(address("dstip"))).flatten().map(|(a, b)| {
        let action = get("action").unwrap_or_default();
        let found = get("virus").or_else(|| get("attack"));
        let names: SmallVec<[&str; 2]> = [get("app"), found].into_iter().flatten().collect();
        Session {
            flow: Flow {
                kind: if traffic { "flow" } else { "name" },
                origin: Some(a),
                origin_port: get("srcport").and_then(port),
                responder: Some(b),
                responder_port: get("dstport").and_then(port),
                protocol: get("proto"),
                origin_bytes: get("sentbyte").and_then(number),
                responder_bytes: get("rcvdbyte").and_then(number),
                application: application(&names),
                server_name: get("hostname").map(str::to_owned),
                allowed: Some(allowed(action)),
                ..Flow::default()
            },
            start: None,
            seconds: get("duration").and_then(|s| s.parse().ok()).filter(|_| traffic && action != "start"),
            alert: found.map(|threat| SecurityAlert {
                threat: Some(threat.to_owned()),
                severity: get("severity").or_else(|| get("level")).map(str::to_owned),
                category: get("catdesc").or_else(|| get("subtype")).map(str::to_owned),
                path: get("filename").or_else(|| get("url")).map(str::to_owned),
                user_name: get("user").map(str::to_owned),
                action: Some(action.to_owned()),
                ..SecurityAlert::default()
            }),
        }
    });
    let kind = [Some(kind), get("subtype")].into_iter().flatten().collect::<Vec<_>>().join("/");
    Some(Entry { line: text, product: "fortigate", kind, stamp, session })
}

/// Fields between commas; a quoted one may hold commas, and quotes doubled.
fn columns(line: &str) -> Vec<Cow<'_, str>> {
    let mut columns = Vec::with_capacity(80);
    let mut rest = Some(line);
    while let Some(text) = rest {
        let Some(quoted) = text.strip_prefix('"') else {
            let (plain, next) = text.split_once(',').map_or((text, None), |(plain, next)| (plain, Some(next)));
            columns.push(Cow::Borrowed(plain));
            rest = next;
            continue;
        };
        let mut end = quoted.len();
        let mut at = 0;
        while let Some(found) = quoted.get(at..).and_then(|rest| rest.find('"')) {
            let quote = at.saturating_add(found);
            let after = quote.saturating_add(1);
            if !quoted.get(after..).is_some_and(|rest| rest.starts_with('"')) {
                end = quote;
                break;
            }
            at = after.saturating_add(1);
        }
        columns.push(Cow::Owned(quoted.get(..end).unwrap_or_default().replace("\"\"", "\"")));
        rest = quoted.get(end..).and_then(|tail| tail.split_once(',')).map(|(_, next)| next);
    }
    columns
}

/// Positions are those of the vendor's documentation, counted from 1 (wire formats, section 13).
fn panos(text: &str) -> Option<Entry<'_>> {
    // The head of syslog ends in the first field, a number nobody uses.
    let (head, _) = text.split_once(',').filter(|(head, _)| head.len() <= 256)?;
    if !head.rsplit(' ').next()?.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let columns = columns(text);
    let column = |n: usize| columns.get(n.saturating_sub(1)).map(|c| c.trim()).filter(|c| !scalar::is_null(c));
    let kind = column(4).filter(|kind| kind.bytes().all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_')))?;
    let stamp = scalar::time_text(column(7)?)?;
    scalar::time_text(column(2)?)?;
    let subtype = column(5).unwrap_or_default();
    let address = |n: usize| column(n).and_then(scalar::ip_text);
    let threat = kind == "THREAT";
    // A session's beginning says nothing that its end does not.
    let shown = threat || (kind == "TRAFFIC" && subtype != "start");
    let session = shown.then(|| address(8).zip(address(9))).flatten().map(|(source, destination)| {
        let action = column(31).unwrap_or_default();
        let name = column(33).map(|name| name.split_once('(').map_or(name, |(name, _)| name).trim());
        let found = name.filter(|name| threat && !name.is_empty());
        let names: SmallVec<[&str; 2]> = [column(15), found].into_iter().flatten().collect();
        let url = column(32).filter(|_| threat);
        let (a, b) = ((source, column(25).and_then(port)), (destination, column(26).and_then(port)));
        // A threat is told in the direction of its packet.
        let (a, b) = if threat && column(36) == Some("server-to-client") { (b, a) } else { (a, b) };
        let sent = |n: usize| column(n).and_then(number).filter(|_| !threat);
        Session {
            flow: Flow {
                kind: if threat { "name" } else { "flow" },
                origin: Some(a.0),
                origin_port: a.1,
                responder: Some(b.0),
                responder_port: b.1,
                protocol: column(30).and_then(scalar::protocol),
                origin_bytes: sent(33),
                responder_bytes: sent(34),
                application: application(&names),
                server_name: url.filter(|_| subtype == "url").map(|url| host_of(url).to_owned()),
                allowed: Some(allowed(action)),
                ..Flow::default()
            },
            start: column(36).filter(|_| !threat).and_then(scalar::time_text),
            seconds: column(37).filter(|_| !threat).and_then(|s| s.parse().ok()),
            alert: found.map(|threat| SecurityAlert {
                threat: Some(threat.to_owned()),
                severity: column(35).map(str::to_owned),
                category: Some(subtype.to_owned()),
                path: url.map(str::to_owned),
                action: Some(action.to_owned()),
                ..SecurityAlert::default()
            }),
        }
    });
    let kind = format!("{kind}/{subtype}");
    Some(Entry { line: text, product: "pan-os", kind, stamp: Some(stamp), session })
}

/// Host of a URL written without its scheme.
fn host_of(url: &str) -> &str {
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = url.split(['/', '?', '#']).next().unwrap_or(url);
    authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(authority, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_columns_may_hold_commas_and_quotes() {
        assert_eq!(columns(r#"a,"b,c",,"d ""e""",f"#), ["a", "b,c", "", "d \"e\"", "f"]);
        assert_eq!(columns(r#""never ends"#), ["never ends"]);
        assert_eq!(columns("a,"), ["a", ""]);
    }

    #[test]
    fn other_lines_are_not_a_firewalls() {
        for text in [
            "hello",
            "date=today",
            "1,2,3",
            "date=2026-03-02 time=09:14:05 a=b",
            "x1,2026/03/02 09:14:05,y,lower,z,1,2026/03/02 09:14:05",
        ] {
            assert!(line(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_host_is_read_off_a_url() {
        assert_eq!(host_of("pool.example/x?y=1"), "pool.example");
        assert_eq!(host_of("https://pool.example:8443"), "pool.example");
    }
}
