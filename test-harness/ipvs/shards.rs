//! Which case runs in which machine: the same for everyone who knows the cases.

use std::fmt;
use std::str::FromStr;

use super::runner::Case;

/// One machine of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub number: usize,
    pub of: usize,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        let (number, of) = parts.filter(|(number, of)| number < of).ok_or(format!("{text} is no part of anything"))?;
        Ok(Shard { number, of })
    }
}

impl Shard {
    /// The cases of this shard, in their order. The longest go first to the machine that has the least to do.
    pub fn cases<'a>(self, all: &[&'a Case]) -> Vec<&'a Case> {
        let mut longest: Vec<usize> = (0..all.len()).collect();
        longest.sort_by_key(|index| std::cmp::Reverse(seconds(&all[*index].0)));
        let mut loads = vec![0; self.of];
        let mut own = Vec::new();
        for index in longest {
            let least = (0..self.of).min_by_key(|machine| loads[*machine]).expect("a machine at least");
            loads[least] += seconds(&all[index].0);
            if least == self.number {
                own.push(index);
            }
        }
        own.sort_unstable();
        own.into_iter().map(|index| all[index]).collect()
    }
}

/// About how long a case takes, in seconds without a neighbour. Only the sum for a machine matters.
fn seconds(name: &str) -> u32 {
    KNOWN.iter().find(|(start, _)| name.starts_with(start)).map_or(OTHERS, |(_, seconds)| *seconds)
}

/// Beginnings of names; the first one counts.
const KNOWN: [(&str, u32); 14] = [
    ("diff::", 35),
    ("draining::", 15),
    ("egress::", 35),
    ("link::", 1),
    ("node::", 25),
    ("packets::", 45),
    ("refusals::", 12),
    ("schedulers::", 15),
    ("servers::", 2),
    ("smoke::", 1),
    ("switching::", 50),
    ("sysctl::", 1),
    ("takeover::", 75),
    ("traffic::", 4),
];

/// Of what is not known yet.
const OTHERS: u32 = 15;
