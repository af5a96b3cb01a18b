//! How many CPUs this machine has.

use std::fs;
use std::path::Path;

/// Below the root: the CPUs that are online.
const ONLINE: &str = "sys/devices/system/cpu/online";

/// CPUs of the machine that are online. Where the kernel does not say, those that this process may use, which may be
/// fewer in a container.
pub fn cpus(root: &Path) -> u32 {
    let online = fs::read_to_string(root.join(ONLINE)).ok().and_then(|text| count(text.trim()));
    let usable = || std::thread::available_parallelism().map_or(1, |number| number.get());
    online.unwrap_or_else(|| u32::try_from(usable()).unwrap_or(u32::MAX))
}

/// Counts a list as the kernel writes it: `0-3,8,10-11`. `None` if it is none, or empty.
fn count(list: &str) -> Option<u32> {
    let mut all = 0u32;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        all = all.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_as_the_kernel_writes_them() {
        for (list, expected) in [
            ("0", Some(1)),
            ("0-3", Some(4)),
            ("0-3,8,10-11", Some(7)),
            ("", None),
            ("3-0", None),
            ("0-4294967295", None),
            ("0-", None),
            ("all", None),
        ] {
            assert_eq!(count(list), expected, "{list}");
        }
    }

    #[test]
    fn without_a_list_there_is_at_least_one() {
        let root = tempfile::tempdir().unwrap();
        assert!(cpus(root.path()) >= 1);
        let file = root.path().join(ONLINE);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "0-63\n").unwrap();
        assert_eq!(cpus(root.path()), 64);
    }
}
