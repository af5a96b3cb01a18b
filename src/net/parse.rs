//! Addresses as the Kubernetes API has them: leading zeros in IPv4 octets are decimal (contract 1.6, scenario J16).

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// Parses an address; IPv4 octets may have leading zeros and are decimal. An IPv4-mapped IPv6 address is IPv4, as Go
/// treats it. `None` if it is no address.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<std::net::Ipv6Addr>().ok().map(|ip| IpAddr::V6(ip).to_canonical());
    }
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

/// Parses `address/length` with [`parse_ip`]'s leniency and clears the host bits. `None` if it is no network.
pub fn parse_cidr(text: &str) -> Option<IpNet> {
    let (ip, length) = text.split_once('/')?;
    if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let net = IpNet::new(parse_ip(ip)?, length.parse().ok()?).ok()?;
    Some(net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zeros_are_decimal() {
        assert_eq!(parse_ip("010.010.0.008"), Some("10.10.0.8".parse().unwrap()));
        assert_eq!(parse_cidr("010.0.0.1/08"), Some("10.0.0.0/8".parse().unwrap()));
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "+1.2.3.4", "1.2.3.4/8", "fe80::1%eth0", "::g"] {
            assert_eq!(parse_ip(text), None, "{text}");
        }
        for text in ["", "1.2.3.4", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/+8", "::/129"] {
            assert_eq!(parse_cidr(text), None, "{text}");
        }
    }
}
