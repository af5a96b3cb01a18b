//! Protobuf's wire format: a message is a sequence of fields, each a number, a wire type and a value.
//!
//! Nothing is copied and nothing nests by itself: a field that holds a message is a slice of bytes until somebody reads
//! it, so depth is bounded by the types that are read, and lengths by the bytes that there are.

use std::fmt;

use crate::source::wire::Text;

/// Longest form of a 64-bit number, seven bits a byte.
const VARINT_MAX: usize = 10;

/// What does not fit, with the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misread {
    /// Innermost step first.
    steps: Vec<(&'static str, Option<usize>)>,
    reason: &'static str,
}

impl Misread {
    pub fn new(reason: &'static str) -> Misread {
        Misread { steps: Vec::new(), reason }
    }

    fn under(mut self, field: &'static str, index: Option<usize>) -> Misread {
        self.steps.push((field, index));
        self
    }
}

impl fmt::Display for Misread {
    /// `spec.ports[0].port: expected a number`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (field, index)) in self.steps.iter().rev().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            f.write_str(field)?;
            if let Some(index) = index {
                write!(f, "[{index}]")?;
            }
        }
        if !self.steps.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(self.reason)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'a> {
    /// Integers and booleans.
    Number(u64),
    /// Texts, bytes and messages.
    Bytes(&'a [u8]),
    /// Floating point numbers and integers of fixed length: no field that is read has one.
    Fixed,
}

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub number: u64,
    value: Value<'a>,
}

/// What a field means for the value that is being read.
pub type Fill<'a, T> = fn(&mut T, &Field<'a>) -> Result<(), Misread>;

/// Reads a message field by field into a value. Fields that `fill` does not know must be left alone by it.
pub fn read<'a, T>(mut bytes: &'a [u8], into: &mut T, fill: Fill<'a, T>) -> Result<(), Misread> {
    while !bytes.is_empty() {
        fill(into, &field(&mut bytes)?)?;
    }
    Ok(())
}

impl<'a> Field<'a> {
    /// `name` is what the API calls the field, for the message if it does not fit.
    pub fn text(&self, name: &'static str) -> Result<Text<'a>, Misread> {
        let text = self.bytes(name)?;
        match std::str::from_utf8(text) {
            Ok(text) => Ok(text.into()),
            Err(_) => Err(Misread::new("expected a text in UTF-8").under(name, None)),
        }
    }

    pub fn bytes(&self, name: &'static str) -> Result<&'a [u8], Misread> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Number(_) | Value::Fixed => Err(Misread::new("expected a text or message").under(name, None)),
        }
    }

    /// An `int32`; a number that does not fit loses its high bits, as in every implementation.
    pub fn int32(&self, name: &'static str) -> Result<i64, Misread> {
        self.number_value(name).map(|number| i64::from(number as i32))
    }

    pub fn flag(&self, name: &'static str) -> Result<bool, Misread> {
        self.number_value(name).map(|number| number != 0)
    }

    /// A message that is there once: what it says is added to what was said before.
    pub fn message<T>(&self, name: &'static str, into: &mut T, fill: Fill<'a, T>) -> Result<(), Misread> {
        read(self.bytes(name)?, into, fill).map_err(|misread| misread.under(name, None))
    }

    /// A message of a list.
    pub fn item<T: Default>(
        &self,
        name: &'static str,
        list: &mut Option<Vec<T>>,
        fill: Fill<'a, T>,
    ) -> Result<(), Misread> {
        let list = list.get_or_insert_default();
        let mut item = T::default();
        let bytes = self.bytes(name)?;
        read(bytes, &mut item, fill).map_err(|misread| misread.under(name, Some(list.len())))?;
        list.push(item);
        Ok(())
    }

    /// A text of a list.
    pub fn text_item(&self, name: &'static str, list: &mut Option<Vec<Text<'a>>>) -> Result<(), Misread> {
        list.get_or_insert_default().push(self.text(name)?);
        Ok(())
    }

    /// An entry of a map from texts to texts: a message with the key as field 1 and the value as field 2.
    pub fn entry(&self, name: &'static str) -> Result<(Text<'a>, Text<'a>), Misread> {
        let mut entry = (Text::default(), Text::default());
        self.message(name, &mut entry, |entry, field| {
            match field.number {
                1 => entry.0 = field.text("key")?,
                2 => entry.1 = field.text("value")?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(entry)
    }

    fn number_value(&self, name: &'static str) -> Result<u64, Misread> {
        match self.value {
            Value::Number(number) => Ok(number),
            Value::Bytes(_) | Value::Fixed => Err(Misread::new("expected a number").under(name, None)),
        }
    }
}

/// Takes a field off the start.
fn field<'a>(bytes: &mut &'a [u8]) -> Result<Field<'a>, Misread> {
    let key = varint(bytes)?;
    let number = key >> 3;
    if number == 0 {
        return Err(Misread::new("a field has the number 0: this is no protobuf message"));
    }
    let value = match key & 7 {
        0 => Value::Number(varint(bytes)?),
        1 => take(bytes, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = usize::try_from(varint(bytes)?).unwrap_or(usize::MAX);
            Value::Bytes(take(bytes, length)?)
        }
        5 => take(bytes, 4).map(|_| Value::Fixed)?,
        // Groups, which no Kubernetes type has, and two types that do not exist.
        _ => return Err(Misread::new("a field has an unknown wire type: this is no protobuf message of Kubernetes")),
    };
    Ok(Field { number, value })
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Misread> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Misread::new("the message is cut off within a field"))?;
    *bytes = rest;
    Ok(taken)
}

/// Seven bits a byte, the lowest first; the high bit says that there is more.
fn varint(bytes: &mut &[u8]) -> Result<u64, Misread> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(VARINT_MAX).enumerate() {
        // The tenth byte has room for one bit; what is above it is lost, as in every implementation.
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = bytes.get(at + 1..).unwrap_or_default();
            return Ok(value);
        }
    }
    Err(Misread::new(if bytes.len() < VARINT_MAX {
        "the message is cut off within a number"
    } else {
        "a number has more than 64 bits"
    }))
}
