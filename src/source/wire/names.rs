//! Names that many facts share.

use std::collections::HashSet;
use std::sync::Arc;

use crate::state;

/// Shares equal strings: node names, zones, port names and namespaces repeat in every slice.
#[derive(Default)]
pub struct Interner {
    pub(super) strings: HashSet<Arc<str>>,
    hints: HashSet<Arc<state::Hints>>,
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

    pub(super) fn intern_hints(&mut self, hints: state::Hints) -> Arc<state::Hints> {
        if let Some(shared) = self.hints.get(&hints) {
            return shared.clone();
        }
        let shared = Arc::new(hints);
        self.hints.insert(shared.clone());
        shared
    }

    /// Forgets strings that nobody uses any more.
    pub fn sweep(&mut self) {
        self.hints.retain(|shared| Arc::strong_count(shared) > 1);
        self.strings.retain(|shared| Arc::strong_count(shared) > 1);
    }
}
