//! Hashes that are the same on every machine and in every release.

use sha2::{Digest, Sha256};

/// The first 16 characters of the standard base32 text of SHA-256 over the concatenated parts: kube-proxy's chain
/// name hash (contract 3.1).
pub fn base32_sha256(parts: &[&[u8]]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    // 16 characters of 5 bits are the first 10 bytes: two groups of 5 bytes.
    let digest = hasher.finalize();
    let mut text = String::with_capacity(16);
    for group in digest[..10].chunks_exact(5) {
        let bits = group.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        for i in (0..8).rev() {
            text.push(ALPHABET[(bits >> (5 * i)) as usize & 31] as char);
        }
    }
    text
}

/// FNV-1a, 64 bits, with a final avalanche: spreads endpoints over groups. Not for untrusted tables.
pub fn stable_hash64(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // FNV alone leaves the high bits of short, similar inputs alike.
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden values of contract 3.1.
    #[test]
    fn chain_hashes_are_kube_proxys() {
        for (name, protocol, hash) in [
            ("ns1/svc1:p80", "tcp", "XPGD46QRK7WJZT7O"),
            ("ns2/svc2:p80", "tcp", "GNZBNJ2PO5MGZ6GT"),
            ("ns3/svc3:p80", "tcp", "X27LE4BHSL4DOUIK"),
            ("ns4/svc4:p80", "tcp", "4SW47YFZTEDKD3PK"),
            ("ns5/svc5:p80", "tcp", "NUKIZ6OKUXPJNT4C"),
            ("ns2/svc2:p8080", "tcp", "2VJB64SDSIJUP5T6"),
        ] {
            assert_eq!(base32_sha256(&[name.as_bytes(), protocol.as_bytes()]), hash);
        }
        for (name, endpoint, hash) in [
            ("ns1/svc1:p80", "10.180.0.1:80", "SXIVWICOYRO3J4NJ"),
            ("ns3/svc3:p80", "10.180.0.3:80", "OYPFS5VJICHGATKP"),
            ("ns5/svc5:p80", "10.180.0.3:80", "I77PXRDZVX7PMWMN"),
            ("ns4/svc4:p80", "10.180.0.4:80", "UKSFD7AGPMPPLUHC"),
            ("ns4/svc4:p80", "10.180.0.5:80", "C6EBXVWJJZMIWKLZ"),
            ("ns2/svc2:p80", "10.180.0.2:80", "RS4RBKLTHTF2IUXJ"),
            ("ns1/svc1:p80", "10.0.1.1:80", "SNQ3ZNILQDEJNDQO"),
            ("ns2/svc2:p8080", "10.0.2.1:8080", "UHEGFW77JX3KXTOV"),
        ] {
            assert_eq!(base32_sha256(&[name.as_bytes(), b"tcp", endpoint.as_bytes()]), hash);
        }
    }
}
