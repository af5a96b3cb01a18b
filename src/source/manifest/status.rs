//! What other threads can see of a folder that is followed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use super::error::FileError;

/// Counts and errors of a folder at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files that were found, usable or not.
    pub files: usize,
    /// Facts that are served.
    pub objects: usize,
    pub errors: BTreeMap<PathBuf, FileError>,
    /// Parts of objects that are left out.
    pub problems: usize,
    /// Objects that more than one file holds.
    pub duplicates: usize,
    /// How many objects there are of each kind that is not read, by `apiVersion kind`.
    pub ignored: BTreeMap<String, usize>,
    /// Why the folder itself cannot be followed at the moment; the facts that it gave before are kept.
    pub folder_error: Option<String>,
}

/// A handle to the latest [`Summary`].
#[derive(Clone, Debug, Default)]
pub struct Status(pub(super) Arc<RwLock<Arc<Summary>>>);

impl Status {
    pub fn get(&self) -> Arc<Summary> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, summary: Summary) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(summary);
    }
}
