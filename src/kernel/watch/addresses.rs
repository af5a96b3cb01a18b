//! Addresses and links of this host come and go.

use std::os::fd::{AsFd, BorrowedFd};

use nix::net::if_::if_nametoindex;

use crate::kernel::link::SERVICE_DEVICE;
use crate::kernel::link::wire::{DELETE_ADDRESS, DELETE_LINK, NEW_ADDRESS, NEW_LINK, read_index, read_name};
use crate::kernel::netlink::{Listener, Message, NetlinkError, Protocol};

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV6_IFADDR` of uapi `linux/rtnetlink.h`.
const GROUPS: [u32; 3] = [1, 5, 9];

/// How many datagrams are taken in a row, before others have their turn.
const TURN: usize = 256;

/// Follows addresses and links in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct AddressWatch {
    listener: Listener,
    own: OwnDevice,
}

/// The device for service addresses, whose addresses are weir's own doing.
#[derive(Debug, Default)]
struct OwnDevice {
    index: Option<u32>,
}

impl OwnDevice {
    /// Whether a message is about it. Only a message about a link has its name.
    fn is_it(&mut self, message: &Message<'_>) -> bool {
        let index = read_index(message);
        if index.is_none() {
            return false;
        }
        match message.kind {
            NEW_LINK | DELETE_LINK => {
                let is_it = read_name(message) == Some(SERVICE_DEVICE);
                if is_it && message.kind == NEW_LINK {
                    self.index = index;
                } else if self.index == index {
                    // It is gone, or has another name.
                    self.index = None;
                }
                is_it
            }
            NEW_ADDRESS | DELETE_ADDRESS => self.index == index,
            _ => false,
        }
    }
}

impl AddressWatch {
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let listener = Listener::open(Protocol::Route)?;
        let membership = listener.membership()?;
        GROUPS.into_iter().try_for_each(|group| membership.join(group))?;
        let own = OwnDevice { index: if_nametoindex(SERVICE_DEVICE).ok() };
        Ok(AddressWatch { listener, own })
    }

    /// Whether anything happened since the last call, save to the device for service addresses.
    pub(super) fn look(&mut self) -> Result<bool, NetlinkError> {
        let mut changed = false;
        for _ in 0..TURN {
            let own = &mut self.own;
            match self.listener.receive(|message| changed |= !own.is_it(&message)) {
                Ok(true) => {}
                Ok(false) => break,
                // Something happened, and the kernel had no room to say what.
                Err(NetlinkError::Overrun { .. } | NetlinkError::Malformed { .. }) => changed = true,
                Err(error) => return Err(error),
            }
        }
        Ok(changed)
    }
}

impl AsFd for AddressWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::link::wire::{LINK_HEADER, LINK_NAME};

    fn message(kind: u16, index: u32, name: &str) -> Vec<u8> {
        let mut payload = vec![0; if matches!(kind, NEW_LINK | DELETE_LINK) { LINK_HEADER } else { 8 }];
        payload[4..8].copy_from_slice(&index.to_ne_bytes());
        if matches!(kind, NEW_LINK | DELETE_LINK) {
            let length = u16::try_from(4 + name.len() + 1).unwrap();
            payload.extend(length.to_ne_bytes());
            payload.extend(LINK_NAME.to_ne_bytes());
            payload.extend(name.bytes().chain([0]));
        }
        payload
    }

    #[test]
    fn the_service_devices_addresses_are_no_news() {
        let mut own = OwnDevice::default();
        let mut is_it = |kind, index, name: &str| {
            let payload = message(kind, index, name);
            own.is_it(&Message { kind, flags: 0, sequence: 0, port: 0, payload: &payload })
        };
        assert!(!is_it(NEW_ADDRESS, 7, ""), "nobody knows of the device yet");
        assert!(is_it(NEW_LINK, 7, SERVICE_DEVICE));
        assert!(is_it(NEW_ADDRESS, 7, "") && is_it(DELETE_ADDRESS, 7, ""));
        assert!(!is_it(NEW_ADDRESS, 8, "") && !is_it(NEW_LINK, 8, "eth0"));
        assert!(is_it(DELETE_LINK, 7, SERVICE_DEVICE));
        assert!(!is_it(NEW_ADDRESS, 7, ""), "the number belongs to another device now");
        assert!(!OwnDevice::default().is_it(&Message {
            kind: NEW_LINK,
            flags: 0,
            sequence: 0,
            port: 0,
            payload: &[1, 2]
        }));
    }
}
