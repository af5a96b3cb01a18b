//! The index of a set, by which rules refer to it, and the set of an index.

use nix::errno::Errno;

use super::error::explained;
use super::wire::attribute;
use super::{SetName, decode, encode};
use crate::kernel::netlink::{Attributes, Batch, NetlinkError, Socket};

/// The index that no set has (`IPSET_INVALID_ID`).
pub const INVALID_INDEX: u16 = u16::MAX;

/// The index of a set; `None` if there is no such set.
///
/// # Errors
/// The kernel could not be asked, has no ipset, or one before Linux 4.20.
pub fn index_of(socket: &mut Socket, set: &SetName) -> Result<Option<u16>, NetlinkError> {
    let mut batch = Batch::new("ask for the index of an ipset");
    encode::ask_index(&mut batch, set);
    ask(socket, &mut batch, |answer| answer.find(attribute::INDEX)?.u16_be())
}

/// The set of an index; `None` if no set has it.
///
/// # Errors
/// As [`index_of`].
pub fn name_of(socket: &mut Socket, index: u16) -> Result<Option<SetName>, NetlinkError> {
    let mut batch = Batch::new("ask for the ipset of an index");
    encode::ask_name(&mut batch, index);
    ask(socket, &mut batch, decode::name)
}

/// Asks a question that the kernel answers with one message, or with "no such set".
fn ask<T>(
    socket: &mut Socket,
    batch: &mut Batch,
    read: impl Fn(Attributes<'_>) -> Option<T>,
) -> Result<Option<T>, NetlinkError> {
    let asked = batch.asked();
    match socket.ask(batch, |message| read(decode::attributes(message)?))? {
        Ok(Some(found)) => Ok(Some(found)),
        Ok(None) => Err(NetlinkError::Malformed { asked, what: "it does not say what was asked for" }),
        Err(refusal) if refusal.errno() == Errno::ENOENT => Ok(None),
        Err(refusal) => Err(NetlinkError::Refused { asked, refusal: explained(refusal) }),
    }
}
