//! The indexes by which rules refer to sets.
//!
//! The match `set` holds an index, not a name. A name keeps its index while there is a set of that name, also when the set
//! is swapped with another. While a rule refers to the set, it can be neither destroyed nor renamed.

use std::collections::BTreeMap;

use crate::kernel::ipset::{SetName, index_of, name_of};
use crate::kernel::netlink::{NetlinkError, Socket};

/// What is known of sets: good for one observation or one attempt to write, as sets come and go.
#[derive(Clone, Debug, Default)]
pub struct SetIndexes {
    indexes: BTreeMap<SetName, u16>,
    /// `None`: there is no set of this index.
    names: BTreeMap<u16, Option<SetName>>,
}

impl SetIndexes {
    /// This set has this index.
    pub fn insert(&mut self, name: SetName, index: u16) {
        self.names.insert(index, Some(name.clone()));
        self.indexes.insert(name, index);
    }

    /// The index of a set that is known.
    pub fn index(&self, name: &SetName) -> Option<u16> {
        self.indexes.get(name).copied()
    }

    /// The known set of this index.
    pub fn name(&self, index: u16) -> Option<&SetName> {
        self.names.get(&index)?.as_ref()
    }

    /// Whether it is known which set has this index, or that none has.
    pub(super) fn is_asked(&self, index: u16) -> bool {
        self.names.contains_key(&index)
    }

    /// Asks the kernel for the index of a set that is not known yet; `None` if there is no such set.
    pub(super) fn ask_index(&mut self, socket: &mut Socket, name: &SetName) -> Result<Option<u16>, NetlinkError> {
        if let Some(index) = self.index(name) {
            return Ok(Some(index));
        }
        let index = index_of(socket, name)?;
        if let Some(index) = index {
            self.insert(name.clone(), index);
        }
        Ok(index)
    }

    /// Asks the kernel for the set of an index that was not asked for yet.
    pub(super) fn ask_name(&mut self, socket: &mut Socket, index: u16) -> Result<(), NetlinkError> {
        if !self.is_asked(index) {
            match name_of(socket, index)? {
                Some(name) => self.insert(name, index),
                None => drop(self.names.insert(index, None)),
            }
        }
        Ok(())
    }
}
