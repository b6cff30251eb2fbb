//! Which addresses a name on the public network may lead to: a reference must not make this server knock at doors
//! that only it can reach (TBR §5.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Is this a unicast address of the public Internet? False for private, loopback, link-local, shared (RFC 6598),
/// documentation, benchmarking, reserved, multicast and unspecified ones, for IPv6 forms that wrap an IPv4 address
/// (mapped, compatible, 6to4, Teredo), and for NAT64 (RFC 6052) of an address for which it is false.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// Can this be connected to at all?
pub(super) fn is_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_multicast() || address.is_unspecified() || broadcast)
}

/// IANA IPv4 Special-Purpose Address Registry.
fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let special = match (a, b, c) {
        (0 | 10 | 127, ..) => true,
        (100, 64..=127, _) => true,
        (169, 254, _) => true,
        (172, 16..=31, _) => true,
        (192, 0, 0 | 2) => true,
        (192, 88, 99) => true,
        (192, 168, _) => true,
        (198, 18 | 19, _) => true,
        (198, 51, 100) => true,
        (203, 0, 113) => true,
        _ => a >= 224,
    };
    !special
}

/// Global unicast is 2000::/3; the rest by the IANA IPv6 Special-Purpose Address Registry.
fn is_public_v6(v6: Ipv6Addr) -> bool {
    let [a, b, ..] = v6.segments();
    if v6.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let [.., w, x, y, z] = v6.octets();
        return is_public_v4(Ipv4Addr::new(w, x, y, z));
    }
    let special = match (a, b) {
        // IETF assignments: Teredo, ORCHID, benchmarking, …
        (0x2001, 0..=0x1ff) => true,
        (0x2001, 0xdb8) => true,
        // 6to4
        (0x2002, _) => true,
        (0x3fff, 0..=0xfff) => true,
        _ => !(0x2000..=0x3fff).contains(&a),
    };
    !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_unicast_is_public() {
        for text in ["9.9.9.9", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1", "198.20.0.1"]
        {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["2a00::1", "2001:200::1", "2620:fe::fe", "64:ff9b::909:909"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:9.9.9.9",
            "::ffff:127.0.0.1",
            "::9.9.9.9",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::909:909",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:909:909::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn nobody_can_connect_to_many_or_none() {
        for text in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"] {
            assert!(!is_unicast(text.parse().unwrap()), "{text}");
        }
        assert!(is_unicast("127.0.0.1".parse().unwrap()));
    }
}
