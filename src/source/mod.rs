//! Where facts come from. A source sends batches of updates down a channel until it is dropped.
//!
//! Both sources decode the same API objects: [`wire`] holds the fields that are read and how they become facts.

pub mod kube;
pub mod manifest;
pub mod wire;

use tokio::sync::mpsc;

use crate::state::Update;

/// The receiving end of a source: each item is one atomic batch.
pub type Updates = mpsc::Receiver<Vec<Update>>;

/// How many batches may wait for the engine before a source waits for it.
pub const QUEUE: usize = 256;
