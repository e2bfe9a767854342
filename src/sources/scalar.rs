//! One lenient reader per kind of value: process ids, times, users, hashes, addresses (wire formats, section 10).
//!
//! A reader answers `Ok(None)` for the words that senders write for "nothing" and `Err(Bad)` for a value it cannot use; the
//! caller makes that null and names the field.

use super::json::Json;
use crate::model::ids::ProcessGuid;
use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use std::{
    borrow::Cow,
    net::{IpAddr, Ipv6Addr},
};

/// A value that is there but cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bad;
/// What a reader answers.
pub(super) type Read<T> = Result<Option<T>, Bad>;

/// Words that mean "nothing". Source: wire formats, section 10.2.
pub(super) fn is_null(text: &str) -> bool {
    let text = text.trim();
    matches!(text, "" | "-" | "?" | "N/A" | "n/a" | "(null)" | "<unknown process>" | "%23")
        || text.strip_prefix("%%").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Text of a scalar, without the words for nothing.
pub(super) fn text<'j>(value: &'j Json<'_>) -> Option<Cow<'j, str>> {
    match value {
        Json::Str(text) => (!is_null(text)).then_some(Cow::Borrowed(text.as_ref())),
        Json::Int(n) => Some(Cow::Owned(n.to_string())),
        Json::Big(n) => Some(Cow::Owned(n.to_string())),
        Json::Float(n) => Some(Cow::Owned(n.to_string())),
        Json::Bool(b) => Some(Cow::Borrowed(if *b { "true" } else { "false" })),
        Json::Array(elements) => elements.first().and_then(text),
        Json::Object(_) => value.get("#text").and_then(text),
        Json::Null => None,
    }
}

/// A whole number, not negative: decimal, or hexadecimal after `0x`.
pub(super) fn number(value: &Json<'_>) -> Read<i64> {
    match value {
        Json::Null => Ok(None),
        Json::Int(n) => (*n >= 0).then_some(Some(*n)).ok_or(Bad),
        Json::Float(n) if *n >= 0.0 && n.fract() == 0.0 && *n < 9.0e15 => Ok(Some(*n as i64)),
        Json::Str(text) => {
            let text = text.trim();
            if is_null(text) {
                return Ok(None);
            }
            let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
                Some(hex) => i64::from_str_radix(hex, 16),
                None => text.parse(),
            };
            number.ok().filter(|n| *n >= 0).map(Some).ok_or(Bad)
        }
        Json::Object(_) => value.get("#text").map_or(Err(Bad), number),
        _ => Err(Bad),
    }
}

/// A process id or port: a number of at most 32 bits.
pub(super) fn pid(value: &Json<'_>) -> Read<i64> {
    number(value)?.map(|n| u32::try_from(n).map(i64::from).map_err(|_| Bad)).transpose()
}

/// A finite number with decimals.
pub(super) fn float(value: &Json<'_>) -> Read<f64> {
    match value {
        Json::Null => Ok(None),
        Json::Int(n) => Ok(Some(*n as f64)),
        Json::Big(n) => Ok(Some(*n as f64)),
        Json::Float(n) => Ok(Some(*n)),
        Json::Str(text) if is_null(text) => Ok(None),
        Json::Str(text) => text.trim().parse().ok().filter(|n: &f64| n.is_finite()).map(Some).ok_or(Bad),
        _ => Err(Bad),
    }
}

/// `true`/`false` in any spelling senders use; `%%14593` is outbound, hence `Initiated`.
pub(super) fn flag(value: &Json<'_>) -> Read<bool> {
    match value {
        Json::Null => Ok(None),
        Json::Bool(b) => Ok(Some(*b)),
        Json::Int(n @ (0 | 1)) => Ok(Some(*n == 1)),
        Json::Str(text) => match text.trim() {
            t if t.eq_ignore_ascii_case("true") || t == "1" => Ok(Some(true)),
            t if t.eq_ignore_ascii_case("false") || t == "0" => Ok(Some(false)),
            t if is_null(t) => Ok(None),
            _ => Err(Bad),
        },
        _ => Err(Bad),
    }
}

/// An entity id of a process.
pub(super) fn guid(value: &Json<'_>) -> Read<ProcessGuid> {
    match value {
        Json::Null => Ok(None),
        Json::Str(text) => Ok(ProcessGuid::parse(text).filter(|_| !is_null(text))),
        _ => Err(Bad),
    }
}

/// An address; an IPv4 address inside an IPv6 one is IPv4.
pub(super) fn ip_text(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let text = text.split_once('%').map_or(text, |(address, _)| address);
    match text.parse().ok()? {
        IpAddr::V6(address) => Some(canonical(address)),
        v4 @ IpAddr::V4(_) => Some(v4),
    }
}

fn canonical(address: Ipv6Addr) -> IpAddr {
    address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
}

/// An address.
pub(super) fn ip(value: &Json<'_>) -> Read<IpAddr> {
    match value {
        Json::Null => Ok(None),
        Json::Str(text) if is_null(text) => Ok(None),
        Json::Str(text) => ip_text(text).map(Some).ok_or(Bad),
        Json::Array(elements) => elements.first().map_or(Ok(None), ip),
        _ => Err(Bad),
    }
}

/// The detection design's `InternalNetworks`; documentation ranges are external.
pub(super) fn is_internal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            let [first, second, ..] = a.octets();
            a.is_private()
                || a.is_loopback()
                || a.is_link_local()
                || a.is_multicast()
                || (first == 100 && (second & 0xc0) == 64)
        }
        IpAddr::V6(a) => a.is_loopback() || a.is_multicast() || a.is_unique_local() || a.is_unicast_link_local(),
    }
}

/// Whether an address tells hosts apart: not loopback, link-local, multicast, broadcast or unspecified.
pub(super) fn identifies_a_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            !(a.is_loopback() || a.is_link_local() || a.is_multicast() || a.is_unspecified() || a.is_broadcast())
        }
        IpAddr::V6(a) => !(a.is_loopback() || a.is_multicast() || a.is_unspecified() || a.is_unicast_link_local()),
    }
}

/// `tcp`, `udp`, `icmp` from a word or a protocol number.
pub(super) fn protocol(text: &str) -> Option<&'static str> {
    let text = text.trim();
    [("tcp", "6"), ("udp", "17"), ("icmp", "1"), ("icmp", "58"), ("icmp", "icmp6"), ("icmp", "ipv6-icmp")]
        .into_iter()
        .find(|(word, other)| text.eq_ignore_ascii_case(word) || text.eq_ignore_ascii_case(other))
        .map(|(word, _)| word)
}

/// SHA-256 of `ALG=HEX,ALG=HEX`, in any order, lower case.
pub(super) fn sha256(hashes: &str) -> Option<String> {
    let hex = hashes.split([',', ';']).find_map(|part| {
        let (name, hex) = part.trim().split_once('=')?;
        name.eq_ignore_ascii_case("sha256").then_some(hex)
    })?;
    sha256_hex(hex)
}

/// A bare SHA-256, lower case; all zeros is nothing.
pub(super) fn sha256_hex(hex: &str) -> Option<String> {
    let hex = hex.trim();
    let fine = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) && hex.bytes().any(|b| b != b'0');
    fine.then(|| hex.to_ascii_lowercase())
}

/// `low`, `medium`, `high`, `system` from a word or a mandatory label.
pub(super) fn integrity(text: &str) -> Option<&'static str> {
    Some(match text.trim().to_ascii_lowercase().as_str() {
        "low" | "appcontainer" | "untrusted" | "s-1-16-4096" | "s-1-16-0" => "low",
        "medium" | "mediumplus" | "medium plus" | "s-1-16-8192" | "s-1-16-8448" => "medium",
        "high" | "s-1-16-12288" => "high",
        "system" | "protected" | "s-1-16-16384" | "s-1-16-20480" => "system",
        _ => return None,
    })
}

const SYSTEM: &str = r"NT AUTHORITY\SYSTEM";
const LOCAL_SERVICE: &str = r"NT AUTHORITY\LOCAL SERVICE";
const NETWORK_SERVICE: &str = r"NT AUTHORITY\NETWORK SERVICE";

/// Well-known account of a SID or logon id, in any language.
pub(super) fn well_known(sid_or_logon: &str) -> Option<&'static str> {
    Some(match sid_or_logon.trim().to_ascii_lowercase().as_str() {
        "s-1-5-18" | "0x3e7" | "system" | "localsystem" => SYSTEM,
        "s-1-5-19" | "0x3e5" => LOCAL_SERVICE,
        "s-1-5-20" | "0x3e4" => NETWORK_SERVICE,
        _ => return None,
    })
}

/// An account as text: `DOM\name`, a SID or a name; system accounts in English whatever the machine's language.
pub(super) fn account(text: &str) -> Option<String> {
    let text = text.trim();
    if is_null(text) {
        return None;
    }
    if let Some(known) = well_known(text) {
        return Some(known.to_owned());
    }
    if let Some((domain, name)) = text.split_once('\\') {
        if is_null(domain) {
            return account(name);
        }
        let domain = domain.to_lowercase();
        if domain.contains("autor") || domain.contains("author") {
            let name = name.to_lowercase();
            let known = match name.as_str() {
                "system" | "système" | "sistema" => Some(SYSTEM),
                "local service" | "lokaler dienst" | "service local" | "servicio local" | "servizio locale" => {
                    Some(LOCAL_SERVICE)
                }
                "network service" | "netzwerkdienst" | "service réseau" | "servicio de red" | "servizio di rete" => {
                    Some(NETWORK_SERVICE)
                }
                _ => None,
            };
            if let Some(known) = known {
                return Some(known.to_owned());
            }
        }
    }
    Some(text.to_owned())
}

/// `DOMAIN\name` from its parts.
pub(super) fn domain_account(domain: Option<&str>, name: &str) -> Option<String> {
    match domain.filter(|d| !is_null(d)) {
        Some(domain) => account(&format!("{domain}\\{name}")),
        None => account(name),
    }
}

/// Program and arguments of a command line.
pub(super) fn split_command(line: &str) -> (String, Option<String>) {
    let line = line.trim();
    let (program, rest) = if let Some(quoted) = line.strip_prefix('"') {
        quoted.split_once('"').unwrap_or((quoted, ""))
    } else if let Some(parts) = line.split_once(' ').filter(|(head, _)| !head.contains(['\\', '/', ':'])) {
        parts
    } else {
        let lower = line.to_ascii_lowercase();
        let ends = [".exe", ".com", ".bat", ".cmd", ".sys", ".scr"].into_iter().filter_map(|extension| {
            lower.match_indices(extension).map(|(at, _)| at.saturating_add(extension.len())).find(|end| {
                lower.get(*end..).is_some_and(|after| after.is_empty() || after.starts_with([' ', '\t', '"', ',']))
            })
        });
        match ends.min().and_then(|end| line.split_at_checked(end)) {
            Some(parts) => parts,
            None => line.split_once(' ').unwrap_or((line, "")),
        }
    };
    let rest = rest.trim_start();
    (program.trim().to_owned(), (!rest.is_empty()).then(|| rest.to_owned()))
}

/// A time as written: with or without a zone, with or without decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    local: NaiveDateTime,
    /// Seconds east of UTC, if stated.
    offset: Option<i32>,
    /// Whole seconds only.
    pub(super) coarse: bool,
}

impl Stamp {
    /// In UTC, if the zone is stated.
    pub(super) fn utc(self) -> Option<DateTime<Utc>> {
        self.offset.and_then(|seconds| self.east(seconds))
    }

    /// In UTC, were it written `seconds` east of it.
    pub(super) fn east(self, seconds: i32) -> Option<DateTime<Utc>> {
        Some(self.local.checked_sub_signed(TimeDelta::seconds(i64::from(seconds)))?.and_utc())
    }

    /// As if it had no zone.
    pub(super) fn without_zone(self) -> Self {
        Self { offset: None, ..self }
    }

    /// Whether the zone is stated.
    pub(super) fn has_zone(self) -> bool {
        self.offset.is_some()
    }

    fn of_utc(at: DateTime<Utc>, coarse: bool) -> Self {
        Self { local: at.naive_utc(), offset: Some(0), coarse }
    }

    /// An absent time in disguise: 1601-01-01 (FILETIME 0) and year 1.
    fn is_absent(self) -> bool {
        use chrono::Datelike;
        let year = self.local.year();
        year <= 1 || (year == 1601 && self.local.ordinal() == 1)
    }
}

/// A time in any form of section 10.1: RFC 3339 with 0 to 9 decimals, blank or `T`, `Z`, `±hh:mm`, `±hhmm` with or without a
/// blank before, none; epoch seconds, milli-, micro- or nanoseconds by their number of digits. `None` if absent or unreadable.
pub(super) fn time(value: &Json<'_>) -> Option<Stamp> {
    let stamp = match value {
        Json::Int(n) => epoch(*n)?,
        Json::Big(n) => epoch(i64::try_from(*n).ok()?)?,
        Json::Float(seconds) => epoch_float(*seconds)?,
        Json::Str(text) => time_text(text)?,
        _ => return None,
    };
    (!stamp.is_absent()).then_some(stamp)
}

/// The same for text.
pub(super) fn time_text(text: &str) -> Option<Stamp> {
    let text = text.trim();
    let stamp = calendar(text.as_bytes()).or_else(|| match text.parse::<i64>() {
        Ok(n) => epoch(n),
        Err(_) => text.parse().ok().and_then(epoch_float),
    })?;
    (!stamp.is_absent()).then_some(stamp)
}

fn epoch(n: i64) -> Option<Stamp> {
    let (at, coarse) = match n.unsigned_abs() {
        0..100_000_000_000 => (DateTime::from_timestamp(n, 0), true),
        100_000_000_000..100_000_000_000_000 => (DateTime::from_timestamp_millis(n), false),
        100_000_000_000_000..100_000_000_000_000_000 => (DateTime::from_timestamp_micros(n), false),
        _ => (Some(DateTime::from_timestamp_nanos(n)), false),
    };
    at.filter(|at| at.timestamp() != 0).map(|at| Stamp::of_utc(at, coarse))
}

fn epoch_float(seconds: f64) -> Option<Stamp> {
    if !seconds.is_finite() || seconds.abs() >= 1.0e11 {
        return epoch(seconds as i64);
    }
    let micros = (seconds * 1.0e6).round();
    DateTime::from_timestamp_micros(micros as i64)
        .filter(|_| micros != 0.0)
        .map(|at| Stamp::of_utc(at, seconds.fract() == 0.0))
}

/// A calendar date and time at the beginning of the text.
fn calendar(bytes: &[u8]) -> Option<Stamp> {
    let digits = |from: usize, count: usize| -> Option<u32> {
        bytes.get(from..from.checked_add(count)?)?.iter().try_fold(0u32, |n, b| {
            b.is_ascii_digit().then(|| n.wrapping_mul(10).wrapping_add(u32::from(b.wrapping_sub(b'0'))))
        })
    };
    let is = |at: usize, any: &[u8]| bytes.get(at).is_some_and(|b| any.contains(b));
    if !(is(4, b"-/") && is(7, b"-/") && is(10, b"T t") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(digits(0, 4)?.cast_signed(), digits(5, 2)?, digits(8, 2)?)?;
    // A leap second counts as the last second of its minute.
    let second = digits(17, 2)?.min(59);
    let mut rest = bytes.get(19..)?;
    let (mut micros, mut coarse) = (0u32, true);
    if let Some(fraction) = rest.strip_prefix(b".").or_else(|| rest.strip_prefix(b",")) {
        let length = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if length == 0 || length > 9 {
            return None;
        }
        coarse = false;
        let mut padded = fraction.get(..length.min(6))?.iter().copied().chain(std::iter::repeat(b'0'));
        for _ in 0..6 {
            micros = micros.wrapping_mul(10).wrapping_add(u32::from(padded.next()?.wrapping_sub(b'0')));
        }
        rest = fraction.get(length..)?;
    }
    let local = date.and_hms_micro_opt(digits(11, 2)?, digits(14, 2)?, second, micros)?;
    Some(Stamp { local, offset: zone(rest.trim_ascii()).ok()?, coarse })
}

/// Seconds east of UTC; none if no zone is stated.
fn zone(text: &[u8]) -> Read<i32> {
    match text {
        b"" => Ok(None),
        b"Z" | b"z" | b"UTC" => Ok(Some(0)),
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let digits: Vec<i32> =
                rest.iter().filter(|b| **b != b':').map(|b| i32::from(b.wrapping_sub(b'0'))).collect();
            let [h1, h0, m1, m0] = match *digits.as_slice() {
                [h1, h0] => [h1, h0, 0, 0],
                [h1, h0, m1, m0] => [h1, h0, m1, m0],
                _ => return Err(Bad),
            };
            if [h1, h0, m1, m0].iter().any(|d| !(0..=9).contains(d)) {
                return Err(Bad);
            }
            let seconds = h1
                .wrapping_mul(36_000)
                .wrapping_add(h0.wrapping_mul(3_600))
                .wrapping_add(m1.wrapping_mul(600))
                .wrapping_add(m0.wrapping_mul(60));
            if seconds > 26 * 3_600 {
                return Err(Bad);
            }
            Ok(Some(if *sign == b'-' { seconds.wrapping_neg() } else { seconds }))
        }
        _ => Err(Bad),
    }
}

/// Undoes one level of XML escaping, unless the text holds a raw `<`, `>` or bare `&` and thus was not escaped.
pub(super) fn unescape_once(text: &str) -> Cow<'_, str> {
    const ENTITIES: [(&str, char); 5] = [("amp;", '&'), ("lt;", '<'), ("gt;", '>'), ("quot;", '"'), ("apos;", '\'')];
    if !text.contains('&') || text.contains(['<', '>']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split('&');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        if let Some((name, c)) = ENTITIES.iter().find(|(name, _)| part.starts_with(name)) {
            out.push(*c);
            out.push_str(part.get(name.len()..).unwrap_or_default());
        } else if let Some((c, rest)) = character_reference(part) {
            out.push(c);
            out.push_str(rest);
        } else {
            return Cow::Borrowed(text);
        }
    }
    Cow::Owned(out)
}

fn character_reference(part: &str) -> Option<(char, &str)> {
    let (code, rest) = part.strip_prefix('#')?.split_once(';')?;
    let code = match code.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => code.parse().ok()?,
    };
    Some((char::from_u32(code).filter(|c| *c != '\0')?, rest))
}

/// Sysmon 22 `QueryResults`: aliases and addresses.
pub(super) fn query_results(text: &str) -> (Vec<IpAddr>, Vec<String>) {
    let (mut addresses, mut aliases) = (Vec::new(), Vec::new());
    for part in text.split(';').map(str::trim).filter(|p| !is_null(p)) {
        match part.strip_prefix("type:") {
            Some(typed) => {
                let (kind, name) = typed.trim_start().split_once(' ').unwrap_or((typed, ""));
                if kind == "5" && !name.trim().is_empty() {
                    aliases.push(dns_name(name));
                }
            }
            None => match ip_text(part) {
                Some(address) => addresses.push(address),
                // Long answers are cut short, often inside an address.
                None if part.contains(':') || !part.bytes().any(|b| b.is_ascii_alphabetic()) => {}
                None => aliases.push(dns_name(part)),
            },
        }
    }
    (addresses, aliases)
}

/// A name for comparison: lower case, without the last dot.
pub(super) fn dns_name(name: &str) -> String {
    name.trim().trim_end_matches('.').to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_time(text: &str) -> Option<String> {
        time_text(text)?.utc().map(|at| at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
    }

    /// Section 15, cases 24, 42, 43.
    #[test]
    fn case_43_every_form_of_time_reads_to_the_microsecond() {
        for text in [
            "2026-03-02T09:14:05.1034567Z",
            "2026-03-02 04:14:05.103456-0500",
            "2026-03-02T09:14:05.103456+0000",
            "2026-03-02T05:14:05.103456 -04:00",
            "1772442845103456",
            "1772442845103456700",
            "1772442845.103456",
        ] {
            assert_eq!(text_time(text).as_deref(), Some("2026-03-02T09:14:05.103456Z"), "{text}");
        }
        assert_eq!(text_time("1772442845103").as_deref(), Some("2026-03-02T09:14:05.103000Z"));
        assert_eq!(text_time("1772442845").as_deref(), Some("2026-03-02T09:14:05.000000Z"));
        assert!(time_text("2026-03-02 04:14:05").is_some_and(|t| !t.has_zone() && t.coarse));
        for absent in ["1601-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "yesterday", "", "2026-13-02T00:00:00Z"] {
            assert_eq!(time_text(absent), None, "{absent}");
        }
    }

    #[test]
    fn numbers_are_hexadecimal_only_with_their_prefix() {
        let pid = |t: &'static str| pid(&Json::Str(Cow::Borrowed(t)));
        assert_eq!(pid("0x7d8"), Ok(Some(2008)));
        assert_eq!(pid("0x1570"), Ok(Some(5488)));
        assert_eq!(pid("3108"), Ok(Some(3108)));
        assert_eq!(pid("-"), Ok(None));
        assert_eq!(pid("99999999999"), Err(Bad));
        assert_eq!(pid("four"), Err(Bad));
        assert_eq!(super::pid(&Json::Int(-1)), Err(Bad));
    }

    /// Section 15, case 44.
    #[test]
    fn system_accounts_are_english_in_any_language() {
        for text in [r"NT-AUTORITÄT\SYSTEM", "S-1-5-18", r"NT AUTHORITY\SYSTEM", "System", r"AUTORITE NT\Système"] {
            assert_eq!(account(text).as_deref(), Some(SYSTEM), "{text}");
        }
        assert_eq!(account(r"NT-AUTORITÄT\Netzwerkdienst").as_deref(), Some(NETWORK_SERVICE));
        assert_eq!(account(r"CORP\j.doe").as_deref(), Some(r"CORP\j.doe"));
        assert_eq!(domain_account(Some("-"), "j.doe").as_deref(), Some("j.doe"));
        assert_eq!(account("-"), None);
    }

    /// Section 15, case 45.
    #[test]
    fn case_45_hashes_come_in_any_order() {
        let hex = "A".repeat(64);
        assert_eq!(sha256(&format!("MD5=00,SHA256={hex},IMPHASH=0")), Some("a".repeat(64)));
        assert_eq!(sha256("MD5=0123"), None);
        assert_eq!(sha256(&format!("SHA256={}", "0".repeat(64))), None);
    }

    /// Section 15, case 31.
    #[test]
    fn xml_escapes_are_undone_once_and_only_where_the_text_was_escaped() {
        for (text, expected) in [
            ("1&gt; a.txt 2&gt;&amp;1", "1> a.txt 2>&1"),
            ("1> a.txt 2>&1", "1> a.txt 2>&1"),
            ("a & b", "a & b"),
            ("&amp;lt;", "&lt;"),
            ("x&#10;y&#x41;", "x\nyA"),
            ("plain", "plain"),
        ] {
            assert_eq!(unescape_once(text), expected);
        }
    }

    /// Section 15, case 49.
    #[test]
    fn answers_of_a_name_query_are_told_apart() {
        let (addresses, aliases) = query_results("type:  5 A.Example.net;::ffff:192.0.2.7;");
        assert_eq!(aliases, ["a.example.net"]);
        assert_eq!(addresses, [IpAddr::from([192, 0, 2, 7])]);
        assert_eq!(query_results("-"), (vec![], vec![]));
    }

    #[test]
    fn a_command_line_is_split_after_its_program() {
        for (line, program, arguments) in [
            (r#""C:\Program Files\x y.exe" -a "b""#, r"C:\Program Files\x y.exe", Some(r#"-a "b""#)),
            (r"C:\Program Files\x y.exe -a", r"C:\Program Files\x y.exe", Some("-a")),
            (r"%COMSPEC% /c x.exe", "%COMSPEC%", Some("/c x.exe")),
            ("powershell -enc AAAA", "powershell", Some("-enc AAAA")),
            (r"C:\drivers\x.sys", r"C:\drivers\x.sys", None),
        ] {
            let (p, a) = split_command(line);
            assert_eq!((p.as_str(), a.as_deref()), (program, arguments), "{line}");
        }
    }

    #[test]
    fn networks_of_the_site_are_internal_and_documentation_ranges_are_not() {
        for inside in
            ["10.1.2.3", "172.20.0.1", "192.168.1.1", "100.64.0.9", "169.254.1.1", "fe80::1", "fd00::1", "::1"]
        {
            assert!(ip_text(inside).is_some_and(is_internal), "{inside}");
        }
        for outside in ["192.0.2.1", "198.51.100.2", "203.0.113.3", "100.128.0.1", "2001:db8::1"] {
            assert!(ip_text(outside).is_some_and(|a| !is_internal(a)), "{outside}");
        }
    }
}
