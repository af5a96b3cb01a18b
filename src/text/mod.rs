//! YAML and JSON text to values with their places, and those to objects.
//!
//! What a document is says its `kind`, which often comes after the fields that it explains. So a document is read into
//! a neutral [`tree`] first and decoded into an object afterwards ([`decode()`]), and a value that does not fit is
//! reported with its own line and column, whichever syntax it was written in.

mod decode;
pub mod json;
pub mod tree;
pub mod yaml;

pub use decode::{decode, decode_noting};
pub use tree::{Mistake, Node, Place, Spot, Value};

/// What a text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habits {
    /// Keys are there once. Only `true` and `false` are booleans, as YAML 1.2 has it: a port may be named `y`.
    Strict,
    /// What Go's decoders of configuration read: a key that is there twice counts for what it was last
    /// ([`Node::drop_duplicates`] finds it), `yes`, `no`, `on` and `off` are booleans, `010` is 8.
    Go,
}
