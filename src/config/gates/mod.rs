//! Feature gates (contract 1.16): which there are, and what follows from those that were set.
//!
//! Most belong to other programs of Kubernetes and have no effect here, but a configuration that names them is right.
//! That some of them need each other is theirs to say, and not checked.

mod table;

use std::collections::BTreeMap;
use std::fmt;

/// How far a gate is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Alpha,
    Beta,
    Ga,
    Deprecated,
}

/// A gate that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    pub name: &'static str,
    pub stage: Stage,
    pub default: bool,
    /// Whether it can be set to nothing but its default.
    pub locked: bool,
}

impl Stage {
    /// As metrics name it; nothing for what is generally available.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
            Stage::Ga => "",
            Stage::Deprecated => "DEPRECATED",
        }
    }
}

/// Which gates are open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    set: BTreeMap<String, bool>,
}

/// What is wrong with gates, in the words of kube-proxy: one text, or several in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateErrors(pub Vec<String>);

impl fmt::Display for GateErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::validate::aggregate(self.0.iter().cloned()))
    }
}

impl std::error::Error for GateErrors {}

impl FeatureGates {
    /// Every gate that there is, by name.
    pub fn known() -> &'static [Gate] {
        &table::GATES
    }

    /// # Errors
    /// Gates that do not exist, or are locked.
    pub fn new(set: &BTreeMap<String, bool>) -> Result<Self, GateErrors> {
        let wrong = |(name, value): (&String, &bool)| match find(name) {
            None => Some(format!("unrecognized feature gate: {name}")),
            Some(gate) if gate.locked && gate.default != *value => {
                Some(format!("cannot set feature gate {name} to {value}, feature is locked to {}", gate.default))
            }
            Some(_) => None,
        };
        let errors: Vec<String> = set.iter().filter_map(wrong).collect();
        if errors.is_empty() { Ok(FeatureGates { set: set.clone() }) } else { Err(GateErrors(errors)) }
    }

    /// Whether a gate is open: as it was set, as `AllAlpha` or `AllBeta` was, or as it is by default. One that does not
    /// exist is shut.
    pub fn is_enabled(&self, name: &str) -> bool {
        let Some(gate) = find(name) else { return false };
        let all = match gate.stage {
            Stage::Alpha => self.set.get("AllAlpha"),
            Stage::Beta => self.set.get("AllBeta"),
            Stage::Ga | Stage::Deprecated => None,
        };
        self.set.get(name).or(all).copied().unwrap_or(gate.default)
    }

    /// Gates that were set and will be gone one day: a line each, in the words of kube-proxy.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        self.set.iter().filter_map(|(name, value)| {
            let stage = match find(name)?.stage {
                Stage::Ga => "GA",
                Stage::Deprecated => "deprecated",
                Stage::Alpha | Stage::Beta => return None,
            };
            Some(format!("setting {stage} feature gate {name}={value}; it will be removed in a future release"))
        })
    }
}

fn find(name: &str) -> Option<&'static Gate> {
    table::GATES.binary_search_by(|gate| gate.name.cmp(name)).ok().and_then(|at| table::GATES.get(at))
}
