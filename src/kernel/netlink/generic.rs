//! What all families of generic netlink share: the header behind a message's, and the controller that tells a family's
//! number (uapi `linux/genetlink.h`).

use nix::errno::Errno;

use super::{Attributes, Batch, NetlinkError, Socket};

/// `GENL_ID_CTRL`: the controller's number, the only one that is fixed.
const CONTROLLER: u16 = 16;
/// `CTRL_CMD_GETFAMILY`, and the version of it that all kernels answer.
const GET_FAMILY: u8 = 3;
const CONTROLLER_VERSION: u8 = 1;
/// `CTRL_ATTR_FAMILY_ID` and `CTRL_ATTR_FAMILY_NAME`.
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// Length of `struct genlmsghdr`, which precedes the attributes.
pub const HEADER_LENGTH: usize = 4;

/// `struct genlmsghdr`: a command, the version of the family, and 16 bits that are reserved.
pub const fn header(command: u8, version: u8) -> [u8; HEADER_LENGTH] {
    [command, version, 0, 0]
}

/// Reads `struct genlmsghdr`: the command, and the attributes. `None` if it is cut off.
pub fn split_header(payload: &[u8]) -> Option<(u8, Attributes<'_>)> {
    let (header, attributes) = payload.split_at_checked(HEADER_LENGTH)?;
    Some((*header.first()?, Attributes::new(attributes)))
}

/// The number of the family of this name: the type of its messages. `None` if the kernel has no such family; it looks
/// for a module that brings it first. Anyone may ask.
///
/// A family that is unloaded and loaded again may get another number.
///
/// # Errors
/// Those of the conversation.
pub fn family(socket: &mut Socket, name: &str) -> Result<Option<u16>, NetlinkError> {
    let mut batch = Batch::new("ask for a family of generic netlink");
    batch.message(CONTROLLER, super::flags::ACK, |body| {
        body.raw(&header(GET_FAMILY, CONTROLLER_VERSION)).put_text(FAMILY_NAME, name);
    });
    let number = socket.ask(&mut batch, |message| {
        let (_, attributes) = split_header(message.payload)?;
        attributes.find(FAMILY_ID)?.u16()
    })?;
    match number {
        Ok(Some(number)) => Ok(Some(number)),
        Ok(None) => Err(NetlinkError::Malformed { asked: batch.asked(), what: "it names no number" }),
        Err(refusal) if refusal.errno() == Errno::ENOENT => Ok(None),
        Err(refusal) => Err(NetlinkError::Refused { asked: batch.asked(), refusal }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::*;

    #[test]
    fn the_controller_knows_itself_and_no_other_name() {
        let mut socket = Socket::open(Protocol::Generic).unwrap();
        assert_eq!(family(&mut socket, "nlctrl"), Ok(Some(CONTROLLER)));
        assert_eq!(family(&mut socket, "weir-none"), Ok(None));
        assert_eq!(family(&mut socket, "nlctrl"), Ok(Some(CONTROLLER)), "the socket is as good as new");
        // No name is longer than 15 bytes (GENL_NAMSIZ).
        assert!(matches!(family(&mut socket, "a-name-too-long-by-far"), Err(NetlinkError::Refused { .. })));
    }

    #[test]
    fn a_header_is_split_off() {
        let (command, mut attributes) = split_header(&[7, 1, 0, 0, 5, 0, 2, 0, 9]).unwrap();
        assert_eq!((command, attributes.next().and_then(|attribute| attribute.u8())), (7, Some(9)));
        assert!(split_header(&[7, 1, 0]).is_none());
        assert_eq!(header(3, 1), [3, 1, 0, 0]);
    }
}
