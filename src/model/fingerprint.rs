//! What a detection shares with detections of other hosts: a destination, a hash, a wallet, a task. Whether that is rare enough to mean
//! something is the fleet's knowledge, in `store::campaigns`. Source: detection design, section 8.7.

use crate::model::{
    code::Code,
    detection::Content,
    networks::is_well_known,
};
use regex::Regex;
use std::{collections::BTreeSet, sync::LazyLock};

/// Kind and value.
pub type Fingerprint = (&'static str, String);

/// Monero, Kaspa and Zephyr addresses, as `rules/command/wallet.yml` finds them.
static WALLET: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b([48][0-9AB](?:[1-9A-HJ-NP-Za-km-z]{104}|[1-9A-HJ-NP-Za-km-z]{93})|kaspa:[0-9a-z]{61,63}|ZEPH[1-9A-HJ-NP-Za-km-z]{90,})\b")
        .expect("a constant pattern")
});

/// Everything a detection could share.
pub fn of(content: &Content) -> BTreeSet<Fingerprint> {
    let mut found = BTreeSet::new();
    let has = |code: Code| content.evidence.iter().any(|e| e.code == code);
    for d in &content.destinations {
        if let Some(name) = d.host.as_deref().or(d.ip.as_deref()).filter(|n| !is_well_known(n)) {
            found.insert(("destination", name.to_lowercase()));
        }
    }
    if let Some(process) = &content.process {
        found.extend(process.sha256.as_ref().map(|hash| ("sha256", hash.to_lowercase())));
        let line = process.command_line.as_deref().filter(|_| has(Code::CWallet));
        found.extend(line.and_then(|l| WALLET.captures(l)).and_then(|c| c.get(1)).map(|w| ("wallet", w.as_str().to_owned())));
    }
    // A task that is only unusual is a vendor's on every host.
    if has(Code::LTaskSusp) {
        let tasks = content.persistence.iter().filter(|p| p.kind == "scheduled_task" && !p.name.to_lowercase().starts_with("\\microsoft\\"));
        found.extend(tasks.map(|t| ("task", t.name.to_lowercase())));
    }
    found
}
