//! Reading attributes.

use std::net::IpAddr;

use super::align;

/// Length of `struct nlattr`: length and type, 16 bits each.
pub(super) const HEADER_LENGTH: usize = 4;
/// The payload is attributes again (`NLA_F_NESTED`).
pub(super) const NESTED: u16 = 1 << 15;
/// The bits of the type that are no flags (`NLA_TYPE_MASK`); the flags are [`NESTED`] and `NLA_F_NET_BYTEORDER`.
const TYPE_MASK: u16 = 0x3fff;

/// One attribute. The value is read by the function of its kind, which is `None` where the length does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The type, without its flags.
    pub kind: u16,
    pub payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes inside.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.payload)
    }

    pub fn u8(&self) -> Option<u8> {
        self.array().map(u8::from_ne_bytes)
    }

    pub fn u16(&self) -> Option<u16> {
        self.array().map(u16::from_ne_bytes)
    }

    pub fn u16_be(&self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    pub fn u32_be(&self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64_be(&self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// An address: 4 bytes are IPv4, 16 are IPv6.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.payload.len() {
            4 => self.array::<4>().map(IpAddr::from),
            _ => self.array::<16>().map(IpAddr::from),
        }
    }

    /// A text, up to its NUL if it has one. `None` if it is not UTF-8.
    pub fn text(&self) -> Option<&'a str> {
        let text = self.payload.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(text).ok()
    }

    fn array<const N: usize>(&self) -> Option<[u8; N]> {
        self.payload.try_into().ok()
    }
}

/// Attributes one after the other. Ends at the end of the bytes, or before the first attribute that is longer than
/// what is left or shorter than its own header.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Attributes { rest: bytes }
    }

    /// Takes what was not read. At the end it is empty, unless the bytes end within an attribute.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The first attribute of a type.
    pub fn find(mut self, kind: u16) -> Option<Attribute<'a>> {
        Iterator::find(&mut self, |attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let (length, rest) = self.rest.split_first_chunk::<2>()?;
        let (kind, _) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let payload = self.rest.get(HEADER_LENGTH..length)?;
        // The padding behind the last attribute may be left out.
        self.rest = self.rest.get(align(length)..).unwrap_or_default();
        Some(Attribute { kind: u16::from_ne_bytes(*kind) & TYPE_MASK, payload })
    }
}
