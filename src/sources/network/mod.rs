//! Network sensors, proxies and firewalls: they know addresses, not processes. A record belongs to its internal end.

mod flow;
pub(super) mod squid;
pub(super) mod suricata;
pub(super) mod zeek;
