//! What an operator is told. A notice stands for a change of state: the same state is not told again and again.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::backend::Repair;
use super::upkeep::Cause;
use crate::kernel::xtables::{ApplyErrorKind, Culprit};
use crate::model::ServicePortKey;

/// So many culprits are named.
const NAMED: usize = 3;

/// How loud a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Info,
    Warning,
    Error,
}

/// Something an operator wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The first compare succeeded: the kernel holds these many fragments, after these differences.
    Started { fragments: usize, repair: Repair },
    /// A fragment is refused by itself. With `kept`, its last good rules stay in force.
    Quarantined { key: ServicePortKey, reason: String, kept: bool },
    /// A fragment left quarantine.
    Recovered { key: ServicePortKey, attempts: u32, after: Duration },
    /// A batch was refused; it is being split to find the fragment at fault.
    Bisecting { fragments: usize, reason: String },
    /// An apply failed; all of it is tried again. Told once until applying works, or fails in another way.
    ApplyFailed { kind: ApplyErrorKind, message: String, retry_in: Duration },
    /// The base alone is refused: no fragment is at fault and nothing can be applied. Told once.
    BaseRefused { message: String, retry_in: Duration },
    /// Applying works after so many failures.
    ApplyWorks { failures: u32 },
    /// A compare failed. `kind` is `None` if the kernel could not be read. Told once until it works.
    RepairFailed { kind: Option<ApplyErrorKind>, message: String, retry_in: Duration },
    /// A full compare was refused; everything is written again, fragment by fragment where needed.
    Rebuilding { fragments: usize, reason: String },
    /// The compare after a rebuild succeeded: the kernel holds these many fragments.
    Rebuilt { fragments: usize },
    /// Comparing works after so many failures.
    RepairWorks { failures: u32 },
    /// Someone else changed our rules: whoever is in `by`, as far as the kernel tells. Not told again while the same keeps
    /// happening.
    Drift { cause: Cause, by: BTreeSet<Culprit>, repaired: bool, repair: Repair },
    /// A compare put right what we caused ourselves: new settings, leftovers of failed applies.
    Repaired { cause: Cause, repair: Repair },
}

impl Notice {
    /// The fragment that it is about.
    pub fn key(&self) -> Option<&ServicePortKey> {
        match self {
            Notice::Quarantined { key, .. } | Notice::Recovered { key, .. } => Some(key),
            _ => None,
        }
    }

    pub fn severity(&self) -> Severity {
        match self {
            Notice::Started { .. }
            | Notice::Rebuilt { .. }
            | Notice::Recovered { .. }
            | Notice::ApplyWorks { .. }
            | Notice::RepairWorks { .. }
            | Notice::Repaired { .. } => Severity::Info,
            Notice::Bisecting { .. } | Notice::Drift { .. } | Notice::Rebuilding { .. } => Severity::Warning,
            Notice::ApplyFailed { kind: ApplyErrorKind::Busy, .. }
            | Notice::RepairFailed { kind: Some(ApplyErrorKind::Busy), .. } => Severity::Warning,
            Notice::Quarantined { .. }
            | Notice::ApplyFailed { .. }
            | Notice::BaseRefused { .. }
            | Notice::RepairFailed { .. } => Severity::Error,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Started { fragments, repair } => {
                write!(f, "{fragments} service ports are in the kernel, after {} differences", repair.total())
            }
            Notice::Quarantined { key, reason, kept } => {
                let fate = if *kept { "its last good rules stay" } else { "it has no rules" };
                write!(f, "the kernel refuses service port {}: {fate}, all others are served: {reason}", Text(key))
            }
            Notice::Recovered { key, attempts, after } => {
                let times = Times(*attempts);
                write!(f, "service port {} is served again, refused {times} in {after:.1?}", Text(key))
            }
            Notice::Bisecting { fragments, reason } => {
                write!(
                    f,
                    "the kernel refuses a batch of {fragments} service ports, looking for the one at fault: {reason}"
                )
            }
            Notice::ApplyFailed { message, retry_in, .. } => {
                write!(f, "cannot apply changes, nothing is lost, trying again in {retry_in:.1?}: {message}")
            }
            Notice::BaseRefused { message, retry_in } => {
                write!(f, "the kernel refuses rules that no service needs, trying again in {retry_in:.1?}: {message}")
            }
            Notice::ApplyWorks { failures } => {
                write!(f, "applying changes works again, it failed {}", Times(*failures))
            }
            Notice::RepairFailed { message, retry_in, .. } => write!(f, "{message}; trying again in {retry_in:.1?}"),
            Notice::Rebuilding { fragments, reason } => {
                write!(f, "a repair was refused, writing all {fragments} service ports again: {reason}")
            }
            Notice::Rebuilt { fragments } => {
                write!(f, "{fragments} service ports are in the kernel, after everything was written again")
            }
            Notice::RepairWorks { failures } => {
                write!(f, "comparing with the kernel works again, it failed {}", Times(*failures))
            }
            Notice::Drift { by, repaired, repair, .. } => {
                let what = if *repaired { "repaired" } else { "left alone as configured" };
                let (objects, were) = if repair.total() == 1 { ("object", "was") } else { ("objects", "were") };
                write!(f, "{} kernel {objects} of ours {were} changed by {}, {what}", repair.total(), Culprits(by))
            }
            Notice::Repaired { cause, repair } => {
                let why = match cause {
                    Cause::Settings => "for changed settings",
                    Cause::Rebuilt => "after writing everything again",
                    Cause::Start | Cause::Suspected | Cause::Leftovers | Cause::Periodic => "after failed applies",
                };
                write!(f, "{} kernel objects put right {why}", repair.total())
            }
        }
    }
}

/// `IPv4 ns/name:port/TCP`.
struct Text<'a>(&'a ServicePortKey);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.0.family, self.0.name, self.0.name.protocol)
    }
}

/// `iptables (pid 4711) and nft (pid 4712)`.
struct Culprits<'a>(&'a BTreeSet<Culprit>);

impl fmt::Display for Culprits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = self.0.len().saturating_sub(NAMED);
        let named = self.0.len() - more;
        for (n, culprit) in self.0.iter().take(NAMED).enumerate() {
            let separator = match n {
                0 => "",
                _ if n + 1 == named && more == 0 => " and ",
                _ => ", ",
            };
            write!(f, "{separator}{culprit}")?;
        }
        match (named, more) {
            (0, _) => f.write_str("someone else"),
            (_, 0) => Ok(()),
            (_, more) => write!(f, " and {more} more"),
        }
    }
}

struct Times(u32);

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("once"),
            n => write!(f, "{n} times"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::DifferenceKind;
    use crate::net::Family;

    fn drift(culprits: usize, objects: u64) -> String {
        let culprit = |n: usize| Culprit { pid: 4711 + n as u32, name: "iptables".into() };
        let kind = DifferenceKind { family: Family::V4, table: "nat", kind: "chain changed" };
        let repair = Repair { differences: [(kind, objects)].into(), lines: Vec::new() };
        let by = (0..culprits).map(culprit).collect();
        Notice::Drift { cause: Cause::Suspected, by, repaired: true, repair }.to_string()
    }

    #[test]
    fn drift_says_who() {
        assert_eq!(drift(0, 1), "1 kernel object of ours was changed by someone else, repaired");
        assert_eq!(drift(1, 3), "3 kernel objects of ours were changed by iptables (pid 4711), repaired");
        let two = "3 kernel objects of ours were changed by iptables (pid 4711) and iptables (pid 4712), repaired";
        assert_eq!(drift(2, 3), two);
        assert!(drift(9, 3).contains("(pid 4711), iptables (pid 4712), iptables (pid 4713) and 6 more, repaired"));
    }
}
