//! Squid's native access log: written when a request or tunnel ends, with its duration.

use super::flow;
use crate::model::{event::Reject, fact::Connection};
use crate::sources::{Events, draft::Decoder, scalar};
use chrono::{DateTime, TimeDelta, Utc};
use std::net::IpAddr;

/// A line of the access log.
#[derive(Debug)]
pub(in crate::sources) struct Access<'a> {
    line: &'a str,
    ended_at: DateTime<Utc>,
    duration_ms: i64,
    client: IpAddr,
    status: &'a str,
    bytes: Option<i64>,
    method: &'a str,
    target: &'a str,
    hierarchy: &'a str,
}

/// Reads `time duration client code/status bytes method target user hierarchy/address type`.
pub(in crate::sources) fn line(text: &str) -> Option<Access<'_>> {
    let text = text.trim();
    let mut words = text.split_ascii_whitespace();
    let time = words.next()?;
    // Epoch seconds with exactly three decimals begin no other log we know.
    time.split_once('.').filter(|(s, ms)| (9..=11).contains(&s.len()) && ms.len() == 3)?;
    let access = Access {
        line: text,
        ended_at: scalar::time_text(time)?.utc()?,
        duration_ms: words.next()?.parse().ok()?,
        client: scalar::ip_text(words.next()?)?,
        status: words.next().filter(|status| status.contains('/'))?,
        bytes: words.next()?.parse().ok(),
        method: words.next()?,
        target: words.next()?,
        hierarchy: words.nth(1)?,
    };
    Some(access)
}

impl Access<'_> {
    /// A connection through the proxy, of the client that asked for it.
    pub(in crate::sources) fn decode(&self, decoder: &Decoder<'_>) -> Result<Events, Reject> {
        let (name, port) = target(self.method, self.target);
        let started_at =
            TimeDelta::try_milliseconds(self.duration_ms.max(0)).and_then(|d| self.ended_at.checked_sub_signed(d));
        let direct =
            self.hierarchy.split_once('/').filter(|(how, _)| how.ends_with("DIRECT") || how.ends_with("PINNED"));
        let (result, code) = self.status.split_once('/').unwrap_or((self.status, ""));
        let connection = Connection {
            kind: Some("proxy".to_owned()),
            protocol: Some("tcp".to_owned()),
            direction: Some("outbound".to_owned()),
            local_ip: Some(self.client),
            remote_ip: direct.and_then(|(_, address)| scalar::ip_text(address)).or_else(|| scalar::ip_text(name)),
            remote_port: port,
            remote_host: scalar::ip_text(name)
                .is_none()
                .then(|| scalar::dns_name(name))
                .filter(|name| !name.is_empty()),
            started_at,
            ended_at: Some(self.ended_at),
            bytes_in: self.bytes,
            application: (self.method == "CONNECT").then(|| "connect".to_owned()),
            allowed: Some(!result.contains("DENIED") && !matches!(code, "403" | "407")),
            ..Connection::default()
        };
        // The line is the event, whatever carried it.
        flow::finish(
            decoder,
            started_at.or(Some(self.ended_at)),
            Some(self.client),
            smallvec::smallvec![connection.into()],
            Some(self.line.as_bytes().to_vec()),
        )
    }
}

/// Host and port of `host:port` or a URL.
fn target<'t>(method: &str, target: &'t str) -> (&'t str, Option<i64>) {
    let (scheme, rest) = target.split_once("://").unwrap_or(("", target));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let default = match (scheme, method) {
        ("http", _) => Some(80),
        ("ftp", _) => Some(21),
        ("https", _) | (_, "CONNECT") => Some(443),
        _ => None,
    };
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    (host, port.and_then(|p| p.parse::<u16>().ok()).map(i64::from).or(default))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_with_and_without_a_port() {
        assert_eq!(target("CONNECT", "pool.example:3333"), ("pool.example", Some(3333)));
        assert_eq!(target("GET", "http://www.example/a:b"), ("www.example", Some(80)));
        assert_eq!(target("CONNECT", "[2001:db8::1]:443"), ("2001:db8::1", Some(443)));
    }

    #[test]
    fn other_lines_are_not_squids() {
        for text in [
            "hello",
            "2026-03-02 09:14:05 something",
            "1772442845.049 x 10.0.0.1 TCP_HIT/200 1 GET http://a.example/ - NONE/- -",
        ] {
            assert!(line(text).is_none(), "{text}");
        }
    }
}
