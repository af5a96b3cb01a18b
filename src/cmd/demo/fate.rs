//! What becomes of connections: as expected, as it happened, and as the kernel's rules say.

use std::collections::BTreeSet;
use std::fmt;

/// What becomes of connections to one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Each of these pods answers some of them, nobody else does, and all see the client with this address.
    Answered {
        pods: BTreeSet<String>,
        seen: Seen,
    },
    Refused,
    Dropped,
    /// No rule knows the address, and the network has no such host.
    Unreachable,
    /// Not one of these, or of several sorts: in words.
    Other(String),
}

/// Which source address a pod sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// The client's own.
    Kept,
    /// An address of the node.
    Masqueraded,
}

impl Fate {
    pub fn answered(pods: &[&str], seen: Seen) -> Fate {
        Fate::Answered { pods: pods.iter().map(|pod| (*pod).to_owned()).collect(), seen }
    }

    /// Whether this pod is among those that answer.
    pub fn answered_by(&self, pod: &str) -> bool {
        matches!(self, Fate::Answered { pods, .. } if pods.contains(pod))
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Answered { pods, seen } => {
                let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
                let source = match seen {
                    Seen::Kept => "the source address is kept",
                    Seen::Masqueraded => "the source address becomes the node's",
                };
                write!(f, "answered by {}; {source}", pods.join(", "))
            }
            Fate::Refused => f.write_str("refused"),
            Fate::Dropped => f.write_str("dropped"),
            Fate::Unreachable => f.write_str("unreachable"),
            Fate::Other(text) => f.write_str(text),
        }
    }
}
