//! One run: the stale entries of one family, brought to a table.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::cleanup::Frontend;
use super::{Cleanup, ConntrackError, Ending, Filter, Flow, FlowTable, Judgement, Purged};
use crate::net::{Endpoint, Family};

/// How often a list is read at most while the table changes underfoot; then what was seen is taken for all
/// (contract 6.5, scenario S44).
const ATTEMPTS: u32 = 5;

/// Up to this many lists that the kernel filters by port; above, one list of all UDP entries.
///
/// A list that finds nothing costs the walk over the table, one of everything the writing down of each entry, too.
/// Linux 6.18, two cores, 262,144 buckets, time in the kernel: with 1,000 entries 11 and 11 ms, with 50,000 44 and
/// 127 ms, with 200,000 135 and 600 ms (November 2026). So they break even at one to four lists.
const FEW: usize = 3;

/// What a successful run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub family: Family,
    pub purged: Purged,
    pub duration: Duration,
}

/// Which lists show every entry that a cleanup is about, in one family.
pub(super) fn lists(cleanup: &Cleanup, family: Family) -> Vec<Filter> {
    // `None`: the port is wanted on more than one address, or on all.
    let mut ports: BTreeMap<u16, Option<Endpoint>> = BTreeMap::new();
    for frontend in cleanup.frontends(family) {
        match frontend {
            Frontend::Address(address) => {
                ports.entry(address.port).and_modify(|only| *only = None).or_insert(Some(*address));
            }
            Frontend::NodePort(_, port) => {
                ports.insert(*port, None);
            }
        }
    }
    if ports.len() > FEW {
        return vec![Filter::udp(family)];
    }
    let list = |(port, only): (u16, Option<Endpoint>)| only.map_or(Filter::udp_port(family, port), Filter::udp_to);
    ports.into_iter().map(list).collect()
}

/// Goes through the lists and deletes what `judge` says, counting into `purged` also when it ends in an error.
pub(super) fn purge(
    table: &mut dyn FlowTable,
    lists: &[Filter],
    deadline: Instant,
    judge: &mut dyn FnMut(&Flow) -> Judgement,
    purged: &mut Purged,
) -> Result<Ending, ConntrackError> {
    let mut all = Ending::Complete;
    for filter in lists {
        let mut ending = Ending::Interrupted;
        for _ in 0..ATTEMPTS {
            ending = table.purge(filter, deadline, judge, purged)?;
            if ending != Ending::Interrupted {
                break;
            }
        }
        match ending {
            Ending::Complete => {}
            Ending::Interrupted => all = Ending::Interrupted,
            Ending::Stopped => return Ok(Ending::Stopped),
        }
    }
    Ok(all)
}
