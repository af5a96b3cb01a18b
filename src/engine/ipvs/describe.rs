//! A difference of IPVS mode in words and numbers.

use crate::engine::backend::{DifferenceKind, Repair};
use crate::engine::describe::{LINES, describe as describe_rules};
use crate::net::Family;
use crate::plan::ipvs::Difference;

/// Counts differences by sort and says the first of them in words.
pub(super) fn describe(difference: &Difference) -> Repair {
    let mut repair = describe_rules(&difference.rules);
    let mut note = |family, table, kind, line: &dyn Fn() -> String| {
        *repair.differences.entry(DifferenceKind { family, table, kind }).or_default() += 1;
        if repair.lines.len() < LINES {
            repair.lines.push(format!("{family} {table} {}: {kind}", line()));
        }
    };
    for (name, change) in &difference.sets.sets {
        let Some(spec) = change.after.or(change.before) else { continue };
        match (&change.before, &change.after) {
            (None, _) => note(spec.family, "ipset", "set missing", &|| name.to_string()),
            (_, None) => note(spec.family, "ipset", "set extra", &|| name.to_string()),
            (before, after) if before != after => note(spec.family, "ipset", "set changed", &|| name.to_string()),
            _ => {}
        }
        if change.before.is_some() {
            for entry in change.add.keys() {
                note(spec.family, "ipset", "entry missing", &|| format!("{name} {entry}"));
            }
            for entry in &change.remove {
                note(spec.family, "ipset", "entry extra", &|| format!("{name} {entry}"));
            }
        }
    }
    for (kind, addresses) in [("address missing", &difference.links.add), ("address extra", &difference.links.remove)] {
        for address in addresses {
            note(Family::of(address), "link", kind, &|| address.to_string());
        }
    }
    for (key, change) in &difference.servers.servers {
        let server = match (&change.before, &change.after) {
            (None, _) => Some("virtual server missing"),
            (_, None) => Some("virtual server extra"),
            (before, after) => (before != after).then_some("virtual server changed"),
        };
        if let Some(kind) = server {
            note(key.family(), "ipvs", kind, &|| key.to_string());
        }
        if server.is_some_and(|kind| kind != "virtual server changed") {
            continue;
        }
        for (endpoint, change) in &change.real_servers {
            let kind = match (&change.before, &change.after) {
                (None, _) => "real server missing",
                (_, None) => "real server extra",
                _ => "real server changed",
            };
            note(key.family(), "ipvs", kind, &|| format!("{key} {endpoint}"));
        }
    }
    repair
}
