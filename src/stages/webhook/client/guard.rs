//! Which addresses requests may go to. Pure. A partner chooses the URL, so without this check anyone who may
//! register an endpoint could have us talk to our own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Decides on addresses, after resolution.
#[derive(Debug, Clone, Copy)]
pub(in crate::stages::webhook) struct Guard {
    /// Private, loopback and link-local addresses are allowed too.
    pub(in crate::stages::webhook) allow_private_networks: bool,
}

impl Guard {
    /// Whether a request may be sent to `ip`.
    pub(super) fn allows(self, ip: IpAddr) -> bool {
        self.allow_private_networks || is_public(ip)
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
        || (a == 198 && (b == 18 || b == 19))) // benchmarking, RFC 2544
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, third, ..] = ip.segments();
    !(ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_unique_local()
        || ip.is_unicast_link_local()
        || (first == 0x2001 && second == 0x0db8) // documentation, RFC 3849
        || (first == 0x2001 && second == 0) // Teredo, RFC 4380: the IPv4 address in it is anybody's choice
        || first == 0x2002 // 6to4, RFC 3056: the same
        || (first == 0x64 && second == 0xff9b && third == 1) // NAT64 of a network's own, RFC 8215
        || matches!(ip.segments(), [0, 0, 0, 0, 0xffff, 0, _, _]) // translated IPv4, RFC 2765
        || first & 0xffc0 == 0xfec0) // site-local, deprecated by RFC 3879
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
        let strict = Guard { allow_private_networks: false };
        for public in [
            "1.1.1.1",
            "93.184.216.34",
            "100.128.0.1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "64:ff9b::1.1.1.1",
            "::ffff:1.1.1.1",
        ] {
            assert!(strict.allows(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "100.64.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2002:101:101::",
            "2001:0:101:101::1",
            "64:ff9b:1::101:101",
            "::ffff:0:101:101",
            "192.88.99.1",
        ] {
            assert!(!strict.allows(private.parse().unwrap()), "{private}");
            assert!(Guard { allow_private_networks: true }.allows(private.parse().unwrap()), "{private}");
        }
    }
}
