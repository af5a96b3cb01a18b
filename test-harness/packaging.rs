//! What is shipped beside the program: the systemd unit, the manifests of `deploy/`, the image, and the program as a file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod program;

#[allow(dead_code, reason = "the suite node uses more of it")]
#[path = "node/process.rs"]
mod process;

#[path = "packaging/capabilities.rs"]
mod capabilities;
#[path = "packaging/command.rs"]
mod command;
#[path = "packaging/elf.rs"]
mod elf;
#[path = "packaging/image.rs"]
mod image;
#[path = "packaging/manifests.rs"]
mod manifests;
#[path = "packaging/readme.rs"]
mod readme;
#[path = "packaging/unit.rs"]
mod unit;

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
