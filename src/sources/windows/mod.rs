//! Windows events: one reader per envelope fills a [`Record`]; what (provider, event id) means is by meaning, shared by all.

pub(super) mod canonical;
mod defender;
pub(super) mod ecs;
pub(super) mod evtx;
pub(super) mod flat;
pub(super) mod fluentbit;
mod logs;
pub(super) mod nxlog;
pub(super) mod otel;
mod powershell;
mod registry;
mod security;
mod service;
mod sysmon;
mod task_xml;
mod taskscheduler;
pub(super) mod wazuh;
pub(super) mod winlogbeat;
mod wmi;

use super::{
    Events,
    draft::{self, Decoder, Draft, Position, When},
    json::Json,
    scalar::{self, Stamp},
    shape::Context,
    values::Values,
};
use crate::model::{
    event::{Reject, TimeQuality},
    fact::{Connection, Fact, OtherEvent},
};
use chrono::{DateTime, TimeDelta, Utc};
use smallvec::{SmallVec, smallvec};
use std::{borrow::Cow, net::IpAddr};

/// Facts of one record; none = raw only.
pub(super) type Facts = SmallVec<[Fact; 1]>;

/// How a record without a stated zone is placed (NXLog).
#[derive(Debug, Clone, Copy, Default)]
struct Zone {
    /// The relay's own clock, without a zone, and the same moment in UTC.
    received: Option<Stamp>,
    relayed: Option<Stamp>,
}

/// A record of an event log, whatever carried it.
#[derive(Debug, Default)]
pub(super) struct Record<'a> {
    created: Option<Stamp>,
    zone: Option<Zone>,
    computer: Option<Cow<'a, str>>,
    provider: Cow<'a, str>,
    channel: Cow<'a, str>,
    event_id: u32,
    number: u64,
    /// The process that wrote the record; the subject only for PowerShell.
    logging_pid: Option<i64>,
    /// The account that wrote the record; the subject only for PowerShell and NXLog's 7045.
    logging_user: Option<String>,
    /// Values collide with NXLog's own fields.
    nxlog: bool,
    agent: Option<&'a str>,
    addresses: SmallVec<[IpAddr; 1]>,
    values: Values<'a>,
}

/// Sources whose events mean something to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Sysmon,
    Security,
    Tasks,
    Services,
    Wmi,
    PowerShell,
    PowerShellHost,
    Defender,
    Firewall,
    DnsClient,
    EventLog,
    Kernel,
}

/// Provider and channel of each source. A provider name in a foreign channel may be anybody's.
const SOURCES: &[(&str, &str, Source)] = &[
    ("Microsoft-Windows-Sysmon", "Microsoft-Windows-Sysmon/Operational", Source::Sysmon),
    ("Microsoft-Windows-Security-Auditing", "Security", Source::Security),
    ("Microsoft-Windows-TaskScheduler", "Microsoft-Windows-TaskScheduler/Operational", Source::Tasks),
    ("Service Control Manager", "System", Source::Services),
    ("Microsoft-Windows-WMI-Activity", "Microsoft-Windows-WMI-Activity/Operational", Source::Wmi),
    ("Microsoft-Windows-PowerShell", "Microsoft-Windows-PowerShell/Operational", Source::PowerShell),
    ("PowerShellCore", "PowerShellCore/Operational", Source::PowerShell),
    ("PowerShell", "Windows PowerShell", Source::PowerShellHost),
    ("Microsoft-Windows-Windows Defender", "Microsoft-Windows-Windows Defender/Operational", Source::Defender),
    (
        "Microsoft-Windows-Windows Firewall With Advanced Security",
        "Microsoft-Windows-Windows Firewall With Advanced Security/Firewall",
        Source::Firewall,
    ),
    ("Microsoft-Windows-DNS-Client", "Microsoft-Windows-DNS-Client/Operational", Source::DnsClient),
    ("Microsoft-Windows-Eventlog", "", Source::EventLog),
    ("EventLog", "System", Source::EventLog),
    ("Microsoft-Windows-Kernel-General", "System", Source::Kernel),
];

impl Source {
    fn of(provider: &str, channel: &str) -> Option<Self> {
        SOURCES
            .iter()
            .find(|(p, c, _)| *p == provider && (c.is_empty() || channel.is_empty() || c.eq_ignore_ascii_case(channel)))
            .map(|(.., source)| *source)
    }

    fn facts(self, record: &Record<'_>, at: Option<DateTime<Utc>>) -> Facts {
        match self {
            Self::Sysmon => sysmon::facts(record, at),
            Self::Security => security::facts(record, at),
            Self::Tasks => taskscheduler::facts(record),
            Self::Services => service::facts(record),
            Self::Wmi => wmi::facts(record),
            Self::PowerShell => powershell::facts(record),
            Self::PowerShellHost => powershell::host_facts(record),
            Self::Defender => defender::facts(record),
            Self::Firewall => defender::firewall_facts(record),
            Self::DnsClient if record.event_id == 3008 => smallvec![sysmon::dns_query(&record.values)],
            Self::DnsClient => Facts::new(),
            Self::EventLog => logs::event_log_facts(record),
            Self::Kernel => logs::kernel_facts(record),
        }
    }
}

impl Record<'_> {
    /// Makes events of the record.
    fn decode(mut self, decoder: &Decoder<'_>, context: &Context<'_>) -> Result<Events, Reject> {
        let source = Source::of(&self.provider, &self.channel);
        let when = self.when(decoder, source == Some(Source::Sysmon), context);
        let at = when.as_ref().ok().map(|(at, _)| *at);
        let mut facts = source.map(|source| source.facts(&self, at)).unwrap_or_default();
        if facts.is_empty() {
            facts.push(self.other());
        }
        for fact in &facts {
            if let Fact::Connection(connection) = fact {
                self.addresses.extend(own_address(connection).filter(|a| !self.addresses.contains(a)));
            }
        }
        decoder.finish(Draft {
            time: when,
            name: self.computer.as_deref().or(context.host).map(str::to_owned),
            agent: self.agent.or_else(|| self.lent_agent(context)).map(str::to_owned),
            addresses: std::mem::take(&mut self.addresses),
            position: self.computer.is_some().then(|| Position {
                channel: self.channel.clone().into_owned(),
                provider: self.provider.clone().into_owned(),
                event_id: self.event_id,
                record_id: self.number,
            }),
            errors: self.values.take_errors(),
            facts,
            ..Draft::default()
        })
    }

    /// The envelope's id, if it names the same host.
    fn lent_agent<'c>(&self, context: &Context<'c>) -> Option<&'c str> {
        let (computer, host) = (self.computer.as_deref()?, context.host?);
        context.agent.filter(|_| draft::first_label(computer).eq_ignore_ascii_case(draft::first_label(host)))
    }

    fn other(&self) -> Fact {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        OtherEvent {
            provider: given(&self.provider),
            channel: given(&self.channel),
            code: Some(self.event_id.to_string()),
        }
        .into()
    }

    /// Time by section 10.1 of the wire formats.
    fn when(&self, decoder: &Decoder<'_>, sysmon: bool, context: &Context<'_>) -> When {
        let utc = sysmon.then(|| self.values.text("UtcTime").and_then(|t| scalar::time_text(&t)?.east(0))).flatten();
        let created = match (self.created.or(context.time), utc) {
            (None, None) => return Err(Reject::NoTime),
            (None, Some(utc)) => return draft::in_range(utc, TimeQuality::Exact),
            (Some(stamp), utc) => self.placed(stamp, utc, decoder),
        };
        match (created, utc) {
            (created, None) => created,
            (Err(_), Some(utc)) => draft::in_range(utc, TimeQuality::Exact),
            (Ok((created, _)), Some(utc)) => {
                let (at, quality) = sysmon_time(created, utc, self.event_id);
                draft::in_range(at, quality)
            }
        }
    }

    /// A stamp in UTC: its own zone, the token's, the relay's, that of `UtcTime`, else UTC.
    fn placed(&self, stamp: Stamp, utc: Option<DateTime<Utc>>, decoder: &Decoder<'_>) -> When {
        if stamp.has_zone() {
            return draft::record_time([Some(stamp)]);
        }
        let assumed = |seconds: i32, quality| draft::in_range(stamp.east(seconds).ok_or(Reject::NoTime)?, quality);
        if let Some(minutes) = decoder.defaults.utc_offset_minutes {
            return assumed(minutes.saturating_mul(60), TimeQuality::AssumedZone);
        }
        let relay = self.zone.and_then(|zone| {
            let (local, utc) = (zone.received?.without_zone().east(0)?, zone.relayed?.utc()?);
            quarter_hours(local.signed_duration_since(utc))
        });
        let by_utc_time = || {
            let ahead = stamp.east(0)?.signed_duration_since(utc?);
            let offset = quarter_hours(ahead)?;
            (ahead.num_seconds().abs_diff(i64::from(offset)) <= 120).then_some(offset)
        };
        match relay.or_else(by_utc_time) {
            Some(seconds) => assumed(seconds, TimeQuality::AssumedZone),
            None => assumed(0, TimeQuality::AssumedUtc),
        }
    }
}

/// An offset in seconds, rounded to a quarter of an hour, if a zone can have it.
fn quarter_hours(ahead: TimeDelta) -> Option<i32> {
    let quarters = ahead.num_seconds().saturating_add(450).div_euclid(900);
    (quarters.abs() <= 26 * 4).then(|| i32::try_from(quarters.saturating_mul(900)).ok()).flatten()
}

/// Sysmon's `UtcTime`, but not blindly: it lags on machines that slept (events 3, 22), and some forwarders mislabel the zone
/// of the record's time.
fn sysmon_time(created: DateTime<Utc>, utc: DateTime<Utc>, event_id: u32) -> (DateTime<Utc>, TimeQuality) {
    let behind = created.signed_duration_since(utc);
    let limit = if matches!(event_id, 3 | 22) { 10_000 } else { 120_000 };
    if behind.num_milliseconds().abs() <= limit {
        return (utc, TimeQuality::Exact);
    }
    let rest = quarter_hours(behind)
        .filter(|offset| *offset != 0)
        .map(|offset| behind.num_milliseconds().abs_diff(i64::from(offset).saturating_mul(1_000)));
    if rest.is_some_and(|rest| rest <= 5_000) {
        return (utc, TimeQuality::ZoneSuspect);
    }
    (created, TimeQuality::Lagged)
}

/// The host's own end of a TCP connection.
fn own_address(connection: &Connection) -> Option<IpAddr> {
    let sure = connection.direction.as_deref().is_some_and(|d| d != "unknown");
    connection.local_ip.filter(|address| sure && scalar::identifies_a_host(*address))
}

/// Both ends of a host's connection. TCP: the source opened it. UDP flags are unreliable: the host's own addresses decide,
/// else an internal end facing an external one.
#[derive(Debug, Clone, Copy)]
struct Ends {
    source: (Option<IpAddr>, Option<i64>),
    destination: (Option<IpAddr>, Option<i64>),
}

impl Ends {
    fn apply(self, protocol: Option<&str>, outbound: Option<bool>, own: &[IpAddr], connection: &mut Connection) {
        let tcp = protocol == Some("tcp");
        let is_own = |address: Option<IpAddr>| address.is_some_and(|a| own.contains(&a));
        let inside = |address: Option<IpAddr>| address.is_some_and(scalar::is_internal);
        let source_is_local = if tcp && outbound.is_some() {
            outbound == Some(true)
        } else if is_own(self.source.0) != is_own(self.destination.0) {
            is_own(self.source.0)
        } else if inside(self.source.0) != inside(self.destination.0) {
            inside(self.source.0)
        } else {
            outbound != Some(false)
        };
        let direction = match outbound {
            Some(true) if tcp => "outbound",
            Some(false) if tcp => "inbound",
            _ => "unknown",
        };
        let (local, remote) =
            if source_is_local { (self.source, self.destination) } else { (self.destination, self.source) };
        (connection.local_ip, connection.local_port) = local;
        (connection.remote_ip, connection.remote_port) = remote;
        connection.direction = Some(direction.to_owned());
        connection.protocol = protocol.map(str::to_owned);
    }
}

/// Addresses and aliases of an ECS answer.
pub(super) fn ecs_answers(doc: &Json<'_>) -> (Vec<IpAddr>, Vec<String>) {
    sysmon::ecs_answers(Some(doc))
}

/// One fact.
fn one(fact: impl Into<Fact>) -> Facts {
    smallvec![fact.into()]
}

/// `DOMAIN\name` of the account in `<prefix>UserName`, `<prefix>DomainName`, its SID and logon id.
fn prefixed_account(values: &Values<'_>, prefix: &str) -> Option<String> {
    let part = |name: &str| values.text(&format!("{prefix}{name}"));
    for id in ["UserSid", "LogonId"] {
        if let Some(known) = part(id).and_then(|id| scalar::well_known(&id)) {
            return Some(known.to_owned());
        }
    }
    if let Some(name) = part("UserName") {
        return scalar::domain_account(part("DomainName").as_deref(), &name);
    }
    part("UserSid").filter(|sid| *sid != "S-1-0-0").map(Cow::into_owned)
}

/// Event id from a number, a text or `{"#text": 800}`.
fn event_id(value: Option<&Json<'_>>) -> u32 {
    value.and_then(|v| scalar::number(v).ok().flatten()).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

/// Record id; absent and 0 are the same.
fn record_id(value: Option<&Json<'_>>) -> u64 {
    value.and_then(|v| scalar::number(v).ok().flatten()).map_or(0, i64::cast_unsigned)
}

/// A logging process id; 0 is none.
fn logging_pid(value: Option<&Json<'_>>) -> Option<i64> {
    scalar::pid(value?).ok().flatten().filter(|pid| *pid > 0)
}

/// Text of a scalar, borrowed where it can be.
fn text_of<'d>(value: Option<&'d Json<'_>>) -> Option<Cow<'d, str>> {
    scalar::text(value?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        scalar::time_text(text).unwrap().utc().unwrap()
    }

    /// Section 15, cases 38 to 40.
    #[test]
    fn utc_time_counts_unless_it_lags() {
        let created = at("2026-03-02T09:14:05.100Z");
        let cases = [
            ("2026-03-02T09:14:05.095Z", 1, TimeQuality::Exact, "2026-03-02T09:14:05.095Z"),
            ("2026-03-02T09:13:03.000Z", 1, TimeQuality::Exact, "2026-03-02T09:13:03.000Z"),
            ("2026-03-02T09:13:03.000Z", 22, TimeQuality::Lagged, "2026-03-02T09:14:05.100Z"),
            ("2026-02-24T18:50:05.000Z", 3, TimeQuality::Lagged, "2026-03-02T09:14:05.100Z"),
            ("2026-03-02T14:14:05.090Z", 1, TimeQuality::ZoneSuspect, "2026-03-02T14:14:05.090Z"),
            ("2026-03-02T03:44:05.090Z", 3, TimeQuality::ZoneSuspect, "2026-03-02T03:44:05.090Z"),
        ];
        for (utc, id, quality, expected) in cases {
            assert_eq!(sysmon_time(created, at(utc), id), (at(expected), quality), "{utc} {id}");
        }
    }

    /// Section 15, case 48.
    #[test]
    fn the_remote_end_follows_who_opened_it() {
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 5].into(), [203, 0, 113, 9].into());
        let ends = Ends { source: (Some(b), Some(50_000)), destination: (Some(a), Some(443)) };
        let mut connection = Connection::default();
        ends.apply(Some("tcp"), Some(false), &[], &mut connection);
        assert_eq!(
            (connection.remote_ip, connection.local_port, connection.direction.as_deref()),
            (Some(b), Some(443), Some("inbound"))
        );
        ends.apply(Some("udp"), Some(true), &[a], &mut connection);
        assert_eq!((connection.local_ip, connection.direction.as_deref()), (Some(a), Some("unknown")));
    }
}
