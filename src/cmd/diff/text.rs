//! The difference for people: unified-diff style, grouped by service, with a summary.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::grouping::{About, Action, ChainDiff, Grouped, Summary};
use super::lines::{Fate, Line};
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
    for (about, chains) in &grouped.groups {
        writeln!(out, "{HEADING}{}{HEADING:#}", heading(about))?;
        for chain in chains {
            write_chain(out, chain, *about == About::Base)?;
        }
        writeln!(out)?;
    }
    writeln!(out, "{}", summary(&grouped.summary))
}

fn heading(about: &About) -> String {
    match about {
        About::Base => "base".to_owned(),
        About::Service(name) => format!("service {name}"),
        About::Unknown => "chains of unknown services".to_owned(),
    }
}

/// The note belongs to whom the chain belongs to: a dispatcher is the base's, whoever has rules in it.
fn write_chain(out: &mut impl Write, chain: &ChainDiff, is_base: bool) -> io::Result<()> {
    let note = match chain.action {
        Action::Add if chain.whole || is_base => " new chain",
        Action::Remove if chain.whole || is_base => " chain goes",
        _ => "",
    };
    let key = chain.key;
    writeln!(out, "{CHAIN}@@ {} {} {} @@{CHAIN:#}{note}", key.family, key.table, key.name)?;
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
    let rule = line.rule.text(family);
    match line.fate {
        Fate::Add => writeln!(out, "{ADDED}+{rule}{ADDED:#}"),
        Fate::Remove => writeln!(out, "{REMOVED}-{rule}{REMOVED:#}"),
        Fate::Keep => writeln!(out, " {rule}"),
    }
}

/// One line.
pub fn summary(summary: &Summary) -> String {
    if summary.is_empty() {
        return "Nothing to change.".to_owned();
    }
    let services = match summary.services {
        1 => "1 service".to_owned(),
        n => format!("{n} services"),
    };
    format!(
        "{services}; chains: {} to add, {} to change, {} to remove; rules: {} to add, {} to remove.",
        summary.chains_added,
        summary.chains_changed,
        summary.chains_removed,
        summary.rules_added,
        summary.rules_removed
    )
}
