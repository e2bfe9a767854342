//! Which addresses are the organisation's own, and which destinations everybody has.
//!
//! Source: detection design, section 5 (`InternalNetworks`) and 3.7 (`KnownDestinations`); documentation ranges are external.

use ipnet::IpNet;
use std::{net::IpAddr, sync::LazyLock};

static INTERNAL: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    [
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4",
        "255.255.255.255/32", "0.0.0.0/8", "::1/128", "::/128", "fc00::/7", "fe80::/10", "ff00::/8",
    ]
    .iter()
    .filter_map(|n| n.parse().ok())
    .collect()
});

/// Whether the address lies outside `InternalNetworks`.
pub fn is_external(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    !INTERNAL.iter().any(|n| n.contains(&ip))
}

/// Operating system, vendor-update, identity and mail endpoints; never content networks, object storage or code hosting.
const WELL_KNOWN: &[&str] = &[
    "windowsupdate.com", "update.microsoft.com", "delivery.mp.microsoft.com", "events.data.microsoft.com", "wdcp.microsoft.com",
    "wd.microsoft.com", "login.microsoftonline.com", "login.live.com", "outlook.office365.com", "outlook.office.com",
    "smartscreen.microsoft.com", "ocsp.digicert.com", "crl.microsoft.com", "settings-win.data.microsoft.com", "time.windows.com",
    "msftconnecttest.com", "manage.microsoft.com", "sls.microsoft.com",
];

/// Whether the name is, or lies below, a well-known endpoint.
pub fn is_well_known(name: &str) -> bool {
    WELL_KNOWN.iter().any(|known| is_at_or_below(name, known))
}

/// Public resolvers that answer over HTTPS (`DohResolvers`). Source: the operators' own pages.
const DOH_RESOLVERS: &[&str] = &[
    "dns.google", "cloudflare-dns.com", "one.one.one.one", "dns.quad9.net", "dns9.quad9.net", "doh.opendns.com", "dns.adguard-dns.com",
    "doh.cleanbrowsing.org", "dns.nextdns.io", "doh.dns.sb", "doh.mullvad.net", "dns.mullvad.net", "freedns.controld.com", "dns.alidns.com",
    "1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "149.112.112.112", "208.67.222.222", "208.67.220.220",
];

/// Whether a name or address is that of a public resolver over HTTPS.
pub fn is_doh_resolver(destination: &str) -> bool {
    DOH_RESOLVERS.iter().any(|known| is_at_or_below(destination, known))
}

/// Whether `name` equals `parent` or is a subdomain of it, on label boundaries.
pub fn is_at_or_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_on_label_boundaries() {
        assert!(is_at_or_below("eu1.pool.example", "pool.example"));
        assert!(!is_at_or_below("whirlpool.example", "pool.example"));
        assert!(is_well_known("fe3cr.delivery.mp.microsoft.com"));
    }

    #[test]
    fn documentation_addresses_are_external_and_private_ones_are_not() {
        assert!(is_external("203.0.113.9".parse().unwrap()));
        assert!(!is_external("::ffff:10.0.0.1".parse().unwrap()));
    }
}
