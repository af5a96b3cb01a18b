//! Reading messages: a datagram holds one or more, each behind a `struct nlmsghdr`.

use super::attribute::Attributes;
use super::{Refusal, align};

/// Length of `struct nlmsghdr`: length 32 bits, type and flags 16 each, sequence number and port 32 each.
pub(super) const HEADER_LENGTH: usize = 16;

/// Types of message that are netlink's own (`NLMSG_*`).
pub(super) const ERROR: u16 = 2;
pub(super) const DONE: u16 = 3;

/// The original request's payload is left out of the answer (`NLM_F_CAPPED`).
const CAPPED: u16 = 0x100;
/// Attributes follow: the extended acknowledgement (`NLM_F_ACK_TLVS`).
const HAS_ATTRIBUTES: u16 = 0x200;

/// `NLMSGERR_ATTR_*`.
const ATTRIBUTE_TEXT: u16 = 1;
const ATTRIBUTE_OFFSET: u16 = 2;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    /// The sequence number of the request that it answers.
    pub sequence: u32,
    /// The port of the socket that it is for; in a notification, of the socket whose request caused it.
    pub port: u32,
    /// What is behind the header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The message at the start of `bytes`, and the length of it with its padding. `None` if it is cut off or too
    /// short for its header.
    pub(super) fn read(bytes: &'a [u8]) -> Option<(Message<'a>, usize)> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<2>()?;
        let (flags, rest) = rest.split_first_chunk::<2>()?;
        let (sequence, rest) = rest.split_first_chunk::<4>()?;
        let (port, _) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
        let message = Message {
            kind: u16::from_ne_bytes(*kind),
            flags: u16::from_ne_bytes(*flags),
            sequence: u32::from_ne_bytes(*sequence),
            port: u32::from_ne_bytes(*port),
            payload: bytes.get(HEADER_LENGTH..length)?,
        };
        Some((message, align(length)))
    }

    /// What an acknowledgement (`NLMSG_ERROR`) says: `Ok` if the request succeeded. `None` if it is cut off.
    pub(super) fn acknowledgement(&self) -> Option<Result<(), Refusal>> {
        let (code, rest) = self.payload.split_first_chunk::<4>()?;
        let code = i32::from_ne_bytes(*code);
        if code == 0 {
            return Some(Ok(()));
        }
        // The request comes back: its header at least, and unless it is capped the rest of it.
        let echo = rest.split_first_chunk::<4>().map_or(0, |(length, _)| u32::from_ne_bytes(*length));
        let echo = if self.flags & CAPPED != 0 { HEADER_LENGTH } else { usize::try_from(echo).ok()? };
        let attributes = rest.get(align(echo)..).unwrap_or_default();
        let echo = rest.get(HEADER_LENGTH..echo.min(rest.len())).unwrap_or_default();
        Some(Err(Refusal { echo: echo.get(..Refusal::ECHO).unwrap_or(echo).into(), ..self.refusal(code, attributes) }))
    }

    /// What the end of a dump (`NLMSG_DONE`) says: `Ok` if the dump is complete. An end without a code is one too.
    pub(super) fn end_of_dump(&self) -> Result<(), Refusal> {
        match self.payload.split_first_chunk::<4>() {
            Some((code, rest)) if i32::from_ne_bytes(*code) < 0 => Err(self.refusal(i32::from_ne_bytes(*code), rest)),
            _ => Ok(()),
        }
    }

    fn refusal(&self, code: i32, attributes: &[u8]) -> Refusal {
        let attributes = Attributes::new(if self.flags & HAS_ATTRIBUTES != 0 { attributes } else { &[] });
        Refusal {
            code: code.saturating_neg(),
            text: attributes.clone().find(ATTRIBUTE_TEXT).and_then(|text| text.text()).map(Box::from),
            offset: attributes.find(ATTRIBUTE_OFFSET).and_then(|offset| offset.u32()),
            echo: Box::default(),
        }
    }
}
