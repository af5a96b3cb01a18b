//! Files of settings, as sysctl.conf(5) and sysctl.d(5) describe them.

/// A line that means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// A path below `/proc/sys`, in which `*` and `?` may stand for more than themselves.
    pub pattern: String,
    /// `None`: patterns do not apply to what this names (`-net.ipv4.conf.lo.rp_filter`).
    pub value: Option<String>,
}

impl Setting {
    /// It names one parameter, and so weighs more than a pattern that happens to match it.
    pub fn is_exact(&self) -> bool {
        !self.pattern.contains(['*', '?'])
    }
}

/// Reads a file. Comments (`#`, `;`), empty lines and lines that make no sense are passed over, as by the programs that
/// load such files. A leading `-` means that the loader is to ignore errors, which is nothing to us.
pub(super) fn parse(text: &str) -> Vec<Setting> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Setting> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return None;
    }
    let (line, marked) = line.strip_prefix('-').map_or((line, false), |rest| (rest.trim_start(), true));
    let (name, value) = match line.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim().to_owned())),
        None if marked => (line, None),
        None => return None,
    };
    (!name.is_empty()).then(|| Setting { pattern: super::name::to_path(name), value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn setting(pattern: &str, value: Option<&str>) -> Setting {
        Setting { pattern: pattern.to_owned(), value: value.map(str::to_owned) }
    }

    #[test]
    fn a_file_with_everything_in_it() {
        let text = "
# a comment
   ; another = one
net.ipv4.ip_forward=1
  net/ipv4/vs/conntrack   =   0
-net.ipv4.vs.expire_nodest_conn = 0
- kernel.domainname = example.com
-net.ipv4.conf.lo.arp_ignore
net.ipv4.conf.*.arp_ignore = 2
net.ipv4.tcp_rmem = 4096\t87380 6291456 # no comment
kernel.core_pattern = |/bin/x = y
empty =
no value
= no name
";
        let expected = [
            setting("net/ipv4/ip_forward", Some("1")),
            setting("net/ipv4/vs/conntrack", Some("0")),
            setting("net/ipv4/vs/expire_nodest_conn", Some("0")),
            setting("kernel/domainname", Some("example.com")),
            setting("net/ipv4/conf/lo/arp_ignore", None),
            setting("net/ipv4/conf/*/arp_ignore", Some("2")),
            setting("net/ipv4/tcp_rmem", Some("4096\t87380 6291456 # no comment")),
            setting("kernel/core_pattern", Some("|/bin/x = y")),
            setting("empty", Some("")),
        ];
        assert_eq!(parse(text), expected);
        assert!(!expected[5].is_exact() && expected[4].is_exact());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            name in "[a-z][a-z0-9_]{0,8}(/[a-z0-9_.*]{1,8}){0,4}",
            value in "[ -~]{0,20}",
            dots in any::<bool>(),
            marked in any::<bool>(),
        ) {
            let written = if dots { super::super::name::dotted(&name) } else { name.clone() };
            let line = format!("{}{written} = {value}", if marked { "-" } else { "" });
            prop_assert_eq!(parse(&line), [setting(&name, Some(value.trim()))]);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
