//! What to switch on so that a blind class becomes visible: generated from what hosts sent, with the text to paste. Pure.

use crate::model::coverage::Seen;

/// One thing that is not collected.
#[derive(Debug)]
pub(crate) struct Advice {
    /// What is missing.
    pub(crate) title: &'static str,
    /// Classes it makes visible.
    pub(crate) classes: &'static str,
    /// What stays invisible without it.
    pub(crate) without: &'static str,
    /// How to get it, apart from Sysmon.
    pub(crate) how: &'static str,
    /// Commands or configuration to paste.
    pub(crate) snippet: &'static str,
    /// Element of a Sysmon configuration that switches it on.
    sysmon: Option<&'static str>,
    lacks: fn(&Seen) -> bool,
}

/// Whether less than 95 of 100 have it. Source: detection design, section 4.2.
fn few(part: i64, whole: i64) -> bool {
    whole > 0 && part * 100 < whole * 95
}

const CPU: &str = "metricbeat.modules:\n  - module: system\n    metricsets: [cpu, process]\n    period: 60s\n    processes: ['.*']\n    process.include_top_n: {by_cpu: 20, by_memory: 5}\n    cpu.metrics: [percentages, normalized_percentages]";

/// Everything that can be missing, what decides first.
pub(crate) const ADVICE: [Advice; 11] = [
    Advice {
        title: "CPU of processes",
        classes: "R",
        without: "Nobody can say that a machine is busy: neither analytic gives an alert.",
        how: "Metricbeat (module system), Telegraf (procstat) or the OpenTelemetry Collector (hostmetrics), every 60 s, at least 20 processes.",
        snippet: CPU,
        sysmon: None,
        lacks: |s| s.with_cpu * 100 < s.alive * 80,
    },
    Advice {
        title: "CPU of the whole host",
        classes: "R",
        without: "Load that is spread over many processes, or hidden from the list of processes, is not seen.",
        how: "The `cpu` metric set of the same agent.",
        snippet: CPU,
        sysmon: None,
        lacks: |s| s.with_host_cpu == 0 && s.with_cpu > 0,
    },
    Advice {
        title: "Process starts",
        classes: "C L M",
        without: "Nothing is known about what runs, who started it and what it calls itself.",
        how: "Sysmon event 1, or Security 4688 with command lines.",
        snippet: "auditpol /set /subcategory:\"Process Creation\" /success:enable\nreg add HKLM\\Software\\Microsoft\\Windows\\CurrentVersion\\Policies\\System\\Audit /v ProcessCreationIncludeCmdLine_Enabled /t REG_DWORD /d 1 /f",
        sysmon: Some("<ProcessCreate onmatch=\"exclude\"/>"),
        lacks: |s| s.starts == 0,
    },
    Advice {
        title: "Command lines of process starts",
        classes: "C",
        without: "Miner options, wallets and obfuscated commands are not seen.",
        how: "Group policy: Administrative Templates, System, Audit Process Creation, Include command line; or Sysmon event 1.",
        snippet: "reg add HKLM\\Software\\Microsoft\\Windows\\CurrentVersion\\Policies\\System\\Audit /v ProcessCreationIncludeCmdLine_Enabled /t REG_DWORD /d 1 /f",
        sysmon: Some("<ProcessCreate onmatch=\"exclude\"/>"),
        lacks: |s| few(s.starts_with_command, s.starts),
    },
    Advice {
        title: "Parents of process starts",
        classes: "L",
        without: "Nobody sees what launched a process.",
        how: "Sysmon event 1; Security 4688 names the parent since Windows 10.",
        snippet: "sysmon64 -accepteula -i sysmon.xml",
        sysmon: Some("<ProcessCreate onmatch=\"exclude\"/>"),
        lacks: |s| few(s.starts_with_parent, s.starts),
    },
    Advice {
        title: "Version data and hashes of images",
        classes: "M",
        without: "A renamed miner looks like the program whose name it took.",
        how: "Sysmon event 1 with HashAlgorithms sha256; 4688 never has them.",
        snippet: "sysmon64 -accepteula -i sysmon.xml",
        sysmon: Some("<ProcessCreate onmatch=\"exclude\"/>"),
        lacks: |s| s.starts > 0 && s.starts_with_metadata == 0,
    },
    Advice {
        title: "Connections with their image",
        classes: "N P",
        without: "Nobody sees which process talks to a pool.",
        how: "Sysmon event 3, or Security 5156.",
        snippet: "auditpol /set /subcategory:\"Filtering Platform Connection\" /success:enable",
        sysmon: Some("<NetworkConnect onmatch=\"exclude\"/>"),
        lacks: |s| s.connections == 0,
    },
    Advice {
        title: "Names looked up",
        classes: "N",
        without: "Pools are known by name; an address alone says little.",
        how: "Sysmon event 22, or the DNS log of a network sensor.",
        snippet: "wevtutil sl Microsoft-Windows-DNS-Client/Operational /e:true",
        sysmon: Some("<DnsQuery onmatch=\"exclude\"/>"),
        lacks: |s| s.dns == 0,
    },
    Advice {
        title: "How long connections last",
        classes: "P",
        without: "A connection held for hours looks like one that was closed at once.",
        how: "Zeek conn.log, Suricata flow records, or the traffic log of a firewall: Sysmon knows no end of a connection.",
        snippet: "# suricata.yaml\noutputs:\n  - eve-log:\n      enabled: yes\n      types: [flow, dns, tls]",
        sysmon: None,
        lacks: |s| s.flows == 0,
    },
    Advice {
        title: "PowerShell script blocks",
        classes: "C L",
        without: "What a script does in memory is not seen.",
        how: "Event 4104 of Microsoft-Windows-PowerShell/Operational.",
        snippet: "reg add HKLM\\Software\\Policies\\Microsoft\\Windows\\PowerShell\\ScriptBlockLogging /v EnableScriptBlockLogging /t REG_DWORD /d 1 /f",
        sysmon: None,
        lacks: |s| s.scripts == 0,
    },
    Advice {
        title: "Scheduled tasks and WMI subscriptions",
        classes: "L",
        without: "How a miner comes back after a restart is not seen.",
        how: "Security 4698 to 4702, the TaskScheduler log (129 is the only link from task to process), Sysmon 19 to 21.",
        snippet: "auditpol /set /subcategory:\"Other Object Access Events\" /success:enable\nwevtutil sl Microsoft-Windows-TaskScheduler/Operational /e:true",
        sysmon: Some("<WmiEvent onmatch=\"exclude\"/>"),
        lacks: |s| s.tasks == 0,
    },
];

/// What is missing where: advice with the hosts it is for, in the order of [`ADVICE`].
pub(crate) fn missing<'a>(hosts: impl Iterator<Item = (&'a str, Seen)>) -> Vec<(&'static Advice, Vec<&'a str>)> {
    let hosts: Vec<(&str, Seen)> = hosts.filter(|(_, seen)| seen.alive > 0).collect();
    let found = ADVICE.iter().map(|advice| (advice, hosts.iter().filter(|(_, seen)| (advice.lacks)(seen)).map(|(name, _)| *name).collect::<Vec<_>>()));
    found.filter(|(_, names)| !names.is_empty()).collect()
}

/// A Sysmon configuration that switches on what is missing and Sysmon can give; `None` when it can give nothing.
pub(crate) fn sysmon<'a>(advice: impl Iterator<Item = &'a Advice>) -> Option<String> {
    let mut elements: Vec<&str> = advice.filter_map(|a| a.sysmon).collect();
    elements.sort_unstable();
    elements.dedup();
    if elements.is_empty() {
        return None;
    }
    let groups: String = elements.iter().flat_map(|e| ["    <RuleGroup groupRelation=\"or\">", *e, "</RuleGroup>\n"]).collect();
    Some(format!(
        "<Sysmon schemaversion=\"4.50\">\n  <HashAlgorithms>sha256</HashAlgorithms>\n  <EventFiltering>\n{groups}  </EventFiltering>\n</Sysmon>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_follows_what_is_missing() {
        let whole = Seen {
            alive: 10, with_cpu: 10, with_host_cpu: 10, starts: 100, starts_with_command: 100, starts_with_parent: 100,
            starts_with_metadata: 1, connections: 1, flows: 1, dns: 1, scripts: 1, tasks: 1, ..Seen::default()
        };
        assert!(missing([("a", whole)].into_iter()).is_empty());
        let half = Seen { with_cpu: 7, starts_with_command: 90, dns: 0, ..whole };
        let found = missing([("a", whole), ("b", half), ("silent", Seen::default())].into_iter());
        let titles: Vec<_> = found.iter().map(|(a, hosts)| (a.title, hosts.clone())).collect();
        assert_eq!(titles, [("CPU of processes", vec!["b"]), ("Command lines of process starts", vec!["b"]), ("Names looked up", vec!["b"])]);
        let xml = sysmon(found.iter().map(|(a, _)| *a)).unwrap();
        assert!(xml.contains("<ProcessCreate") && xml.contains("<DnsQuery") && !xml.contains("<NetworkConnect"), "{xml}");
        assert_eq!(sysmon(ADVICE.iter().take(2)), None);
    }
}
