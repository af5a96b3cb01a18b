//! The program is one file that needs libc and no other shared library. Read from the file itself, as `elf(5)` says.

use std::fs;
use std::path::Path;

use crate::repository;

/// Libraries of the C library, and its loader.
const LIBC: [&str; 8] = [
    "libc.so.6",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "libc.so",
];

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;

/// A 64-bit little-endian file.
struct Elf<'a>(&'a [u8]);

/// A program header: type, offset in the file, address, size in the file.
struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    size: u64,
}

impl Elf<'_> {
    fn number(&self, at: u64, bytes: usize) -> u64 {
        let at = usize::try_from(at).unwrap();
        self.0[at..at + bytes].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    fn segments(&self) -> Vec<Segment> {
        assert_eq!(&self.0[..6], b"\x7fELF\x02\x01", "no 64-bit little-endian ELF file");
        let (table, size, count) = (self.number(32, 8), self.number(54, 2), self.number(56, 2));
        let segment = |at: u64| Segment {
            kind: self.number(at, 4),
            offset: self.number(at + 8, 8),
            address: self.number(at + 16, 8),
            size: self.number(at + 32, 8),
        };
        (0..count).map(|i| segment(table + i * size)).collect()
    }

    fn text(&self, at: u64) -> String {
        let bytes = &self.0[usize::try_from(at).unwrap()..];
        String::from_utf8(bytes.iter().copied().take_while(|byte| *byte != 0).collect()).unwrap()
    }

    /// Names of the shared libraries.
    fn needed(&self) -> Vec<String> {
        let segments = self.segments();
        let Some(dynamic) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) else { return Vec::new() };
        let entries: Vec<(u64, u64)> = (0..dynamic.size / 16)
            .map(|i| dynamic.offset + i * 16)
            .map(|at| (self.number(at, 8), self.number(at + 8, 8)))
            .take_while(|(tag, _)| *tag != DT_NULL)
            .collect();
        let of = |wanted: u64| entries.iter().filter(move |(tag, _)| *tag == wanted).map(|(_, value)| *value);
        let strings = of(DT_STRTAB).next().unwrap();
        let load = segments
            .iter()
            .find(|segment| {
                segment.kind == PT_LOAD && (segment.address..segment.address + segment.size).contains(&strings)
            })
            .unwrap();
        of(DT_NEEDED).map(|name| self.text(strings - load.address + load.offset + name)).collect()
    }
}

fn check(program: &Path) {
    let bytes = fs::read(program).unwrap();
    let needed = Elf(&bytes).needed();
    let mib = bytes.len() as f64 / f64::from(1 << 20);
    println!("{}: {mib:.1} MiB, needs {}", program.display(), needed.join(" "));
    let others: Vec<&String> = needed.iter().filter(|name| !LIBC.contains(&name.as_str())).collect();
    assert!(others.is_empty(), "{} needs {others:?}", program.display());
}

/// The program of this build, and that of a release build if there is one.
#[test]
fn it_needs_no_library_beyond_libc() {
    check(Path::new(env!("CARGO_BIN_EXE_weir")));
    let release = repository("target/release/weir");
    if release.exists() {
        check(&release);
    }
}

/// The reader sees libraries where there are some.
#[test]
fn the_reader_reads() {
    let shell = fs::read("/bin/sh").unwrap();
    assert!(Elf(&shell).needed().iter().any(|name| name.starts_with("libc.")), "{:?}", Elf(&shell).needed());
}
