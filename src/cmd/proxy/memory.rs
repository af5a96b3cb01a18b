//! What the allocator says of itself.

use tikv_jemalloc_ctl::{epoch, stats};

use crate::serve::metrics::Memory;

/// The figures; `None` where another allocator is at work, as in tests.
pub fn figures() -> Option<Memory> {
    epoch::advance().ok()?;
    let number = |bytes: usize| bytes as u64;
    let allocated = stats::allocated::read().ok().map(number).filter(|bytes| *bytes > 0)?;
    Some(Memory { allocated, resident: stats::resident::read().ok().map(number)? })
}

/// For people.
pub fn text() -> String {
    let Some(all) = epoch::advance().ok().and_then(|_| {
        Some([
            ("allocated", stats::allocated::read().ok()?, "in use by the program"),
            ("active", stats::active::read().ok()?, "in pages that hold something in use"),
            ("metadata", stats::metadata::read().ok()?, "of the allocator's own"),
            ("resident", stats::resident::read().ok()?, "in pages that are physically there"),
            ("mapped", stats::mapped::read().ok()?, "in extents that are mapped"),
            ("retained", stats::retained::read().ok()?, "kept as addresses only"),
        ])
    }) else {
        return "the allocator tells nothing of itself\n".to_owned();
    };
    all.iter().map(|(name, bytes, what)| format!("{name:<10} {bytes:>14} bytes {what}\n")).collect()
}
