//! Names and locations that many facts share.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::state::{Hints, Location, Tuning};

/// Shares what is equal: node names, zones, port names and namespaces repeat in every slice.
#[derive(Default)]
pub struct Interner {
    pub(super) strings: HashSet<Arc<str>>,
    hints: HashSet<Arc<Hints>>,
    tunings: HashSet<Arc<Tuning>>,
    /// By the addresses of the shared parts, which live as long as the location that holds them.
    locations: HashMap<[usize; 3], Arc<Location>>,
}

impl Interner {
    pub fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.strings.get(text) {
            return shared.clone();
        }
        let shared: Arc<str> = text.into();
        self.strings.insert(shared.clone());
        shared
    }

    pub(super) fn intern_hints(&mut self, hints: Hints) -> Arc<Hints> {
        if let Some(shared) = self.hints.get(&hints) {
            return shared.clone();
        }
        let shared = Arc::new(hints);
        self.hints.insert(shared.clone());
        shared
    }

    pub(super) fn intern_tuning(&mut self, tuning: Tuning) -> Arc<Tuning> {
        if let Some(shared) = self.tunings.get(&tuning) {
            return shared.clone();
        }
        let shared = Arc::new(tuning);
        self.tunings.insert(shared.clone());
        shared
    }

    /// The location on a node, in a zone and with hints that were interned here; `None` if nothing is known.
    pub(super) fn intern_location(
        &mut self,
        node: Option<&str>,
        zone: Option<Arc<str>>,
        hints: Option<Arc<Hints>>,
    ) -> Option<Arc<Location>> {
        if node.is_none() && zone.is_none() && hints.is_none() {
            return None;
        }
        let node = node.map(|node| self.intern(node));
        let key =
            [node.as_ref().map_or(0, address), zone.as_ref().map_or(0, address), hints.as_ref().map_or(0, address)];
        let shared = self.locations.entry(key).or_insert_with(|| Arc::new(Location { node, zone, hints }));
        Some(shared.clone())
    }

    /// Forgets what nobody uses any more.
    pub fn sweep(&mut self) {
        // From the outside in: a location holds hints, and all of these hold names.
        self.tunings.retain(|shared| Arc::strong_count(shared) > 1);
        self.locations.retain(|_, shared| Arc::strong_count(shared) > 1);
        self.hints.retain(|shared| Arc::strong_count(shared) > 1);
        self.strings.retain(|shared| Arc::strong_count(shared) > 1);
    }
}

fn address<T: ?Sized>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared).addr()
}
