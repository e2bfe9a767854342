//! Evidence that only matters beside load, command or pool: how a process was launched, what it talks to and how long, whether
//! it hides, what speaks for it. Pure functions of the case; each file is one class.
//!
//! A new code: a function here and its line in [`find`].

mod auxiliary;
mod benign;
mod command;
mod launch;
mod masquerade;
mod network;
mod profile;

use super::case::{Case, Item};
use crate::model::code::Code;

/// All contextual evidence of the case, with lineage decay.
pub fn find(case: &Case) -> Vec<Item> {
    let mut items = Vec::new();
    launch::find(case, &mut items);
    masquerade::find(case, &mut items);
    command::find(case, &mut items);
    network::find(case, &mut items);
    masquerade::hollow(case, &mut items);
    auxiliary::find(case, &mut items);
    for item in &mut items {
        // L items describe the chain: no decay.
        if item.code.class() != crate::model::code::Class::L
            && let Some((factor, hops)) = item.process.and_then(|p| case.distance(p))
        {
            (item.hop, item.hops) = (factor, hops);
        }
    }
    // Approved destinations are neither rare nor strange; on a list they stay what they are.
    items.retain(|i| !(matches!(i.code, Code::NRare | Code::PRare | Code::NPersist) && case.tunables.approves(&i.subject)));
    profile::anomaly(case, &mut items);
    let benign = benign::find(case, &items);
    items.extend(benign);
    items
}

/// Whether an internal destination on this port may be a pool's proxy or a wallet's node.
pub fn is_internal_pool_port(port: i32) -> bool {
    network::MINE_PORTS.contains(&port) || network::NODE_PORTS.contains(&port)
}

/// What started the case, in words: task, service, consumer or Run value.
pub(super) fn launch_root(case: &Case, items: &[Item]) -> Option<String> {
    launch::root(case, items)
}
