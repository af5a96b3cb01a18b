//! The difference for people: unified-diff style, grouped by service, with a summary.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::grouping::{About, Action, Grouped, Line, Summary};

const HEADING: Style = Style::new().bold();
const CHAIN: Style = AnsiColor::Cyan.on_default();
const ADDED: Style = AnsiColor::Green.on_default();
const REMOVED: Style = AnsiColor::Red.on_default();

/// Writes the difference. Colour codes are always written: the stream drops them where they do not belong.
pub fn write(out: &mut impl Write, grouped: &Grouped) -> io::Result<()> {
    for (about, chains) in &grouped.groups {
        writeln!(out, "{HEADING}{}{HEADING:#}", heading(about))?;
        for chain in chains {
            let note = match chain.action {
                Action::Add => " (new chain)",
                Action::Change => "",
                Action::Remove => " (chain goes)",
            };
            writeln!(out, "{CHAIN}@@ {} {} {} @@{CHAIN:#}{note}", chain.family, chain.table, chain.chain)?;
            for line in &chain.lines {
                write_line(out, line)?;
            }
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

fn write_line(out: &mut impl Write, line: &Line) -> io::Result<()> {
    match line.action {
        Some(Action::Add | Action::Change) => writeln!(out, "{ADDED}+{}{ADDED:#}", line.rule),
        Some(Action::Remove) => writeln!(out, "{REMOVED}-{}{REMOVED:#}", line.rule),
        None => writeln!(out, " {}", line.rule),
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
