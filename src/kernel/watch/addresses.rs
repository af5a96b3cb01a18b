//! Addresses and links of this host come and go.

use std::os::fd::{AsFd, BorrowedFd};

use crate::kernel::netlink::{Listener, NetlinkError, Protocol};

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV6_IFADDR` of uapi `linux/rtnetlink.h`.
const GROUPS: [u32; 3] = [1, 5, 9];

/// How many datagrams are taken in a row, before others have their turn.
const TURN: usize = 256;

/// Follows addresses and links in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct AddressWatch {
    listener: Listener,
}

impl AddressWatch {
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let listener = Listener::open(Protocol::Route)?;
        let membership = listener.membership()?;
        GROUPS.into_iter().try_for_each(|group| membership.join(group))?;
        Ok(AddressWatch { listener })
    }

    /// Whether anything happened since the last call.
    pub(super) fn look(&mut self) -> Result<bool, NetlinkError> {
        let mut changed = false;
        for _ in 0..TURN {
            match self.listener.receive(|_| ()) {
                Ok(true) => changed = true,
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
