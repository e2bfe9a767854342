//! Settings of the analytics under their official names (ATT&CK mutable elements of AN0741 and AN1489), global and per host class.
//!
//! Parsed and checked here; `store::tunables` keeps their history, the worker reads those in force. Source: detection design, section 2.

use crate::model::{
    exceptions::{Invalid, same_path, wildcard},
    group::{base_name, comparable_path, folder},
    names::{self, NamePatterns},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// What a setting is.
#[derive(Debug, Serialize)]
pub struct Definition {
    /// Official name, or a local one.
    pub name: &'static str,
    /// Analytics it belongs to.
    pub analytics: &'static [&'static str],
    /// Named so by ATT&CK; the others are local extensions.
    pub official: bool,
    /// Unit or form of the value.
    pub unit: &'static str,
    /// One sentence.
    pub says: &'static str,
    /// Where it is changed, if not here.
    pub elsewhere: Option<&'static str>,
}

/// Every setting, in the order of pages. Names: MITRE ATT&CK v18.1, AN0741 and AN1489, mutable elements.
pub const DEFINITIONS: &[Definition] = &[
    Definition { name: "TimeWindow", analytics: &["AN0741"], official: true, unit: "minutes, 5 to 1440, whole buckets of 5", says: "hot minutes until R.SUSTAINED", elsewhere: None },
    Definition { name: "DestinationIPList", analytics: &["AN0741"], official: true, unit: "indicators", says: "addresses, networks and names of pools, proxies, Tor and DNS over HTTPS", elsewhere: Some("/api/v1/indicators") },
    Definition { name: "ExecutableNamePatterns", analytics: &["AN0741"], official: true, unit: "regular expressions on a whole base name", says: "names of mining programs: image, original file name, product, description", elsewhere: None },
    Definition { name: "Image", analytics: &["AN1489"], official: true, unit: "list of {name, folders}", says: "system names and the folders they may run from, over the shipped table", elsewhere: None },
    Definition { name: "DestinationIP", analytics: &["AN1489"], official: true, unit: "names or addresses, * = any text", says: "approved destinations: no N.RARE, P.RARE or N.PERSIST; never silences N.IOC", elsewhere: None },
    Definition { name: "ParentProcessName", analytics: &["AN1489"], official: true, unit: "list of {image, signer, child_sha256?, child_signer?}", says: "good automation beside the shipped ones: what it starts gets B.ADMIN", elsewhere: None },
    Definition { name: "CPUThreshold", analytics: &["AN0741", "AN1489"], official: false, unit: "percent of the host, 5 to 100; a run ends below two thirds of it", says: "load from which a run is hot (official only on the Linux siblings AN0742 and AN1490)", elsewhere: None },
];

/// Where a system binary may run from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemImage {
    /// Base name.
    pub name: String,
    /// Folders, with all below them.
    pub folders: Vec<String>,
}

/// Automation whose children are administration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoodParent {
    /// Path of the parent; `*` = any text.
    pub image: String,
    /// Its signer, where the signature is known.
    pub signer: String,
    /// Only children with this hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_sha256: Option<String>,
    /// Only children of this signer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_signer: Option<String>,
}

/// What is known of a process that a parent started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Child<'a> {
    /// Hex.
    pub sha256: Option<&'a str>,
    /// Only if the signature is valid.
    pub signer: Option<&'a str>,
}

/// The settings of one class of hosts, parsed.
#[derive(Debug, Clone)]
pub struct Tunables {
    /// Newest change among them; 0 = as shipped.
    pub version: i64,
    /// `TimeWindow`.
    pub time_window_minutes: i32,
    /// `CPUThreshold`, percent of the host.
    pub cpu_threshold: f32,
    /// `ExecutableNamePatterns`, if not as shipped.
    pub miners: Option<NamePatterns>,
    /// `Image`, by lower-case base name.
    pub images: BTreeMap<String, Vec<String>>,
    /// `DestinationIP`.
    pub approved_destinations: Vec<String>,
    /// `ParentProcessName`.
    pub parents: Vec<GoodParent>,
}

impl Default for Tunables {
    fn default() -> Self {
        Self {
            version: 0,
            time_window_minutes: 15,
            cpu_threshold: 30.0,
            miners: None,
            images: BTreeMap::new(),
            approved_destinations: Vec::new(),
            parents: Vec::new(),
        }
    }
}

/// What a setting is as shipped. `None` for those that are kept elsewhere.
pub fn shipped(name: &str) -> Option<Value> {
    Some(match name {
        "TimeWindow" => json!(15),
        "CPUThreshold" => json!(30.0),
        "ExecutableNamePatterns" => json!(names::MINERS),
        "Image" | "DestinationIP" | "ParentProcessName" => json!([]),
        _ => return None,
    })
}

const MOST_ITEMS: usize = 500;

fn list<T: DeserializeOwned>(field: &'static str, value: &Value) -> Result<Vec<T>, Invalid> {
    let items: Vec<T> = serde_json::from_value(value.clone()).map_err(|e| Invalid { field, reason: e.to_string() })?;
    if items.len() > MOST_ITEMS {
        return Err(Invalid { field, reason: format!("at most {MOST_ITEMS} items") });
    }
    Ok(items)
}

impl Tunables {
    /// The same with one setting changed.
    ///
    /// # Errors
    /// Unknown name, wrong form or range.
    pub fn with(mut self, name: &str, value: &Value) -> Result<Self, Invalid> {
        let Some(definition) = DEFINITIONS.iter().find(|d| d.name == name) else {
            let known = DEFINITIONS.iter().map(|d| d.name).collect::<Vec<_>>().join(", ");
            return Err(Invalid { field: "values", reason: format!("unknown setting `{name}`: expected {known}") });
        };
        let field = definition.name;
        let wrong = |reason: String| Invalid { field, reason };
        let range = || wrong(definition.unit.to_owned());
        match field {
            "TimeWindow" => {
                let minutes = value.as_i64().filter(|m| (5..=1440).contains(m) && m % 5 == 0).ok_or_else(range)?;
                self.time_window_minutes = i32::try_from(minutes).map_err(|_| range())?;
            }
            "CPUThreshold" => self.cpu_threshold = value.as_f64().filter(|p| (5.0..=100.0).contains(p)).ok_or_else(range)? as f32,
            "ExecutableNamePatterns" => {
                let patterns: Vec<String> = list(field, value)?;
                for pattern in &patterns {
                    let alone = NamePatterns::new(std::slice::from_ref(pattern)).map_err(|e| wrong(format!("`{pattern}`: {e}")))?;
                    if pattern.len() > 200 || alone.matches("svchost.exe") && alone.matches("chrome.exe") {
                        return Err(wrong(format!("`{pattern}` is too long or matches anything")));
                    }
                }
                let as_shipped = patterns.iter().map(String::as_str).eq(names::MINERS.iter().copied());
                let compiled = NamePatterns::new(&patterns).map_err(|e| wrong(e.to_string()))?;
                self.miners = (!as_shipped).then_some(compiled);
            }
            "Image" => {
                let mut images = BTreeMap::new();
                for image in list::<SystemImage>(field, value)? {
                    let name = image.name.trim().to_lowercase();
                    if name.is_empty() || name.contains(['\\', '/', '*']) {
                        return Err(wrong(format!("`{}`: a base name like svchost.exe", image.name)));
                    }
                    let folders: Vec<String> = image.folders.iter().map(|f| comparable_path(f.trim()).trim_end_matches('\\').to_owned()).collect();
                    if folders.is_empty() || folders.iter().any(|f| f.len() < 4 || !f.contains('\\')) {
                        return Err(wrong(format!("`{name}`: name folders like C:\\Tools\\Acme")));
                    }
                    images.insert(name, folders);
                }
                self.images = images;
            }
            "DestinationIP" => {
                let approved: Vec<String> = list(field, value)?;
                if let Some(wide) = approved.iter().find(|d| d.trim().trim_matches(['*', '.']).is_empty()) {
                    return Err(wrong(format!("`{wide}` would approve anything")));
                }
                self.approved_destinations = approved.iter().map(|d| d.trim().trim_end_matches('.').to_lowercase()).collect();
            }
            "ParentProcessName" => {
                let parents: Vec<GoodParent> = list(field, value)?;
                if let Some(bad) = parents.iter().find(|p| p.signer.trim().is_empty() || p.image.trim().trim_matches(['*', '\\']).is_empty()) {
                    return Err(wrong(format!("`{}`: give a path and the signer: a name alone is what attackers choose", bad.image)));
                }
                self.parents = parents;
            }
            _ => return Err(wrong(format!("is kept at {}", definition.elsewhere.unwrap_or_default()))),
        }
        Ok(self)
    }

    /// Percent below which a run ends: two thirds of the threshold, as 20 is of 30. Source: detection design, section 5, R.SUSTAINED.
    pub fn cpu_exit(&self) -> f32 {
        self.cpu_threshold * 2.0 / 3.0
    }

    /// Whether names of programs are judged otherwise than by the shipped rules.
    pub fn judges_names(&self) -> bool {
        self.miners.is_some() || !self.images.is_empty()
    }

    /// Whether the setting `Image` says where the program of this path belongs, and if so whether it lies there or where Windows keeps it.
    pub fn placed(&self, path: &str) -> Option<bool> {
        let path = comparable_path(path);
        let folders = self.images.get(base_name(&path))?;
        let here = folder(&path);
        let in_windows = names::SYSTEM_NAMES.contains(&base_name(&path)) && names::in_system_folder(&path);
        Some(in_windows || folders.iter().any(|f| here.strip_prefix(f.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('\\'))))
    }

    /// Whether a parent is automation by `ParentProcessName`. A signature that is not known does not speak against it.
    pub fn is_good_parent(&self, image: &str, signer: Option<&str>, child: Child<'_>) -> bool {
        let same = |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|w| found.is_some_and(|f| wildcard(w, f)));
        self.parents.iter().any(|p| {
            same_path(&p.image, image)
                && signer.is_none_or(|s| wildcard(&p.signer, s))
                && same(&p.child_sha256, child.sha256)
                && same(&p.child_signer, child.signer)
        })
    }

    /// Whether a destination, with or without port, is approved. Names include what is below them.
    pub fn approves(&self, destination: &str) -> bool {
        let name = destination.rsplit_once(':').map_or(destination, |(name, port)| if port.parse::<u16>().is_ok() { name } else { destination });
        self.approved_destinations.iter().any(|d| wildcard(d, name) || (name.parse::<std::net::IpAddr>().is_err() && wildcard(&format!("*.{d}"), name)))
    }
}

/// The settings of all classes.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    everywhere: Arc<Tunables>,
    by_class: BTreeMap<String, Arc<Tunables>>,
}

/// One value in force: its class (`None` = everywhere), name, version.
#[derive(Debug, Clone, PartialEq)]
pub struct InForce {
    /// Lower case; `None` = everywhere.
    pub host_class: Option<String>,
    /// Name of the setting.
    pub name: String,
    /// Its value; null = taken back, what is above it holds.
    pub value: Value,
    /// The change that set it.
    pub version: i64,
}

impl Settings {
    /// Resolves values: those of a class go before those of everywhere, and these before the shipped ones.
    ///
    /// # Errors
    /// A value that cannot be read.
    pub fn of(values: &[InForce]) -> Result<Self, Invalid> {
        let resolve = |base: &Tunables, class: Option<&str>| {
            values.iter().filter(|v| v.host_class.as_deref() == class).try_fold(base.clone(), |tunables, v| {
                let version = tunables.version.max(v.version);
                let tunables = if v.value.is_null() { tunables } else { tunables.with(&v.name, &v.value)? };
                Ok(Tunables { version, ..tunables })
            })
        };
        let everywhere = resolve(&Tunables::default(), None)?;
        let classes: std::collections::BTreeSet<&str> = values.iter().filter_map(|v| v.host_class.as_deref()).collect();
        let by_class = classes.into_iter().map(|c| Ok((c.to_owned(), Arc::new(resolve(&everywhere, Some(c))?)))).collect::<Result<_, Invalid>>()?;
        Ok(Self { everywhere: Arc::new(everywhere), by_class })
    }

    /// The settings of a class of hosts.
    pub fn class(&self, class: Option<&str>) -> &Arc<Tunables> {
        class.and_then(|c| self.by_class.get(&c.to_lowercase())).unwrap_or(&self.everywhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_goes_before_everywhere_and_that_before_what_is_shipped() {
        let value = |class: Option<&str>, name: &str, value: Value, version| InForce { host_class: class.map(str::to_owned), name: name.to_owned(), value, version };
        let settings = Settings::of(&[
            value(Some("build"), "CPUThreshold", json!(80), 3),
            value(None, "TimeWindow", json!(30), 2),
            value(None, "CPUThreshold", json!(25), 1),
        ])
        .unwrap();
        let of = |class| {
            let t = settings.class(class);
            (t.cpu_threshold, t.time_window_minutes, t.version)
        };
        assert_eq!((of(Some("BUILD")), of(Some("office")), of(None)), ((80.0, 30, 3), (25.0, 30, 2), (25.0, 30, 2)));
        assert!((settings.class(None).cpu_exit() - 25.0 * 2.0 / 3.0).abs() < 1e-4);
    }

    #[test]
    fn values_out_of_form_or_too_wide_are_refused_by_name() {
        for (name, value, says) in [
            ("TimeWindow", json!(7), "whole buckets"),
            ("TimeWindow", json!("15"), "minutes"),
            ("CPUThreshold", json!(2), "5 to 100"),
            ("ExecutableNamePatterns", json!(["("]), "`(`"),
            ("ExecutableNamePatterns", json!([".*"]), "anything"),
            ("Image", json!([{"name": "C:\\x.exe", "folders": ["C:\\Tools"]}]), "base name"),
            ("Image", json!([{"name": "cmd.exe", "folders": []}]), "folders"),
            ("DestinationIP", json!(["*"]), "anything"),
            ("ParentProcessName", json!([{"image": "*\\agent.exe", "signer": ""}]), "signer"),
            ("ParentProcessName", json!([{"image": "a", "signer": "b", "port": 1}]), "port"),
            ("DestinationIPList", json!([]), "/api/v1/indicators"),
            ("Colour", json!(1), "unknown setting `Colour`"),
        ] {
            let refused = Tunables::default().with(name, &value).unwrap_err();
            assert!(refused.to_string().contains(says), "{name} {value}: {refused}");
        }
        for definition in DEFINITIONS {
            if let Some(value) = shipped(definition.name) {
                let t = Tunables::default().with(definition.name, &value).unwrap();
                assert!(!t.judges_names(), "{} as shipped changes nothing", definition.name);
            }
        }
    }

    #[test]
    fn names_places_and_destinations_are_judged_by_what_is_set() {
        let t = Tunables::default()
            .with("Image", &json!([{"name": "Svchost.exe", "folders": ["C:\\Windows\\System32", "D:\\Lab\\"]}])).unwrap()
            .with("DestinationIP", &json!(["grid.example", "198.51.100.*"])).unwrap()
            .with("ExecutableNamePatterns", &json!(["acme-?hash"])).unwrap();
        assert_eq!(t.placed(r"d:\lab\vm1\SVCHOST.EXE"), Some(true));
        assert_eq!(t.placed(r"C:\Windows\SysWOW64\svchost.exe"), Some(true), "beside the shipped table");
        assert_eq!(t.placed(r"D:\Labs\svchost.exe"), Some(false));
        assert_eq!(t.placed(r"D:\Lab\cmd.exe"), None);
        assert!(t.approves("eu.grid.example:443") && t.approves("198.51.100.7") && !t.approves("notgrid.example"));
        let miners = t.miners.unwrap();
        assert!(miners.matches("AcmeHash-2.1-cuda.exe") && !miners.matches("xmrig.exe"));
    }
}
