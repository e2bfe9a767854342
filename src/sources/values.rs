//! Values of a Windows event by name, however the sender wraps them: `EventData`, `UserData`, flat, positional, or moved to
//! ECS fields by an ingest pipeline.
//!
//! A value that cannot be used is null and its name is kept for `field_errors`.

use super::{
    json::{Json, Members, member},
    scalar::{self, Read},
};
use crate::model::ids::ProcessGuid;
use smallvec::SmallVec;
use std::{borrow::Cow, cell::RefCell, net::IpAddr};

/// One map of values.
#[derive(Debug)]
pub(super) enum Layer<'a> {
    Borrowed(&'a Members<'a>),
    Owned(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Layer<'a> {
    fn members(&self) -> &Members<'a> {
        match self {
            Self::Borrowed(members) => members,
            Self::Owned(members) => members,
        }
    }
}

/// How a sender writes names and texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Spelling {
    #[default]
    Plain,
    /// Texts are XML-escaped once (NXLog).
    Escaped,
    /// First letters are lower case and backslashes doubled (Wazuh).
    Wazuh,
}

/// Values of one event.
#[derive(Debug, Default)]
pub(super) struct Values<'a> {
    pub(super) layers: SmallVec<[Layer<'a>; 2]>,
    /// Nameless values of classic events.
    pub(super) texts: Vec<Cow<'a, str>>,
    /// Document in which an ingest pipeline moved values to ECS fields.
    pub(super) ecs: Option<&'a Json<'a>>,
    pub(super) spelling: Spelling,
    /// Rendered text, for senders that lose values otherwise (NXLog only: it is localised and can be wrong).
    pub(super) message: Option<&'a str>,
    pub(super) errors: RefCell<Vec<String>>,
}

impl<'a> Values<'a> {
    /// Values of one map.
    pub(super) fn of(members: &'a Members<'a>) -> Self {
        Self { layers: smallvec::smallvec![Layer::Borrowed(members)], ..Self::default() }
    }

    /// Values that only ECS fields hold.
    pub(super) fn of_ecs(doc: &'a Json<'a>) -> Self {
        Self { ecs: Some(doc), ..Self::default() }
    }

    fn own(&self, name: &str) -> Option<&Json<'a>> {
        self.layers.iter().find_map(|layer| match self.spelling {
            Spelling::Wazuh => layer.members().iter().find(|(key, _)| same_but_first_letter(key, name)).map(|(_, v)| v),
            _ => member(layer.members(), name),
        })
    }

    fn moved(&self, name: &str) -> Option<&Json<'a>> {
        let doc = self.ecs?;
        ecs_paths(name).iter().find_map(|path| doc.at(path))
    }

    /// The value, wherever it is.
    pub(super) fn find(&self, name: &str) -> Option<Cow<'_, Json<'a>>> {
        if let Some(found) = self.own(name).or_else(|| self.moved(name)) {
            return Some(Cow::Borrowed(found));
        }
        let text = message_value(self.message?, name)?;
        Some(Cow::Owned(Json::Str(Cow::Borrowed(text))))
    }

    /// Whether any map or field has it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    fn read<T>(&self, name: &str, reader: impl Fn(&Json<'_>) -> Read<T>) -> Option<T> {
        reader(self.find(name)?.as_ref()).unwrap_or_else(|scalar::Bad| {
            self.note(name);
            None
        })
    }

    /// Text, without the words for nothing.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.find(name)? {
            Cow::Borrowed(value) => scalar::text(value).map(|text| self.spelled(text)),
            Cow::Owned(value) => scalar::text(&value).map(|text| Cow::Owned(text.into_owned())),
        }
    }

    fn spelled<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        let changed = match self.spelling {
            Spelling::Plain => None,
            Spelling::Escaped => match scalar::unescape_once(&text) {
                Cow::Owned(plain) => Some(plain),
                Cow::Borrowed(_) => None,
            },
            Spelling::Wazuh => text.contains("\\\\").then(|| text.replace("\\\\", "\\")),
        };
        changed.map_or(text, Cow::Owned)
    }

    /// Owned text.
    pub(super) fn string(&self, name: &str) -> Option<String> {
        self.text(name).map(Cow::into_owned)
    }

    /// Text of a value whose name is compared without blanks, `_` and case (Defender).
    pub(super) fn loose(&self, name: &str) -> Option<String> {
        let plain = |text: &str| -> String {
            text.chars().filter(|c| !matches!(c, ' ' | '_')).map(|c| c.to_ascii_lowercase()).collect()
        };
        let wanted = plain(name);
        let found = self.layers.iter().flat_map(Layer::members).find(|(key, _)| plain(key) == wanted)?;
        scalar::text(&found.1).map(|text| self.spelled(text).into_owned())
    }

    /// A process id, decimal or hexadecimal.
    pub(super) fn pid(&self, name: &str) -> Option<i64> {
        self.read(name, scalar::pid)
    }

    /// A process id that only the event's own values may give, not an ECS field of another meaning.
    pub(super) fn own_pid(&self, name: &str) -> Option<i64> {
        self.own(name)?;
        self.read(name, scalar::pid)
    }

    /// A number that is not negative.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.read(name, scalar::number)
    }

    /// True or false.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.read(name, scalar::flag)
    }

    /// An entity id.
    pub(super) fn guid(&self, name: &str) -> Option<ProcessGuid> {
        self.read(name, scalar::guid)
    }

    /// An address.
    pub(super) fn ip(&self, name: &str) -> Option<IpAddr> {
        self.read(name, scalar::ip)
    }

    /// An account, `DOM\name`.
    pub(super) fn account(&self, name: &str) -> Option<String> {
        if let Some(text) = self.text(name) {
            return scalar::account(&text);
        }
        let doc = self.ecs.filter(|_| name == "User")?;
        scalar::domain_account(doc.str_at("user.domain"), doc.str_at("user.name")?)
    }

    /// SHA-256 from `Hashes`, or the ECS field it was moved to.
    pub(super) fn sha256(&self) -> Option<String> {
        if let Some(hashes) = self.text("Hashes").or_else(|| self.text("Hash")) {
            return scalar::sha256(&hashes);
        }
        let doc = self.ecs?;
        ["process.hash.sha256", "file.hash.sha256", "dll.hash.sha256"]
            .iter()
            .find_map(|path| scalar::sha256_hex(doc.str_at(path)?))
    }

    /// Notes a value that was there but could not be read as meant.
    pub(super) fn note(&self, name: &str) {
        self.errors.borrow_mut().push(name.to_owned());
    }

    /// Names whose values could not be used.
    pub(super) fn take_errors(&self) -> Vec<String> {
        self.errors.take()
    }
}

/// `ProcessId` = `processId`.
fn same_but_first_letter(a: &str, b: &str) -> bool {
    match (a.split_at_checked(1), b.split_at_checked(1)) {
        (Some((a0, a)), Some((b0, b))) => a == b && a0.eq_ignore_ascii_case(b0),
        _ => false,
    }
}

/// `Name: value` on a line of its own.
fn message_value<'m>(message: &'m str, name: &str) -> Option<&'m str> {
    message
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))
        .map(|v| v.strip_prefix(' ').unwrap_or(v))
}

/// Where Elastic's ingest pipelines put a value. Source: wire formats, section 11, and Winlogbeat's golden files.
fn ecs_paths(name: &str) -> &'static [&'static str] {
    match name {
        "ProcessGuid" | "SourceProcessGuid" | "SourceProcessGUID" => &["process.entity_id"],
        "ProcessId" | "NewProcessId" | "SourceProcessId" => &["process.pid"],
        "Image" | "NewProcessName" | "ProcessName" | "SourceImage" => &["process.executable"],
        "CommandLine" => &["process.command_line"],
        "OriginalFileName" => {
            &["process.pe.original_file_name", "file.pe.original_file_name", "dll.pe.original_file_name"]
        }
        "Company" => &["process.pe.company", "file.pe.company", "dll.pe.company"],
        "Product" => &["process.pe.product", "file.pe.product", "dll.pe.product"],
        "Description" => &["process.pe.description", "file.pe.description", "dll.pe.description"],
        "ParentProcessGuid" => &["process.parent.entity_id"],
        "ParentProcessId" => &["process.parent.pid"],
        "ParentImage" | "ParentProcessName" => &["process.parent.executable"],
        "ParentCommandLine" => &["process.parent.command_line"],
        "TargetFilename" | "Path" => &["file.path"],
        "ImageLoaded" => &["dll.path", "file.path"],
        "TargetObject" => &["registry.path"],
        "Details" => &["registry.data.strings"],
        "SourceIp" => &["source.ip"],
        "SourcePort" => &["source.port"],
        "DestinationIp" => &["destination.ip"],
        "DestinationPort" => &["destination.port"],
        "DestinationHostname" => &["destination.domain"],
        "Protocol" => &["network.transport"],
        "QueryName" => &["dns.question.name"],
        "Signature" => &["file.code_signature.subject_name", "dll.code_signature.subject_name"],
        "SignatureStatus" => &["file.code_signature.status", "dll.code_signature.status"],
        "Signed" => &["file.code_signature.signed", "dll.code_signature.signed", "file.code_signature.exists"],
        "ScriptBlockText" => &["powershell.file.script_block_text"],
        "ScriptBlockId" => &["powershell.file.script_block_id"],
        "MessageNumber" => &["powershell.sequence"],
        "MessageTotal" => &["powershell.total"],
        "ServiceName" => &["service.name"],
        _ => &[],
    }
}
