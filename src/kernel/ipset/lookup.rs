//! The index of a set, by which rules refer to it, and the set of an index.

use nix::errno::Errno;

use super::SetName;
use super::wire::{self, attribute, command};
use crate::kernel::netlink::nfnetlink::{Subsystem, header, message_type, split_header};
use crate::kernel::netlink::{Attributes, Batch, Body, NetlinkError, Socket, flags};

/// The index that no set has (`IPSET_INVALID_ID`).
pub const INVALID_INDEX: u16 = u16::MAX;

/// The index of a set; `None` if there is no such set.
///
/// # Errors
/// The kernel could not be asked, has no ipset, or one before Linux 4.20.
pub fn index_of(socket: &mut Socket, name: &SetName) -> Result<Option<u16>, NetlinkError> {
    ask(
        socket,
        "ask for the index of an ipset",
        command::GET_BYNAME,
        |body| _ = body.put_text(attribute::SETNAME, name.as_str()),
        |attributes| attributes.find(attribute::INDEX)?.u16_be(),
    )
}

/// The set of an index; `None` if no set has it.
///
/// # Errors
/// As [`index_of`].
pub fn name_of(socket: &mut Socket, index: u16) -> Result<Option<SetName>, NetlinkError> {
    ask(
        socket,
        "ask for the ipset of an index",
        command::GET_BYINDEX,
        |body| _ = body.put_u16_be(attribute::INDEX, index),
        |attributes| {
            let name = attributes.find(attribute::SETNAME)?.text()?;
            (name.len() <= SetName::MAX).then(|| SetName::new(name))
        },
    )
}

/// Asks a question that the kernel answers with one message, or with "no such set".
fn ask<T>(
    socket: &mut Socket,
    asked: &'static str,
    command: u8,
    fill: impl FnOnce(&mut Body<'_>),
    read: impl Fn(Attributes<'_>) -> Option<T>,
) -> Result<Option<T>, NetlinkError> {
    let mut batch = Batch::new(asked);
    batch.message(message_type(Subsystem::Ipset, command), flags::ACK, |body| {
        fill(body.raw(&header(None, 0)).put_u8(attribute::PROTOCOL, wire::PROTOCOL));
    });
    let answered = socket.ask(&mut batch, |message| read(Attributes::new(split_header(message.payload)?.1)))?;
    match answered {
        Ok(Some(found)) => Ok(Some(found)),
        Ok(None) => Err(NetlinkError::Malformed { asked, what: "it does not say what was asked for" }),
        Err(refusal) if refusal.errno() == Errno::ENOENT => Ok(None),
        Err(refusal) => Err(NetlinkError::Refused { asked, refusal }),
    }
}
