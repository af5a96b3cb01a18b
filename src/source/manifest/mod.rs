//! Facts from a folder of YAML and JSON files.

mod decode;
mod defaults;
mod error;
mod folder;
mod json;
mod objects;
mod status;
mod tree;
mod yaml;

pub use error::{FileError, ManifestError};
pub use folder::Duplicate;
pub use status::{Status, Summary};
pub use tree::Place;
