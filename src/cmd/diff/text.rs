//! The difference for people: unified-diff style, grouped by service, with a summary.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::deadline;
use super::grouping::{About, Action, ChainDiff, Group, Grouped, Summary};
use super::lines::{Fate, Line};
use super::objects::{ServerLine, SetDiff};
use crate::kernel::link::SERVICE_DEVICE;
use crate::kernel::nftables::ObservedTable;
use crate::net::Family;

const HEADING: Style = Style::new().bold();
const CHAIN: Style = AnsiColor::Cyan.on_default();
const ADDED: Style = AnsiColor::Green.on_default();
const REMOVED: Style = AnsiColor::Red.on_default();
const FOLDED: Style = Style::new().dimmed();

/// So many rules that stay are shown before and after a change.
const CONTEXT: usize = 3;

/// Writes the difference. Colour codes are always written: the stream drops them where they do not belong.
pub fn write(out: &mut impl Write, grouped: &Grouped) -> io::Result<()> {
    for (about, group) in &grouped.groups {
        writeln!(out, "{HEADING}{}{HEADING:#}", heading(about))?;
        for family in Family::ALL {
            write_sets(out, group, family)?;
        }
        for chain in &group.chains {
            write_chain(out, chain, *about == About::Base)?;
        }
        for family in Family::ALL {
            write_servers(out, group, family)?;
        }
        write_device(out, group)?;
        write_tables(out, group)?;
        write_accounting(out, group)?;
        writeln!(out)?;
    }
    writeln!(out, "{}", summary(&grouped.summary))
}

fn heading(about: &About) -> String {
    match about {
        About::Base => "base".to_owned(),
        About::Service(name) => format!("service {name}"),
        About::Unknown => "unknown services".to_owned(),
    }
}

fn write_sets(out: &mut impl Write, group: &Group, family: Family) -> io::Result<()> {
    let mut sets = group.sets.iter().filter(|set| set.family == family).peekable();
    if sets.peek().is_some() {
        writeln!(out, "{CHAIN}@@ {family} ipset @@{CHAIN:#}")?;
    }
    sets.try_for_each(|set| write_set(out, set))
}

fn write_set(out: &mut impl Write, set: &SetDiff) -> io::Result<()> {
    for (fate, spec) in [(Fate::Remove, &set.gone), (Fate::Add, &set.new)] {
        if let Some(spec) = spec {
            write_plain(out, fate, &set.create_line(spec))?;
        }
    }
    set.entries.iter().try_for_each(|line| write_plain(out, line.fate, &set.entry_line(line)))
}

fn write_servers(out: &mut impl Write, group: &Group, family: Family) -> io::Result<()> {
    let mut servers = group.servers.iter().filter(|server| server.key.family() == family).peekable();
    if servers.peek().is_some() {
        writeln!(out, "{CHAIN}@@ {family} ipvs @@{CHAIN:#}")?;
    }
    servers.flat_map(|server| &server.lines).try_for_each(|line| write_plain(out, line.fate, &server_text(line)))
}

/// What ipvsadm has no words for is said behind a `#`.
fn server_text(line: &ServerLine) -> String {
    let text = &line.text;
    match line.drains_until {
        Some(time) => format!("{text} # drains until {}", deadline(time)),
        None if line.has_more => format!("{text} # with more that weir does not know"),
        None => text.clone(),
    }
}

fn write_device(out: &mut impl Write, group: &Group) -> io::Result<()> {
    let note = match group.device {
        Some(Action::Add) => " new device",
        Some(Action::Remove) => " device goes",
        Some(Action::Change) | None if group.addresses.is_empty() => return Ok(()),
        Some(Action::Change) | None => "",
    };
    writeln!(out, "{CHAIN}@@ {SERVICE_DEVICE} @@{CHAIN:#}{note}")?;
    let mut addresses = group.addresses.iter();
    addresses.try_for_each(|line| write_plain(out, line.fate, &format!("address {} {SERVICE_DEVICE}", line.address)))
}

fn write_tables(out: &mut impl Write, group: &Group) -> io::Result<()> {
    if !group.tables.is_empty() {
        writeln!(out, "{CHAIN}@@ nftables @@{CHAIN:#}")?;
    }
    let line = |table: &ObservedTable| format!("table {} # chains, sets and maps: {}", table.title(), table.objects);
    group.tables.iter().try_for_each(|table| write_plain(out, Fate::Remove, &line(table)))
}

fn write_accounting(out: &mut impl Write, group: &Group) -> io::Result<()> {
    if !group.accounting.is_empty() {
        writeln!(out, "{CHAIN}@@ nfacct @@{CHAIN:#}")?;
    }
    group.accounting.iter().try_for_each(|name| write_plain(out, Fate::Remove, &format!("object {name}")))
}

/// The note belongs to whom the chain belongs to: a dispatcher is the base's, whoever has rules in it.
fn write_chain(out: &mut impl Write, chain: &ChainDiff, is_base: bool) -> io::Result<()> {
    let note = match chain.action {
        Action::Add if chain.whole || is_base => " new chain",
        Action::Remove if chain.whole || is_base => " chain goes",
        _ => "",
    };
    let key = chain.key;
    let kind = chain.variant.map(|variant| format!("{variant} ")).unwrap_or_default();
    writeln!(out, "{CHAIN}@@ {kind}{} {} {} @@{CHAIN:#}{note}", key.family, key.table, key.name)?;
    let is_near = near_changes(&chain.lines);
    let mut folded = 0;
    for (line, is_near) in chain.lines.iter().zip(is_near) {
        if is_near {
            write_folded(out, std::mem::take(&mut folded))?;
            write_line(out, line, key.family)?;
        } else {
            folded += 1;
        }
    }
    write_folded(out, folded)
}

/// Which lines are changed or near a changed one.
fn near_changes(lines: &[Line]) -> Vec<bool> {
    let mut near = vec![false; lines.len()];
    for (place, _) in lines.iter().enumerate().filter(|(_, line)| line.fate != Fate::Keep) {
        let around = place.saturating_sub(CONTEXT)..(place + CONTEXT + 1).min(lines.len());
        near.get_mut(around).into_iter().flatten().for_each(|near| *near = true);
    }
    near
}

fn write_folded(out: &mut impl Write, rules: usize) -> io::Result<()> {
    match rules {
        0 => Ok(()),
        1 => writeln!(out, "{FOLDED} [1 rule stays]{FOLDED:#}"),
        n => writeln!(out, "{FOLDED} [{n} rules stay]{FOLDED:#}"),
    }
}

fn write_line(out: &mut impl Write, line: &Line, family: Family) -> io::Result<()> {
    write_plain(out, line.fate, &line.rule.text(family))
}

fn write_plain(out: &mut impl Write, fate: Fate, text: &str) -> io::Result<()> {
    match fate {
        Fate::Add => writeln!(out, "{ADDED}+{text}{ADDED:#}"),
        Fate::Remove => writeln!(out, "{REMOVED}-{text}{REMOVED:#}"),
        Fate::Keep => writeln!(out, " {text}"),
    }
}

/// One line. Rules are always told, other objects where some change.
pub fn summary(summary: &Summary) -> String {
    if summary.is_empty() {
        return "Nothing to change.".to_owned();
    }
    let services = match summary.services {
        1 => "1 service".to_owned(),
        n => format!("{n} services"),
    };
    let s = summary;
    let mut parts = vec![
        services,
        changes("chains", s.chains_added, Some(s.chains_changed), s.chains_removed),
        changes("rules", s.rules_added, None, s.rules_removed),
    ];
    let others = [
        ("sets", s.sets_added, Some(s.sets_changed), s.sets_removed),
        ("entries", s.entries_added, None, s.entries_removed),
        ("virtual servers", s.virtual_servers_added, Some(s.virtual_servers_changed), s.virtual_servers_removed),
        ("real servers", s.real_servers_added, Some(s.real_servers_changed), s.real_servers_removed),
        ("addresses", s.addresses_added, None, s.addresses_removed),
        ("devices", s.devices_added, None, s.devices_removed),
        ("nftables tables", 0, None, s.tables_removed),
        ("accounting objects", 0, None, s.accounting_objects_removed),
    ];
    let others = others.into_iter().filter(|(_, add, change, remove)| *add + change.unwrap_or(0) + *remove > 0);
    parts.extend(others.map(|(what, add, change, remove)| changes(what, add, change, remove)));
    parts.join("; ") + "."
}

fn changes(what: &str, add: usize, change: Option<usize>, remove: usize) -> String {
    let change = change.map(|change| format!("{change} to change, ")).unwrap_or_default();
    format!("{what}: {add} to add, {change}{remove} to remove")
}
