//! Which iptables a host uses: legacy or nf_tables, which binaries, and what they can do.
//!
//! Two kinds of tables can hold rules at the same time and do not see each other. kube-proxy, the kubelet and the
//! network plugin of a node must all write the same kind, so the choice follows the others' traces.

mod choose;
mod probe;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use crate::net::{Family, PerFamily};
pub use choose::{Choice, Evidence, Reason, choose};
pub use probe::{detect, find, installed};

/// A kind of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// The `ip_tables` and `ip6_tables` kernel modules.
    Legacy,
    /// nf_tables, through iptables-nft or directly.
    Nft,
}

impl Variant {
    pub const ALL: [Variant; 2] = [Variant::Legacy, Variant::Nft];

    /// As in the names of the binaries: `legacy` or `nft`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Variant::Legacy => "legacy",
            Variant::Nft => "nft",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How rules get into nf_tables. Legacy tables are always written with the tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// By netlink where the kernel can, else with the tools.
    #[default]
    Auto,
    /// By netlink.
    Netlink,
    /// With `iptables-restore` and `iptables-save`.
    Restore,
}

/// A version of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    /// The oldest that weir drives: older ones print other texts than [`decode`](super::decode) knows. It has `-C`,
    /// `restore --wait` and `--random-fully`, so none of them needs to be probed for (contract 3.10, scenarios J20
    /// and J23).
    pub const OLDEST: Version = Version { major: 1, minor: 8, patch: 2 };
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Reads `iptables v1.8.9 (nf_tables)`. Before 1.8 there was no variant in the text: those are legacy.
pub fn parse_version(text: &str) -> Option<(Version, Variant)> {
    let mut words = text.lines().next()?.split_whitespace();
    let number =
        words.find_map(|word| word.strip_prefix('v').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))?;
    let mut parts = number.splitn(3, '.').map(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part.get(..end)?.parse().ok()
    });
    let version = Version { major: parts.next()??, minor: parts.next()??, patch: parts.next().unwrap_or(Some(0))? };
    let variant = match words.next() {
        Some("(nf_tables)") => Variant::Nft,
        Some("(legacy)") | None => Variant::Legacy,
        Some(_) => return None,
    };
    Some((version, variant))
}

/// The programs of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    pub save: PathBuf,
    pub restore: PathBuf,
}

/// Why a family cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FamilyUnavailable {
    #[error("{0} is not installed; remedy: `apt-get install iptables`, or the package of that name elsewhere")]
    NoBinary(String),
    #[error("the kernel has no {0}")]
    NoKernelSupport(Family),
    #[error("IPv6 is switched off (net.ipv6.conf.all.disable_ipv6=1)")]
    Disabled,
    /// The tool itself says no; its words.
    #[error("{0}")]
    Refused(String),
}

/// The tools that a driver runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    pub variant: Variant,
    pub version: Version,
    /// Why this variant.
    pub reason: Reason,
    pub binaries: PerFamily<Result<Binaries, FamilyUnavailable>>,
}

impl Tools {
    /// The families that can be served (scenario J21).
    pub fn families(&self) -> Vec<Family> {
        self.binaries.iter().filter(|(_, binaries)| binaries.is_ok()).map(|(family, _)| family).collect()
    }
}

/// No iptables can be used at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariantError {
    #[error(
        "iptables is not installed (looked in {searched}), and rules cannot be written without it: {netlink}; remedy: \
         `apt-get install iptables`, or the package of that name elsewhere"
    )]
    NotInstalled { searched: String, netlink: String },
    #[error("rules cannot be written by netlink: {why}")]
    NetlinkUnusable { why: String },
    #[error("legacy tables are not written by netlink; remedy: leave out --iptables-driver or --iptables-variant")]
    LegacyByNetlink,
    #[error("iptables of variant {wanted} was asked for but is not installed; remedy: install it, or choose the other")]
    VariantNotInstalled { wanted: Variant },
    #[error("{program} is version {version}; weir needs {} or newer; remedy: upgrade iptables", Version::OLDEST)]
    TooOld { program: String, version: Version },
}
