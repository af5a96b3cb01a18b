//! Building requests.

use std::net::IpAddr;

use super::attribute::{HEADER_LENGTH as ATTRIBUTE_HEADER, NESTED};
use super::message::HEADER_LENGTH as MESSAGE_HEADER;
use super::{align, flags};

/// Where in a message's header the flags and the sequence number are.
const FLAGS: usize = 6;
const SEQUENCE: usize = 8;

/// Requests packed into one buffer, to be sent with one call. The kernel takes them one after the other, each on its
/// own (nf_tables has a frame of its own that makes them one).
///
/// The kernel refuses a send above the socket's send buffer, by default about 200 KiB: send from 64 KiB on.
#[derive(Debug)]
pub struct Batch {
    asked: &'static str,
    buffer: Vec<u8>,
    /// Where each message starts.
    starts: Vec<usize>,
    too_long: bool,
}

impl Batch {
    /// An empty batch. `asked` says in an error message what was asked for: a verb and its object.
    pub const fn new(asked: &'static str) -> Self {
        Batch { asked, buffer: Vec::new(), starts: Vec::new(), too_long: false }
    }

    /// What was asked for.
    pub fn asked(&self) -> &'static str {
        self.asked
    }

    /// Number of requests.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// Takes all requests out; the memory stays for the next ones.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.starts.clear();
        self.too_long = false;
    }

    /// Appends a request of this type; `fill` writes what is behind the message's header.
    pub fn message(&mut self, kind: u16, message_flags: u16, fill: impl FnOnce(&mut Body<'_>)) {
        let start = self.buffer.len();
        self.buffer.extend([0; 4]);
        self.buffer.extend(kind.to_ne_bytes());
        self.buffer.extend((message_flags | flags::REQUEST).to_ne_bytes());
        // The sequence number is the socket's to give; the port stays 0: the kernel knows ours.
        self.buffer.extend([0; MESSAGE_HEADER - 8]);
        fill(&mut Body { buffer: &mut self.buffer, too_long: &mut self.too_long });
        match u32::try_from(self.buffer.len() - start) {
            Ok(length) => write_at(&mut self.buffer, start, &length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        self.starts.push(start);
    }

    /// An attribute or message is too long for its length field: the batch cannot be sent.
    pub fn too_long(&self) -> bool {
        self.too_long
    }

    /// Overwrites bytes of a request, counted from its header's start. Bytes that are not there are not written.
    pub fn overwrite(&mut self, index: usize, offset: usize, bytes: &[u8]) {
        if let Some(start) = self.starts.get(index) {
            write_at(&mut self.buffer, start + offset, bytes);
        }
    }

    /// The bytes to send.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// The flags of a request; none if there is no such request.
    pub(super) fn flags(&self, index: usize) -> u16 {
        let bytes = self.starts.get(index).and_then(|start| self.buffer.get(start + FLAGS..start + FLAGS + 2));
        bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_ne_bytes)
    }

    /// Adds flags to a request.
    pub(super) fn add_flags(&mut self, index: usize, more: u16) {
        let all = self.flags(index) | more;
        if let Some(start) = self.starts.get(index) {
            write_at(&mut self.buffer, start + FLAGS, &all.to_ne_bytes());
        }
    }

    /// Numbers the requests, starting with `first`.
    pub(super) fn number(&mut self, first: u32) {
        for (start, index) in self.starts.iter().zip(0u32..) {
            write_at(&mut self.buffer, start + SEQUENCE, &first.wrapping_add(index).to_ne_bytes());
        }
    }
}

/// What is behind a message's header: the family's own header, then attributes.
#[derive(Debug)]
pub struct Body<'a> {
    buffer: &'a mut Vec<u8>,
    too_long: &'a mut bool,
}

impl Body<'_> {
    /// Bytes as they are, padded: the header of the family (`nfgenmsg`, `genlmsghdr`).
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.buffer.extend_from_slice(bytes);
        self.pad(bytes.len());
        self
    }

    /// An attribute.
    pub fn put(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        let start = self.open(kind);
        self.buffer.extend_from_slice(payload);
        self.close(start)
    }

    pub fn put_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.put(kind, &[value])
    }

    pub fn put_u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    pub fn put_u16_be(&mut self, kind: u16, value: u16) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    pub fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put_word(kind, value.to_ne_bytes())
    }

    pub fn put_u32_be(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put_word(kind, value.to_be_bytes())
    }

    pub fn put_u64_be(&mut self, kind: u16, value: u64) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// An address: 4 or 16 bytes.
    pub fn put_ip(&mut self, kind: u16, ip: IpAddr) -> &mut Self {
        match ip {
            IpAddr::V4(ip) => self.put(kind, &ip.octets()),
            IpAddr::V6(ip) => self.put(kind, &ip.octets()),
        }
    }

    /// A text with the NUL that the kernel expects behind it.
    pub fn put_text(&mut self, kind: u16, text: &str) -> &mut Self {
        let start = self.open(kind);
        self.buffer.extend_from_slice(text.as_bytes());
        self.buffer.push(0);
        self.close(start)
    }

    /// An attribute that holds attributes, which `fill` writes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Body<'_>)) -> &mut Self {
        let start = self.open(kind | NESTED);
        fill(self);
        self.close(start)
    }

    /// An attribute of four bytes, as most are, in one piece.
    fn put_word(&mut self, kind: u16, [a, b, c, d]: [u8; 4]) -> &mut Self {
        const LENGTH: [u8; 2] = (ATTRIBUTE_HEADER as u16 + 4).to_ne_bytes();
        let [kind_first, kind_last] = kind.to_ne_bytes();
        self.buffer.extend_from_slice(&[LENGTH[0], LENGTH[1], kind_first, kind_last, a, b, c, d]);
        self
    }

    /// Writes an attribute's header and gives its place.
    fn open(&mut self, kind: u16) -> usize {
        let start = self.buffer.len();
        let [first, last] = kind.to_ne_bytes();
        self.buffer.extend_from_slice(&[0, 0, first, last]);
        start
    }

    /// Writes the length of the attribute that was opened at `start`, and pads it.
    fn close(&mut self, start: usize) -> &mut Self {
        let length = self.buffer.len() - start;
        match u16::try_from(length) {
            Ok(length) => write_at(self.buffer, start, &length.to_ne_bytes()),
            Err(_) => *self.too_long = true,
        }
        self.pad(length);
        self
    }

    fn pad(&mut self, length: usize) {
        let missing = align(length) - length;
        if missing > 0 {
            self.buffer.resize(self.buffer.len() + missing, 0);
        }
    }
}

/// Overwrites bytes that are there.
fn write_at(buffer: &mut [u8], start: usize, bytes: &[u8]) {
    if let Some(place) = buffer.get_mut(start..start + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
