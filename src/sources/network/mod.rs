//! Network sensors, proxies and firewalls: they know addresses, not processes. A record belongs to its internal end.

pub(super) mod ecs;
pub(super) mod firewall;
mod flow;
pub(super) mod squid;
pub(super) mod suricata;
pub(super) mod zeek;
pub(super) mod zeek_table;
