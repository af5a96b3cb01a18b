//! Archives that a kernel unpacks as its initial file system: cpio in the form "newc" (the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Component, Path};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// Numbers in a header, behind the magic one.
const FIELDS: usize = 13;

/// An archive that is written to `out`. Folders above a file are made with it.
pub struct Archive<W> {
    out: W,
    folders: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub fn new(out: W) -> Self {
        Archive { out, folders: BTreeSet::new() }
    }

    /// Adds a file, executable by all, at this absolute path.
    pub fn file(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        let name = self.folders_above(path)?;
        self.entry(&name, PROGRAM, content)
    }

    /// Adds a folder of this machine with all that is in it, at the place where it is here.
    pub fn folder(&mut self, path: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(path)? {
            let path = entry?.path();
            if path.is_dir() {
                self.folder(&path)?;
            } else {
                self.file(&path, &std::fs::read(&path)?)?;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.out)
    }

    /// Makes the folders, and gives the name of the file: its path without the first slash.
    fn folders_above(&mut self, path: &Path) -> io::Result<String> {
        let mut name = String::new();
        let mut parts = path.components().filter_map(|part| match part {
            Component::Normal(part) => Some(part.to_string_lossy()),
            _ => None,
        });
        let last = parts.next_back().ok_or(io::ErrorKind::InvalidInput)?;
        for part in parts {
            name.push_str(&part);
            if self.folders.insert(name.clone()) {
                self.entry(&name, FOLDER, &[])?;
            }
            name.push('/');
        }
        Ok(name + &last)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let mut fields = [0; FIELDS];
        // Inode, mode, user, group, links, time, size, device (2), device number (2), length of the name, checksum.
        (fields[1], fields[4], fields[6], fields[11]) = (mode, 1, size, name_size);
        let mut header = String::from("070701");
        header.extend(fields.iter().map(|field| format!("{field:08X}")));
        header.push_str(name);
        header.push('\0');
        self.padded(header.as_bytes())?;
        self.padded(content)
    }

    /// Header with name, and content, each end at a multiple of four.
    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        let missing = bytes.len().next_multiple_of(4) - bytes.len();
        self.out.write_all(&[0; 3][..missing])
    }
}
