//! What a node in IPVS mode holds, and what a change makes of it, as text for people.

use std::fmt::Write;

use weir::kernel::ipset::text::{push_add, push_create, push_set};
use weir::kernel::ipvs::{RealServerChange, VirtualServerChange, VirtualServerKey, text};
use weir::kernel::link::SERVICE_DEVICE;
use weir::net::{Endpoint, Family};
use weir::plan::ipvs::Difference;
use weir::sim::{SimIpvs, SimSets};

/// All virtual servers in the syntax of `ipvsadm -Sn`, a paragraph for each.
pub fn servers(servers: &SimIpvs) -> String {
    let mut out = String::new();
    for server in servers.servers() {
        out.push('\n');
        text::lines(&server).for_each(|line| out.push_str(&format!("{line}\n")));
    }
    out
}

/// Sets in the syntax of `ipset save`, sorted.
pub fn sets(sets: &SimSets, with_empty: bool) -> String {
    let mut out = String::new();
    for set in sets.sets().filter(|set| with_empty || !set.entries.is_empty()) {
        push_set(&mut out, &set.name, &set.spec.unwrap(), &set.entries);
    }
    out
}

/// What a change makes, without rules: a paragraph for each kind of object.
pub fn difference(difference: &Difference) -> String {
    assert!(difference.rules.is_empty());
    let paragraphs = [set_lines(difference), address_lines(difference), server_lines(difference)];
    let tools = ["ipset restore", "ip -batch", "ipvsadm -R"];
    let mut out = String::new();
    for (tool, text) in tools.into_iter().zip(paragraphs).filter(|(_, text)| !text.is_empty()) {
        let _ = write!(out, "\n# {tool}\n{text}");
    }
    out
}

fn set_lines(difference: &Difference) -> String {
    let mut out = String::new();
    for (name, change) in &difference.sets.sets {
        if change.before.is_none() {
            change.after.iter().for_each(|spec| push_create(&mut out, name, spec));
        }
        change.add.iter().for_each(|(entry, comment)| push_add(&mut out, name, entry, comment.as_deref()));
        out.extend(change.remove.iter().map(|entry| format!("del {name} {entry}\n")));
        if change.after.is_none() {
            let _ = writeln!(out, "destroy {name}");
        }
    }
    out
}

fn address_lines(difference: &Difference) -> String {
    let changes = &difference.links;
    let lines = |verb, ips: &std::collections::BTreeSet<_>| -> String {
        ips.iter().map(|ip| format!("address {verb} {ip}/{} dev {SERVICE_DEVICE}\n", Family::of(ip).bits())).collect()
    };
    lines("add", &changes.add) + &lines("delete", &changes.remove)
}

fn server_lines(difference: &Difference) -> String {
    let changes = &difference.servers.servers;
    changes.iter().map(|(key, change)| server_change(key, change)).collect()
}

fn server_change(key: &VirtualServerKey, change: &VirtualServerChange) -> String {
    let service = text::service(key);
    let mut out = match (&change.before, &change.after) {
        (Some(before), Some(after)) if before == after => String::new(),
        (Some(_), Some(after)) => format!("{}\n", as_edit(&text::server_line(key, after))),
        (None, Some(after)) => format!("{}\n", text::server_line(key, after)),
        // Its real servers go with it.
        (_, None) => return format!("-D {service}\n"),
    };
    out.extend(change.real_servers.iter().map(|(endpoint, change)| real_change(key, endpoint, change)));
    out
}

fn real_change(key: &VirtualServerKey, endpoint: &Endpoint, change: &RealServerChange) -> String {
    let line = |real| text::real_server_line(key, endpoint, real);
    match (&change.before, &change.after) {
        (None, Some(after)) => format!("{}\n", line(after)),
        (Some(_), Some(after)) => format!("{}\n", as_edit(&line(after))),
        (_, None) => {
            let added = line(&Default::default());
            // `-a -t VIP -r ENDPOINT`, and what does not matter to one that goes.
            let words: Vec<&str> = added.split(' ').take(5).collect();
            format!("-d {}\n", words[1..].join(" "))
        }
    }
}

/// `-A` → `-E`, `-a` → `-e`.
fn as_edit(line: &str) -> String {
    let edit = line.replacen("-A ", "-E ", 1);
    if edit == line { line.replacen("-a ", "-e ", 1) } else { edit }
}
