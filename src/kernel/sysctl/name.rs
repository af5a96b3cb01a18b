//! Names of kernel parameters.

/// A name as people write it, as a path below `/proc/sys` (sysctl.d(5)): what the first separator is separates, and the
/// other one stands for it within a part: `net.ipv4.conf.eth0/200.forwarding` and `net/ipv4/conf/eth0.200/forwarding`
/// are the same.
pub(super) fn to_path(name: &str) -> String {
    match name.find(['.', '/']).and_then(|at| name.get(at..)) {
        Some(rest) if rest.starts_with('.') => swapped(name),
        _ => name.to_owned(),
    }
}

/// A path as `sysctl` prints it.
pub(super) fn dotted(path: &str) -> String {
    swapped(path)
}

fn swapped(text: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    text.chars().map(swap).collect()
}

/// Whether a path has this form: `*` stands for any part of one component, `?` for one character of it.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let mut patterns = pattern.split('/');
    let mut parts = path.split('/');
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if component(pattern.as_bytes(), part.as_bytes()) => {}
            _ => return false,
        }
    }
}

fn component(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            component(rest, text) || text.split_first().is_some_and(|(_, text)| component(pattern, text))
        }
        (Some((b'?', pattern)), Some((_, text))) => component(pattern, text),
        (Some((expected, pattern)), Some((found, text))) => expected == found && component(pattern, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_says_what_separates() {
        for (name, path) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            ("net.ipv4.conf.eth0/200.forwarding", "net/ipv4/conf/eth0.200/forwarding"),
            ("net/ipv4/conf/eth0.200/forwarding", "net/ipv4/conf/eth0.200/forwarding"),
            ("word", "word"),
            ("", ""),
        ] {
            assert_eq!(to_path(name), path);
            assert_eq!(to_path(&dotted(path)), path);
        }
    }

    #[test]
    fn a_star_stays_in_its_component() {
        let path = "net/ipv4/conf/all/arp_ignore";
        for pattern in
            [path, "net/ipv4/conf/*/arp_ignore", "net/ipv?/conf/a*/arp_*", "*/*/*/*/*", "net/ipv4/conf/**/*e"]
        {
            assert!(matches(pattern, path), "{pattern}");
        }
        for pattern in ["net/*/arp_ignore", "*", "net/ipv4/conf/*/arp_ignor?e", "net/ipv4/conf/*", "", "*/*/*/*/*/*"] {
            assert!(!matches(pattern, path), "{pattern}");
        }
    }
}
