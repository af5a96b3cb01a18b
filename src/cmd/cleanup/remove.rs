//! What was found goes, in the order in which the engine takes every difference apart.

use super::find::Leftovers;
use super::node::Node;
use crate::engine::{Step, steps};
use crate::kernel::xtables::variant::Variant;
use crate::plan::removal::Removal;

/// Removes everything, as much of it as can be. Gives what could not be read or removed, one line each.
pub fn all(node: &mut Node, leftovers: Leftovers) -> Vec<String> {
    let mut problems = leftovers.problems();
    let Leftovers { rules, mut others, tables, counters, .. } = leftovers;
    // The order knows one kind of tables; both go where it has rules.
    let some = rules.iter().find(|(_, removal)| !removal.changes.is_empty());
    others.rules = some.map(|(_, removal)| removal.changes.clone()).unwrap_or_default();
    for step in steps(&others) {
        match step {
            Step::Rules(_) => problems.extend(remove_rules(node, &rules)),
            step => problems.extend(remove(node, step)),
        }
    }
    for table in &tables {
        let deleted = node.tables.as_mut().map(|kernel| kernel.delete(table));
        problems.extend(deleted.and_then(Result::err).map(|error| error.to_string()));
    }
    for name in counters {
        let deleted = node.counters.as_mut().map(|kernel| kernel.delete(name));
        problems.extend(deleted.and_then(Result::err).map(|error| error.to_string()));
    }
    problems
}

fn remove_rules(node: &mut Node, rules: &[(Variant, Removal)]) -> Vec<String> {
    let mut problems = Vec::new();
    for (variant, removal) in rules.iter().filter(|(_, removal)| !removal.changes.is_empty()) {
        let kernel = node.rules.iter_mut().find(|rules| rules.variant == *variant);
        let applied = kernel.map(|rules| rules.kernel.apply(&removal.changes));
        problems.extend(applied.and_then(Result::err).map(|error| error.to_string()));
    }
    problems
}

/// One step that is not about rules.
fn remove(node: &mut Node, step: Step) -> Option<String> {
    match step {
        Step::Sets(changes) => node.sets.as_mut()?.apply(&changes).err().map(|error| error.to_string()),
        Step::Links(changes) => node.links.as_mut()?.apply(&changes).err().map(|error| error.to_string()),
        Step::Servers(changes) => match (node.servers)() {
            Ok(Some(mut servers)) => servers.apply(&changes).err().map(|refused| refused.error.to_string()),
            // It was there a moment ago; with it, they are gone.
            Ok(None) => None,
            Err(error) => Some(error.to_string()),
        },
        Step::Rules(_) => None,
    }
}
