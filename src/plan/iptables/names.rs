//! Names of chains (contract 3.1).

use std::fmt::Write;

use crate::kernel::xtables::ChainName;
use crate::model::ServicePortKey;
use crate::net::base32_sha256;

pub const SERVICES: &str = "KUBE-SERVICES";
pub const EXTERNAL_SERVICES: &str = "KUBE-EXTERNAL-SERVICES";
pub const NODE_PORTS: &str = "KUBE-NODEPORTS";
pub const POSTROUTING: &str = "KUBE-POSTROUTING";
pub const MARK_MASQ: &str = "KUBE-MARK-MASQ";
pub const FORWARD: &str = "KUBE-FORWARD";
pub const PROXY_FIREWALL: &str = "KUBE-PROXY-FIREWALL";
/// Shared with the kubelet: our rule is ensured in it, the chain is never flushed or deleted.
pub const FIREWALL: &str = crate::kernel::xtables::ownership::SHARED_FIREWALL;
pub const CANARY: &str = "KUBE-PROXY-CANARY";

/// Prefix of Cluster policy chains, and of everything that kube-proxy should sweep away when it takes a node back.
const SVC: &str = "KUBE-SVC-";
const SVL: &str = "KUBE-SVL-";
const EXT: &str = "KUBE-EXT-";
const FW: &str = "KUBE-FW-";
const SEP: &str = "KUBE-SEP-";

/// How many characters a hash has.
const HASH: usize = 16;

/// Whether a chain leads to many services: the root of a dispatch tree, or a chain of one.
pub fn is_dispatch_chain(name: &str) -> bool {
    let in_tree = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
    [SERVICES, NODE_PORTS, EXTERNAL_SERVICES, PROXY_FIREWALL].contains(&name)
        || name.strip_prefix(SVC).is_some_and(in_tree)
}

/// Whether the chain is called as that of an endpoint.
pub fn is_endpoint_chain(name: &str) -> bool {
    name.starts_with(SEP)
}

/// The hash in the name of a service port's chain, or of one of its groups.
pub fn service_hash(name: &str) -> Option<&str> {
    let rest = [SVC, SVL, EXT, FW].iter().find_map(|prefix| name.strip_prefix(prefix))?;
    rest.get(..HASH).filter(|_| !is_dispatch_chain(name))
}

/// The chains of one service port: all share one hash of its name and protocol.
pub struct ServiceChains {
    text: String,
    protocol: &'static str,
    hash: String,
}

impl ServiceChains {
    pub fn new(key: &ServicePortKey) -> Self {
        let text = key.name.to_string();
        let protocol = key.name.protocol.lower();
        let hash = base32_sha256(&[text.as_bytes(), protocol.as_bytes()]);
        ServiceChains { text, protocol, hash }
    }

    /// What all names but those of endpoints end in.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// `ns/name:port`, as comments say it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Chooses among the endpoints of the Cluster policy.
    pub fn cluster(&self) -> ChainName {
        self.named(SVC)
    }

    /// Chooses among the endpoints of the Local policy.
    pub fn local(&self) -> ChainName {
        self.named(SVL)
    }

    /// Where traffic from outside enters.
    pub fn external(&self) -> ChainName {
        self.named(EXT)
    }

    /// Lets only the allowed source ranges through.
    pub fn firewall(&self) -> ChainName {
        self.named(FW)
    }

    /// One endpoint, by its text `10.0.0.1:80` or `[fd00::1]:80`.
    pub fn endpoint(&self, endpoint: &str) -> ChainName {
        let hash = base32_sha256(&[self.text.as_bytes(), self.protocol.as_bytes(), endpoint.as_bytes()]);
        ChainName::new(format!("{SEP}{hash}"))
    }

    fn named(&self, prefix: &str) -> ChainName {
        ChainName::new(format!("{prefix}{}", self.hash))
    }
}

/// A group of endpoints of a Cluster or Local chain: its name and two hexadecimal digits, 28 characters in all.
pub fn group(chain: &ChainName, group: u8) -> ChainName {
    ChainName::new(format!("{chain}g{group:02x}"))
}

/// What the names of all chains below a tree's root begin with.
pub fn dispatch_prefix(tree: char) -> String {
    format!("{SVC}{tree}-")
}

/// A chain of a dispatch tree, from the tree's letter and the nibbles of the prefix.
///
/// Lower-case letters keep the name apart from every service's hash. Prefixes of up to 16 nibbles are readable, longer
/// ones (IPv6) are hashed.
pub fn dispatch(tree: char, nibbles: &[u8]) -> ChainName {
    let mut name = dispatch_prefix(tree);
    if nibbles.len() <= 16 {
        for nibble in nibbles {
            // Writing to a String cannot fail.
            let _ = write!(name, "{nibble:x}");
        }
    } else {
        name.push_str(&base32_sha256(&[nibbles]));
    }
    ChainName::new(name)
}
