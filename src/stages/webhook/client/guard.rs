//! Which addresses requests may go to. Pure. A partner chooses the URL, so without this check anyone who may
//! register an endpoint could have us talk to our own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

/// Decides on addresses, after resolution.
#[derive(Debug, Clone, Default)]
pub(in crate::stages::webhook) struct Guard {
    /// Private, loopback and link-local addresses are allowed too.
    pub(in crate::stages::webhook) allow_private_networks: bool,
    /// Networks that are allowed whatever they are.
    pub(in crate::stages::webhook) allowed: Arc<[IpNet]>,
}

impl Guard {
    /// Whether a request may be sent to `ip`.
    pub(super) fn allows(&self, ip: IpAddr) -> bool {
        let plain = ip.to_canonical();
        self.allow_private_networks
            || is_public(ip)
            || self.allowed.iter().any(|network| network.contains(&plain))
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match embedded_v4(ip) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(ip),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b)) // carrier-grade NAT, RFC 6598
        || (a == 192 && b == 0 && c == 0) // IETF protocol assignments, RFC 6890
        || (a == 192 && b == 88 && c == 99) // 6to4 relays, RFC 7526
        || (a == 198 && (b == 18 || b == 19)) // benchmarking, RFC 2544
        || ip == Ipv4Addr::new(168, 63, 129, 16)) // public by number, but a cloud's own service to its machines
}

/// Public addresses are global unicast ones (RFC 4291: 2000::/3), but for what IANA has set aside of these. Everything
/// else is none: loopback, unique local (where some clouds have their metadata), link-local, multicast, discard-only
/// (RFC 6666), translated (RFC 2765, RFC 8215), segment routing (RFC 9602), and what isn't assigned at all.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    first & 0xe000 == 0x2000
        // IETF protocol assignments, 2001::/23 (RFC 2928): Teredo, whose inner address is anybody's choice, benchmarking,
        // ORCHID, drone tags.
        && !(first == 0x2001 && second < 0x0200)
        && !(first == 0x2001 && second == 0x0db8) // documentation, RFC 3849
        && !(first == 0x3fff && second < 0x1000) // the same, RFC 9637
        && first != 0x2002 // 6to4, RFC 3056: the inner address is anybody's choice
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, or NAT64 (RFC 6052).
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(from(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(from(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_pass_unless_private_ones_are_allowed() {
        let (strict, open) = (Guard::default(), Guard { allow_private_networks: true, ..Guard::default() });
        for public in [
            "1.1.1.1",
            "93.184.216.34",
            "100.128.0.1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2a00:1450::1",
            "3ffe::1",
            "64:ff9b::1.1.1.1",
            "::ffff:1.1.1.1",
        ] {
            assert!(strict.allows(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "100.64.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:101:101",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::101:101",
            "100::1",
            "100:0:0:1::1",
            "2001:0:101:101::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:3f::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:101:101::",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "fe80::a9fe:a9fe",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!strict.allows(private.parse().unwrap()), "{private}");
            assert!(open.allows(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn a_network_that_is_allowed_passes_in_every_spelling_and_its_neighbours_do_not() {
        let allowed = ["10.1.0.0/16", "fd12:3456::/32"].map(|network| network.parse().unwrap());
        let guard = Guard { allowed: Arc::from(allowed), ..Guard::default() };
        for inside in ["10.1.0.1", "10.1.255.255", "::ffff:10.1.0.1", "fd12:3456::1", "1.1.1.1"] {
            assert!(guard.allows(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["10.2.0.1", "127.0.0.1", "::ffff:10.2.0.1", "fd12:3457::1", "::1"] {
            assert!(!guard.allows(outside.parse().unwrap()), "{outside}");
        }
    }
}
