//! Sigma's view of a fact: log-source category and field names of Sigma's Windows taxonomy, read from the typed columns without copies.
//!
//! [`taxonomy!`] is the one table of names; it reads facts for the evaluator and makes facts from the examples of rules. What
//! stands in no column (`CommandText`, `Hashes`, `Initiated` ..) is in [`derived`].

use crate::model::{
    fact::{
        Connection, DnsQuery, Fact, FileWrite, ModuleLoad, Persistence, ProcessStart, ProcessTamper, Script,
        SecurityAlert, SettingChange,
    },
    group::{base_name, folder},
    ids::ProcessGuid,
};
use rsigma_eval::{Event, EventValue};
use std::{borrow::Cow, net::IpAddr};

macro_rules! categories {
    ($( $(#[$doc:meta])* $variant:ident $name:literal; )*) => {
        /// A log-source category: an event meets only the rules of its own. Names are Sigma's where Sigma has one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Category { $( $(#[$doc])* $variant, )* }

        impl Category {
            /// All, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As a rule names it.
            pub fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }
        }
    };
}

categories! {
    /// Sysmon 1, Security 4688.
    ProcessCreation "process_creation";
    /// Sysmon 3, Security 5156.
    NetworkConnection "network_connection";
    /// Sensor, proxy and firewall records (our own name).
    NetworkFlow "network_flow";
    /// Sysmon 22 and DNS logs.
    DnsQuery "dns_query";
    /// Sysmon 7.
    ImageLoad "image_load";
    /// Sysmon 6.
    DriverLoad "driver_load";
    /// Sysmon 11.
    FileEvent "file_event";
    /// Sysmon 15.
    StreamHash "create_stream_hash";
    /// Sysmon 23, 26.
    FileDelete "file_delete";
    /// Sysmon 13 and registry audits, Run values included.
    RegistrySet "registry_set";
    /// PowerShell 4104.
    PsScript "ps_script";
    /// PowerShell 4103.
    PsModule "ps_module";
    /// Windows PowerShell 400, 800.
    PsClassic "ps_classic_start";
    /// Sysmon 19 to 21, WMI-Activity 5861.
    WmiEvent "wmi_event";
    /// Security 4698, 4702, TaskScheduler (our own name).
    ScheduledTask "scheduled_task";
    /// System 7045, Security 4697 (our own name).
    ServiceInstall "service_install";
    /// Sysmon 10.
    ProcessAccess "process_access";
    /// Sysmon 8.
    RemoteThread "create_remote_thread";
    /// Sysmon 25.
    ProcessTampering "process_tampering";
    /// Alerts of security products.
    Antivirus "antivirus";
    /// Defender, firewall, privileges, services, event logs (our own name).
    SecuritySetting "security_setting";
}

/// Categories whose facts carry a text that is run: what `category: command_text` means. Source: detection design, section 5 C.
pub(super) const COMMAND_TEXT: &[Category] = &[
    Category::ProcessCreation,
    Category::PsScript,
    Category::PsModule,
    Category::PsClassic,
    Category::WmiEvent,
    Category::ScheduledTask,
    Category::ServiceInstall,
];
/// One process reaching into another: what `category: process_injection` means.
const PROCESS_INJECTION: &[Category] = &[Category::ProcessAccess, Category::RemoteThread];

impl Category {
    /// What a rule's `logsource.category` stands for; empty = we have no such facts.
    pub fn named(name: &str) -> &'static [Self] {
        match name {
            "command_text" => COMMAND_TEXT,
            "process_injection" => PROCESS_INJECTION,
            _ => Self::ALL.iter().position(|c| c.name() == name).map_or(&[], |n| &Self::ALL[n..=n]),
        }
    }

    /// Category of a fact; `None` where no rule can apply: samples, ends of processes, artefacts that are gone.
    pub fn of(fact: &Fact) -> Option<Self> {
        Some(match fact {
            Fact::ProcessStart(_) => Self::ProcessCreation,
            Fact::Connection(f) => {
                if f.kind.as_deref() == Some("socket") {
                    Self::NetworkConnection
                } else {
                    Self::NetworkFlow
                }
            }
            Fact::DnsQuery(_) => Self::DnsQuery,
            Fact::ModuleLoad(f) => {
                if f.kind.as_deref() == Some("driver") {
                    Self::DriverLoad
                } else {
                    Self::ImageLoad
                }
            }
            Fact::FileWrite(f) => match f.kind.as_deref().unwrap_or_default() {
                "create" => Self::FileEvent,
                "stream" => Self::StreamHash,
                "delete" => Self::FileDelete,
                _ => return None,
            },
            Fact::Script(f) => match f.kind.as_deref().unwrap_or_default() {
                "block" => Self::PsScript,
                "module" => Self::PsModule,
                _ => Self::PsClassic,
            },
            Fact::Persistence(f) if matches!(f.action.as_deref(), Some("delete" | "disable" | "end")) => return None,
            Fact::Persistence(f) => match f.kind.as_deref().unwrap_or_default() {
                "task" => Self::ScheduledTask,
                "service" => Self::ServiceInstall,
                "run_key" => Self::RegistrySet,
                _ => Self::WmiEvent,
            },
            Fact::ProcessTamper(f) => match f.kind.as_deref().unwrap_or_default() {
                "access" => Self::ProcessAccess,
                "remote_thread" => Self::RemoteThread,
                _ => Self::ProcessTampering,
            },
            Fact::SettingChange(f) if f.kind.as_deref() == Some("registry") => Self::RegistrySet,
            Fact::SettingChange(_) => Self::SecuritySetting,
            Fact::SecurityAlert(_) => Self::Antivirus,
            Fact::ProcessStop(_) | Fact::CpuSample(_) | Fact::HostSample(_) | Fact::OtherEvent(_) => return None,
        })
    }

    /// A fact of this category that says nothing yet; examples fill it.
    fn blank(self) -> Fact {
        let kind = |kind: &str| Some(kind.to_owned());
        match self {
            Self::ProcessCreation => ProcessStart::default().into(),
            Self::NetworkConnection => Connection { kind: kind("socket"), ..Connection::default() }.into(),
            Self::NetworkFlow => Connection { kind: kind("flow"), ..Connection::default() }.into(),
            Self::DnsQuery => DnsQuery::default().into(),
            Self::ImageLoad => ModuleLoad { kind: kind("image"), ..ModuleLoad::default() }.into(),
            Self::DriverLoad => ModuleLoad { kind: kind("driver"), ..ModuleLoad::default() }.into(),
            Self::FileEvent => FileWrite { kind: kind("create"), ..FileWrite::default() }.into(),
            Self::StreamHash => FileWrite { kind: kind("stream"), ..FileWrite::default() }.into(),
            Self::FileDelete => FileWrite { kind: kind("delete"), ..FileWrite::default() }.into(),
            Self::RegistrySet => SettingChange { kind: kind("registry"), ..SettingChange::default() }.into(),
            Self::PsScript => Script { kind: kind("block"), ..Script::default() }.into(),
            Self::PsModule => Script { kind: kind("module"), ..Script::default() }.into(),
            Self::PsClassic => Script { kind: kind("host"), ..Script::default() }.into(),
            Self::WmiEvent => Persistence { kind: kind("wmi_consumer"), ..Persistence::default() }.into(),
            Self::ScheduledTask => Persistence { kind: kind("task"), ..Persistence::default() }.into(),
            Self::ServiceInstall => Persistence { kind: kind("service"), ..Persistence::default() }.into(),
            Self::ProcessAccess => ProcessTamper { kind: kind("access"), ..ProcessTamper::default() }.into(),
            Self::RemoteThread => ProcessTamper { kind: kind("remote_thread"), ..ProcessTamper::default() }.into(),
            Self::ProcessTampering => ProcessTamper { kind: kind("tamper"), ..ProcessTamper::default() }.into(),
            Self::Antivirus => SecurityAlert::default().into(),
            Self::SecuritySetting => SettingChange { kind: kind("av_config"), ..SettingChange::default() }.into(),
        }
    }
}

/// A column as the evaluator sees it, and back from an example's text.
trait Column: Sized {
    fn show(&self) -> EventValue<'_>;
    fn read(text: &str) -> Option<Self>;
}

impl Column for String {
    fn show(&self) -> EventValue<'_> {
        EventValue::Str(Cow::Borrowed(self))
    }
    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Column for i64 {
    fn show(&self) -> EventValue<'_> {
        EventValue::Int(*self)
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Column for bool {
    fn show(&self) -> EventValue<'_> {
        EventValue::Bool(*self)
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Column for IpAddr {
    fn show(&self) -> EventValue<'_> {
        EventValue::Str(Cow::Owned(self.to_string()))
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Column for ProcessGuid {
    fn show(&self) -> EventValue<'_> {
        EventValue::Str(Cow::Owned(self.0.to_string()))
    }
    fn read(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

impl<T: Column> Column for Vec<T> {
    fn show(&self) -> EventValue<'_> {
        EventValue::Array(self.iter().map(Column::show).collect())
    }
    fn read(text: &str) -> Option<Self> {
        text.split(';').map(T::read).collect()
    }
}

macro_rules! taxonomy {
    ($( $variant:ident { $( $sigma:literal = $field:ident, )* } )*) => {
        /// The column that Sigma calls so; `None` = no such column, or nothing in it.
        fn column<'f>(fact: &'f Fact, name: &str) -> Option<EventValue<'f>> {
            match fact {
                $( Fact::$variant(f) => match name { $( $sigma => f.$field.as_ref().map(Column::show), )* _ => None }, )*
                _ => None,
            }
        }

        /// Fills the column that Sigma calls so; `None` = no such column, or a text that does not fit it.
        fn fill(fact: &mut Fact, name: &str, text: &str) -> Option<()> {
            match fact {
                $( Fact::$variant(f) => match name { $( $sigma => f.$field = Some(Column::read(text)?), )* _ => return None }, )*
                _ => return None,
            }
            Some(())
        }

        /// Names of the columns of a fact's kind.
        fn names(fact: &Fact) -> &'static [&'static str] {
            match fact { $( Fact::$variant(_) => &[$($sigma),*], )* _ => &[] }
        }
    };
}

taxonomy! {
    ProcessStart {
        "Image" = image, "CommandLine" = command_line, "OriginalFileName" = original_file_name, "Company" = company,
        "Product" = product, "Description" = description, "User" = user_name, "IntegrityLevel" = integrity,
        "ParentImage" = parent_image, "ParentCommandLine" = parent_command_line, "ProcessGuid" = guid, "ProcessId" = pid,
        "ParentProcessGuid" = parent_guid, "ParentProcessId" = parent_pid, "TerminalSessionId" = session, "Signature" = signer,
    }
    ProcessTamper {
        "Image" = image, "TargetImage" = image, "TargetProcessGuid" = guid, "TargetProcessId" = pid, "SourceImage" = source_image,
        "SourceProcessGuid" = source_guid, "SourceProcessId" = source_pid, "Type" = detail, "GrantedAccess" = detail, "EventType" = kind,
    }
    ModuleLoad {
        "Image" = image, "ImageLoaded" = path, "OriginalFileName" = original_file_name, "Company" = company, "Product" = product,
        "Description" = description, "Signature" = signer, "ProcessGuid" = guid, "ProcessId" = pid,
    }
    FileWrite { "Image" = image, "TargetFilename" = path, "ProcessGuid" = guid, "ProcessId" = pid, }
    Connection {
        "Image" = image, "Protocol" = protocol, "SourceIp" = local_ip, "SourcePort" = local_port, "DestinationIp" = remote_ip,
        "DestinationPort" = remote_port, "DestinationHostname" = remote_host, "Application" = application, "ProcessGuid" = guid,
        "ProcessId" = pid,
    }
    DnsQuery {
        "Image" = image, "QueryName" = query, "QueryStatus" = status, "QueryResults" = addresses, "ProcessGuid" = guid,
        "ProcessId" = pid,
    }
    Persistence {
        "Image" = image, "TaskName" = name, "ServiceName" = name, "Name" = name, "TargetObject" = name, "Command" = command,
        "Destination" = command, "ServiceFileName" = command, "ImagePath" = command, "Arguments" = arguments, "Author" = author,
        "Query" = detail, "User" = by_user, "AccountName" = run_as, "RunLevel" = run_level, "Hidden" = hidden,
        "Triggers" = triggers, "ClassId" = com_class, "EventType" = action, "ProcessGuid" = guid, "ProcessId" = pid,
    }
    Script {
        "ScriptBlockText" = text, "Payload" = text, "ScriptBlockId" = script_id, "Path" = path, "HostApplication" = command_line,
        "User" = user_name, "ProcessId" = pid,
    }
    SecurityAlert {
        "Signature" = threat, "Severity" = severity, "Category" = category, "Filename" = path, "ProcessName" = process,
        "User" = user_name, "Action" = action,
    }
    SettingChange {
        "Image" = image, "TargetObject" = name, "Details" = new_value, "User" = user_name, "ProcessGuid" = guid, "ProcessId" = pid,
        "EventType" = kind,
    }
}

/// Joins a program and its arguments as they would stand on a command line.
fn joined<'f>(command: Option<&'f String>, arguments: Option<&'f String>) -> Option<Cow<'f, str>> {
    match (command, arguments) {
        (Some(command), Some(arguments)) => Some(Cow::Owned(format!("{command} {arguments}"))),
        (Some(one), None) | (None, Some(one)) => Some(Cow::Borrowed(one)),
        (None, None) => None,
    }
}

/// The text a fact runs, or would run: command line, script, task action, service path, consumer command.
pub(super) fn command_text(fact: &Fact) -> Option<Cow<'_, str>> {
    match fact {
        Fact::ProcessStart(f) => f.command_line.as_deref().map(Cow::Borrowed),
        Fact::Script(f) => {
            joined(f.command_line.as_ref().filter(|_| f.kind.as_deref() == Some("host")), f.text.as_ref())
        }
        Fact::Persistence(f) if f.kind.as_deref() != Some("run_key") => {
            joined(f.command.as_ref(), f.arguments.as_ref())
        }
        _ => None,
    }
}

/// Fields that are read off several columns, or spelled differently by Sigma.
fn derived<'f>(fact: &'f Fact, name: &str) -> Option<EventValue<'f>> {
    let owned = |text: String| EventValue::Str(Cow::Owned(text));
    let word = |text: &'static str| EventValue::Str(Cow::Borrowed(text));
    let parent = |path: &Option<String>| path.as_deref().map(|p| owned(folder(&p.to_lowercase()).to_owned()));
    match (name, fact) {
        ("CommandText" | "TaskContent", _) => command_text(fact).map(EventValue::Str),
        ("Details", Fact::Persistence(f)) => joined(f.command.as_ref(), f.arguments.as_ref()).map(EventValue::Str),
        ("Hashes", Fact::ProcessStart(f)) => f.sha256.as_ref().map(|h| owned(format!("SHA256={}", h.to_uppercase()))),
        ("Hashes", Fact::ModuleLoad(f)) => f.sha256.as_ref().map(|h| owned(format!("SHA256={}", h.to_uppercase()))),
        ("Initiated", Fact::Connection(f)) => match f.direction.as_deref() {
            Some("outbound") => Some(word("true")),
            Some("inbound") => Some(word("false")),
            _ => None,
        },
        ("Signed", Fact::ModuleLoad(f)) => {
            f.signature.as_deref().map(|s| word(if s == "unsigned" { "false" } else { "true" }))
        }
        ("SignatureStatus", Fact::ModuleLoad(f)) => match f.signature.as_deref()? {
            "valid" => Some(word("Valid")),
            "invalid" => Some(word("Invalid")),
            _ => Some(word("Unavailable")),
        },
        ("ImageDirectory", Fact::ModuleLoad(f)) => parent(&f.image),
        ("LoadedDirectory", Fact::ModuleLoad(f)) => parent(&f.path),
        ("SourceDirectory", Fact::ProcessTamper(f)) => parent(&f.source_image),
        ("TargetDirectory", Fact::ProcessTamper(f)) => parent(&f.image),
        _ => None,
    }
}

/// A fact under Sigma's names.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'f>(pub(super) &'f Fact);

impl Event for View<'_> {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        column(self.0, path).or_else(|| derived(self.0, path))
    }

    fn any_string_value(&self, pred: &dyn Fn(&str) -> bool) -> bool {
        names(self.0).iter().filter_map(|name| column(self.0, name)).any(|v| v.as_str().is_some_and(|text| pred(&text)))
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        let text = |name: &&str| column(self.0, name).and_then(|v| v.as_str().map(|t| Cow::Owned(t.into_owned())));
        names(self.0).iter().filter_map(text).collect()
    }

    fn to_json(&self) -> serde_json::Value {
        names(self.0).iter().filter_map(|name| Some(((*name).to_owned(), column(self.0, name)?.to_json()))).collect()
    }
}

/// A bare text as if it were run: what was found inside base64.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decoded<'t>(pub(super) &'t str);

impl Event for Decoded<'_> {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        (path == "CommandText").then_some(EventValue::Str(Cow::Borrowed(self.0)))
    }

    fn any_string_value(&self, pred: &dyn Fn(&str) -> bool) -> bool {
        pred(self.0)
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        vec![Cow::Borrowed(self.0)]
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "CommandText": self.0 })
    }
}

/// Makes the fact that an example describes.
///
/// # Errors
/// Names the field that the category lacks, or whose text does not fit.
pub(super) fn fact_of<'e>(
    category: Category,
    fields: impl IntoIterator<Item = (&'e str, &'e str)>,
) -> Result<Fact, String> {
    let put = |column: &mut Option<String>, text: &str| {
        *column = Some(text.to_lowercase());
        Some(())
    };
    let mut fact = category.blank();
    for (name, text) in fields {
        let filled = match (name, &mut fact) {
            // Not columns under Sigma's name, but what rules on signatures need.
            ("SignatureStatus", Fact::ProcessStart(f)) => put(&mut f.signature, text),
            ("SignatureStatus", Fact::ModuleLoad(f)) => put(&mut f.signature, text),
            ("Hashes", Fact::ProcessStart(f)) => {
                text.strip_prefix("SHA256=").map(|hash| f.sha256 = Some(hash.to_lowercase()))
            }
            (_, fact) => fill(fact, name, text),
        };
        filled.ok_or_else(|| format!("`{name}: {text}` is not a field and value of category {}", category.name()))?;
    }
    Ok(fact)
}

/// Name by which people know the subject of a fact, for excerpts without a text of their own.
pub(super) fn subject_name(fact: &Fact) -> &str {
    fact.subject().2.map_or("", base_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_category_makes_facts_of_itself() {
        for category in Category::ALL {
            assert_eq!(Category::of(&category.blank()), Some(*category));
            assert_eq!(Category::named(category.name()), &[*category]);
        }
        assert!(Category::named("bitbucket").is_empty());
    }

    #[test]
    fn fields_are_read_under_sigmas_names() {
        let connection: Fact = Connection {
            remote_ip: Some("203.0.113.7".parse().unwrap()),
            remote_port: Some(3333),
            direction: Some("outbound".to_owned()),
            ..Connection::default()
        }
        .into();
        let view = View(&connection);
        assert_eq!(view.get_field("DestinationPort"), Some(EventValue::Int(3333)));
        assert_eq!(view.get_field("Initiated").unwrap().as_str().unwrap(), "true");
        assert_eq!(view.get_field("DestinationIp").unwrap().as_str().unwrap(), "203.0.113.7");
        assert_eq!(view.get_field("DestinationHostname"), None);
        assert_eq!(view.get_field("CommandLine"), None);
    }

    #[test]
    fn a_tasks_action_is_one_text_and_gone_tasks_have_none() {
        let task = Persistence {
            kind: Some("task".to_owned()),
            command: Some("a.exe".to_owned()),
            arguments: Some("-x".to_owned()),
            ..Persistence::default()
        };
        assert_eq!(command_text(&task.clone().into()).as_deref(), Some("a.exe -x"));
        let gone: Fact = Persistence { action: Some("delete".to_owned()), ..task }.into();
        assert_eq!(Category::of(&gone), None);
    }
}
