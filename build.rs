//! Links the unwinder into the program, so that it needs no shared library but libc's.
//!
//! The standard library asks for `libgcc_s`, which is no part of libc and absent from images that have just that. The same
//! code is in `libgcc_eh.a`, which every C compiler of GNU has beside it. So the linker finds, under the name that it is
//! asked for, a script that leads there. Where the compiler has no such archive, nothing changes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let native = env::var_os("HOST") == env::var_os("TARGET");
    if !native || !is("CARGO_CFG_TARGET_OS", "linux") || !is("CARGO_CFG_TARGET_ENV", "gnu") || !has_archive() {
        return Ok(());
    }
    let folder = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?);
    fs::write(folder.join("libgcc_s.so"), "INPUT(-lgcc_eh)\n")?;
    println!("cargo::rustc-link-search=native={}", folder.display());
    Ok(())
}

/// Whether the C compiler that links has the archive: it answers with a path, or with the name alone.
fn has_archive() -> bool {
    let output = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
    output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_absolute())
}
