//! Facts: what an event says, one struct and one table per kind. Added, completed, never changed.
//!
//! [`facts!`] is the one place that knows a fact's columns: it makes the struct, the column list and the COPY encoding, so
//! that table and type cannot drift apart (a test compares them with the database). Every fact row also has the key columns
//! of [`KEY_COLUMNS`], which `intake` fills.

mod copy;

pub use copy::{CopyText, CopyValue};

use crate::model::ids::ProcessGuid;
use chrono::{DateTime, Utc};
use std::net::IpAddr;

/// Columns that every fact table begins with, in this order; the first three are the primary key.
pub const KEY_COLUMNS: &[&str] =
    &["host_id", "occurred_at", "event_id", "segment_id", "ordinal", "time_quality", "field_errors"];

macro_rules! facts {
    ($(
        $(#[$doc:meta])*
        $name:ident in $table:literal { $( $(#[$field_doc:meta])* $field:ident: $type:ty, )* }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Default, PartialEq)]
            pub struct $name { $( $(#[$field_doc])* pub $field: Option<$type>, )* }

            impl $name {
                /// Table of this kind.
                pub const TABLE: &'static str = $table;
                /// Columns after [`KEY_COLUMNS`].
                pub const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),*];

                fn copy(&self, out: &mut CopyText) {
                    $( out.value(self.$field.as_ref()); )*
                }
            }
        )*

        /// A fact of any kind; one variant per table.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Fact { $( #[doc = concat!("A row of `", $table, "`.")] $name(Box<$name>), )* }

        impl Fact {
            /// Tables of all kinds with their columns after [`KEY_COLUMNS`].
            pub const TABLES: &'static [(&'static str, &'static [&'static str])] =
                &[$( ($name::TABLE, $name::COLUMNS) ),*];

            /// Which of [`Fact::TABLES`].
            pub fn table_index(&self) -> usize {
                let mut index = 0;
                $( if matches!(self, Self::$name(_)) { return index; } index += 1; )*
                index
            }

            /// Table of this fact.
            pub fn table(&self) -> &'static str {
                match self { $( Self::$name(_) => $name::TABLE, )* }
            }

            /// Appends the columns after [`KEY_COLUMNS`] in COPY text format.
            pub fn copy(&self, out: &mut CopyText) {
                match self { $( Self::$name(fact) => fact.copy(out), )* }
            }
        }

        $( impl From<$name> for Fact { fn from(fact: $name) -> Self { Self::$name(Box::new(fact)) } } )*
    };
}

facts! {
    /// A process began: Sysmon 1, Security 4688, ECS process start.
    ProcessStart in "process_start" {
        /// Entity id of the sensor.
        guid: ProcessGuid,
        /// Process id, as a number.
        pid: i64,
        /// Start to the microsecond.
        started_at: DateTime<Utc>,
        /// Path as given.
        image: String,
        /// As given, blanks at the end included.
        command_line: String,
        /// Version resource.
        original_file_name: String,
        /// Version resource.
        company: String,
        /// Version resource.
        product: String,
        /// Version resource.
        description: String,
        /// Lower-case hex.
        sha256: String,
        /// Signer, only if the signature is valid.
        signer: String,
        /// `valid`, `unsigned` or `invalid`; absent = not known.
        signature: String,
        /// `DOMAIN\name`, with SYSTEM, LOCAL SERVICE and NETWORK SERVICE in English.
        user_name: String,
        /// `low`, `medium`, `high` or `system`.
        integrity: String,
        /// Terminal session.
        session: i64,
        /// Entity id of the parent.
        parent_guid: ProcessGuid,
        /// Creator process id.
        parent_pid: i64,
        /// Path of the parent.
        parent_image: String,
        /// Command line of the parent.
        parent_command_line: String,
    }
    /// A process ended: Sysmon 5, Security 4689.
    ProcessStop in "process_stop" {
        /// Entity id of the sensor.
        guid: ProcessGuid,
        /// Process id.
        pid: i64,
        /// Path.
        image: String,
        /// End to the microsecond.
        ended_at: DateTime<Utc>,
    }
    /// One process reached into another: Sysmon 8, 10, 25.
    ProcessTamper in "process_tamper" {
        /// `tamper`, `remote_thread` or `access`.
        kind: String,
        /// Entity id of the victim.
        guid: ProcessGuid,
        /// Process id of the victim.
        pid: i64,
        /// Path of the victim.
        image: String,
        /// Entity id of the actor (8, 10).
        source_guid: ProcessGuid,
        /// Process id of the actor.
        source_pid: i64,
        /// Path of the actor.
        source_image: String,
        /// Sysmon 25 `Type`, or the granted access as hex.
        detail: String,
    }
    /// A module or driver was loaded: Sysmon 7, 6.
    ModuleLoad in "module_load" {
        /// `image` or `driver`.
        kind: String,
        /// Entity id of the loading process.
        guid: ProcessGuid,
        /// Process id of the loading process.
        pid: i64,
        /// Path of the loading process.
        image: String,
        /// Path of what was loaded.
        path: String,
        /// Lower-case hex.
        sha256: String,
        /// Version resource.
        original_file_name: String,
        /// Version resource.
        company: String,
        /// Version resource.
        product: String,
        /// Version resource.
        description: String,
        /// Signer, only if the signature is valid.
        signer: String,
        /// `valid`, `unsigned` or `invalid`.
        signature: String,
    }
    /// A file was written or deleted: Sysmon 11, 15, 23, 26, 27.
    FileWrite in "file_write" {
        /// `create`, `stream`, `delete` or `blocked`.
        kind: String,
        /// Entity id of the writer.
        guid: ProcessGuid,
        /// Process id of the writer.
        pid: i64,
        /// Path of the writer.
        image: String,
        /// Path of the file.
        path: String,
        /// Lower-case hex.
        sha256: String,
    }
    /// A connection that a host event shows, or a flow that a sensor, proxy or firewall saw.
    Connection in "connection" {
        /// `socket` (Sysmon 3, 5156), `flow` (sensor), `name` (TLS server name only) or `proxy`.
        kind: String,
        /// Entity id of the process.
        guid: ProcessGuid,
        /// Process id.
        pid: i64,
        /// Path of the process.
        image: String,
        /// `tcp`, `udp`, `icmp`.
        protocol: String,
        /// `outbound`, `inbound` or `unknown`.
        direction: String,
        /// The host's own end.
        local_ip: IpAddr,
        /// The host's own end.
        local_port: i64,
        /// The far end; for a proxy record the target, if known.
        remote_ip: IpAddr,
        /// The far end.
        remote_port: i64,
        /// Name of the far end: server name, proxy target.
        remote_host: String,
        /// First packet, to the microsecond.
        started_at: DateTime<Utc>,
        /// Last packet; absent = not known.
        ended_at: DateTime<Utc>,
        /// Sent by the host.
        bytes_out: i64,
        /// Received by the host.
        bytes_in: i64,
        /// What a sensor or firewall recognised (`ssl`, `stratum`).
        application: String,
        /// False = blocked.
        allowed: bool,
    }
    /// A name was looked up: Sysmon 22, Zeek, Suricata.
    DnsQuery in "dns_query" {
        /// Entity id of the asking process.
        guid: ProcessGuid,
        /// Process id.
        pid: i64,
        /// Path of the process.
        image: String,
        /// Lower case, without the last dot.
        query: String,
        /// `0` ok, else the resolver's code.
        status: String,
        /// Addresses of the answer.
        addresses: Vec<IpAddr>,
        /// Names of the answer (CNAME).
        aliases: Vec<String>,
    }
    /// CPU, memory or GPU of one process.
    CpuSample in "cpu_sample" {
        /// Entity id of the process.
        guid: ProcessGuid,
        /// Process id.
        pid: i64,
        /// Start of the process.
        started_at: DateTime<Utc>,
        /// Path.
        image: String,
        /// Base name, where no path is given.
        name: String,
        /// Percent of the whole host, 0 to 100; absent = only a counter.
        share: f64,
        /// Processor seconds used since the process started.
        cpu_seconds: f64,
        /// As sent.
        raw_value: f64,
        /// Field and unit it was sent in.
        raw_unit: String,
        /// Logical processors of the host, if the record says.
        logical_cpus: i64,
        /// Milliseconds between samples, if the record says.
        interval_ms: i64,
        /// Resident bytes.
        rss_bytes: i64,
        /// Percent of the busiest adapter's compute engines.
        gpu_share: f64,
        /// GPU adapter and engine, for summing.
        gpu_engine: String,
        /// Command line of the process, if the sampler gives it.
        command_line: String,
        /// Parent's process id, if the sampler gives it.
        parent_pid: i64,
        /// Processors kept busy, where the sampler counts in these and the record lacks their number.
        cores: f64,
    }
    /// CPU or graphics card of the whole host.
    HostSample in "host_sample" {
        /// Percent, 0 to 100.
        share: f64,
        /// Logical processors.
        logical_cpus: i64,
        /// Seconds since boot.
        uptime_seconds: i64,
        /// `system.cpu` or the like.
        source: String,
        /// Percent of one graphics card.
        gpu_share: f64,
    }
    /// Something that starts programs was made, changed, removed or ran: tasks, WMI subscriptions, services, Run values.
    Persistence in "persistence" {
        /// `task`, `wmi_filter`, `wmi_consumer`, `wmi_binding`, `wmi_activity` (starts nothing by itself), `service` or `run_key`.
        kind: String,
        /// `create`, `update`, `delete`, `enable`, `disable`, `launch` or `end`; none for `wmi_activity`.
        action: String,
        /// Task path, service, consumer or value name.
        name: String,
        /// First program it starts.
        command: String,
        /// Its arguments; script text of a script consumer.
        arguments: String,
        /// COM class of a task action.
        com_class: String,
        /// Account it runs as.
        run_as: String,
        /// `highest`, `least`.
        run_level: String,
        /// Hidden task.
        hidden: bool,
        /// Author as the task claims.
        author: String,
        /// Trigger names, comma separated, with repetition (`BootTrigger,TimeTrigger/PT10M`).
        triggers: String,
        /// Filter of a binding; query of a filter.
        detail: String,
        /// Who made it: `DOMAIN\name`.
        by_user: String,
        /// Entity id of the process that made it, if known.
        guid: ProcessGuid,
        /// Process that was launched (`launch`), or that made it.
        pid: i64,
        /// Image of the maker.
        image: String,
    }
    /// Script text or a PowerShell host line: 4104, 4103, 400, 800.
    Script in "script" {
        /// `block`, `module` or `host`.
        kind: String,
        /// Process id of the PowerShell host.
        pid: i64,
        /// Id of the block.
        script_id: String,
        /// Number of this part, from 1.
        part: i64,
        /// How many parts.
        parts: i64,
        /// Text of this part.
        text: String,
        /// File it came from.
        path: String,
        /// Command line of the host.
        command_line: String,
        /// `DOMAIN\name`.
        user_name: String,
    }
    /// A security product found something: Defender 1116, 1117.
    SecurityAlert in "security_alert" {
        /// Joins found and acted.
        detection_id: String,
        /// Threat name.
        threat: String,
        /// As the product words it.
        severity: String,
        /// As the product words it.
        category: String,
        /// File concerned, without `file:_`.
        path: String,
        /// Process concerned.
        process: String,
        /// `DOMAIN\name`.
        user_name: String,
        /// What was done.
        action: String,
    }
    /// A setting that matters changed: Defender, firewall, privileges, logging, other registry.
    SettingChange in "setting_change" {
        /// `av_config`, `firewall_rule`, `privilege`, `coverage` or `registry`.
        kind: String,
        /// What changed.
        name: String,
        /// Before.
        old_value: String,
        /// After.
        new_value: String,
        /// Entity id of the process.
        guid: ProcessGuid,
        /// Process id.
        pid: i64,
        /// Path of the process.
        image: String,
        /// `DOMAIN\name` or SID concerned.
        user_name: String,
    }
    /// Well formed, but not ours to judge: kept raw and counted.
    OtherEvent in "other_event" {
        /// Provider, module or data set.
        provider: String,
        /// Event log channel or log type.
        channel: String,
        /// Event id as text.
        code: String,
    }
}

impl Fact {
    /// Process this fact belongs to: entity id, process id, image.
    pub fn subject(&self) -> (Option<ProcessGuid>, Option<i64>, Option<&str>) {
        match self {
            Self::ProcessStart(f) => (f.guid, f.pid, f.image.as_deref()),
            Self::ProcessStop(f) => (f.guid, f.pid, f.image.as_deref()),
            Self::ProcessTamper(f) => (f.guid, f.pid, f.image.as_deref()),
            Self::ModuleLoad(f) => (f.guid, f.pid, f.image.as_deref()),
            Self::FileWrite(f) => (f.guid, f.pid, f.image.as_deref()),
            Self::Connection(f) => (f.guid, f.pid, f.image.as_deref()),
            Self::DnsQuery(f) => (f.guid, f.pid, f.image.as_deref()),
            Self::CpuSample(f) => (f.guid, f.pid, f.image.as_deref()),
            Self::Persistence(f) => (f.guid, f.pid, f.image.as_deref()),
            Self::Script(f) => (None, f.pid, None),
            Self::SettingChange(f) => (f.guid, f.pid, f.image.as_deref()),
            Self::HostSample(_) | Self::SecurityAlert(_) | Self::OtherEvent(_) => (None, None, None),
        }
    }
}
