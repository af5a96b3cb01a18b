//! What one `iptables-restore --noflush` reads: sections, each of which is one COMMIT of one table.

use std::io;

use super::graph::callee;
use crate::kernel::xtables::encode::push_rule;
use crate::kernel::xtables::{BuiltinChange, ChainName, Rule, Table};
use crate::net::Family;

/// A chain with all the rules that it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content<'a> {
    pub chain: &'a ChainName,
    pub rules: &'a [Rule],
    /// Old rules that stay for now, after the new ones.
    pub leftovers: Vec<&'a Rule>,
}

impl<'a> Content<'a> {
    /// The rules in their order.
    pub fn iter(&self) -> impl Iterator<Item = &'a Rule> + '_ {
        self.rules.iter().chain(self.leftovers.iter().copied())
    }

    /// The chains that its rules go to.
    pub(super) fn callees(&self) -> Vec<&'a ChainName> {
        self.iter().filter_map(callee).collect()
    }
}

/// One COMMIT of one table: all of it or nothing comes into force. The lines are written in the order of the fields,
/// so a chain is there before a rule mentions it, and is deleted only after the rules that mentioned it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    pub table: Table,
    /// Chains to empty: they are about to be deleted, here or in a later section.
    pub empty: Vec<&'a ChainName>,
    /// Chains to create or empty, and then fill.
    pub fill: Vec<Content<'a>>,
    /// Single rules in chains that are not ours alone.
    pub builtin: Vec<&'a BuiltinChange>,
    /// Chains to delete. They are empty, and nothing mentions them any more.
    pub delete: Vec<&'a ChainName>,
}

/// One line of restore input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// `*TABLE`
    Table(Table),
    /// `:CHAIN - [0:0]`: creates the chain, or empties it.
    Declare(&'a ChainName),
    /// `-A CHAIN RULE`
    Append(&'a ChainName, &'a Rule),
    /// `-N`, `-I`, `-A` or `-D` in a chain that is not ours alone.
    Builtin(&'a BuiltinChange),
    /// `-X CHAIN`
    Delete(&'a ChainName),
    Commit,
}

impl<'a> Line<'a> {
    /// The chain that the line is about.
    pub fn chain(&self) -> Option<&'a ChainName> {
        match *self {
            Line::Declare(chain) | Line::Append(chain, _) | Line::Delete(chain) => Some(chain),
            Line::Builtin(change) => Some(&change.chain().name),
            Line::Table(_) | Line::Commit => None,
        }
    }

    /// The rule that the line adds.
    pub fn added(&self) -> Option<&'a Rule> {
        match *self {
            Line::Append(_, rule) | Line::Builtin(BuiltinChange::Insert(_, rule) | BuiltinChange::Append(_, rule)) => {
                Some(rule)
            }
            _ => None,
        }
    }

    /// Appends the text with its line end.
    pub fn push(&self, out: &mut String, family: Family) {
        match self {
            Line::Table(table) => push_words(out, &["*", table.as_str()]),
            Line::Declare(chain) => push_words(out, &[":", chain.as_str(), " - [0:0]"]),
            Line::Append(chain, rule) => push_command(out, family, "-A ", chain, rule),
            Line::Builtin(BuiltinChange::CreateChain(chain)) => push_words(out, &["-N ", chain.name.as_str()]),
            Line::Builtin(BuiltinChange::Insert(key, rule)) => push_command(out, family, "-I ", &key.name, rule),
            Line::Builtin(BuiltinChange::Append(key, rule)) => push_command(out, family, "-A ", &key.name, rule),
            Line::Builtin(BuiltinChange::Delete(key, rule)) => push_command(out, family, "-D ", &key.name, rule),
            Line::Delete(chain) => push_words(out, &["-X ", chain.as_str()]),
            Line::Commit => out.push_str("COMMIT"),
        }
        out.push('\n');
    }
}

fn push_words(out: &mut String, words: &[&str]) {
    for word in words {
        out.push_str(word);
    }
}

fn push_command(out: &mut String, family: Family, command: &str, chain: &ChainName, rule: &Rule) {
    out.push_str(command);
    out.push_str(chain.as_str());
    push_rule(out, family, rule);
}

impl<'a> Section<'a> {
    /// Nothing but `*TABLE` and `COMMIT`.
    pub(in crate::kernel::xtables) fn new(table: Table) -> Self {
        Section { table, empty: Vec::new(), fill: Vec::new(), builtin: Vec::new(), delete: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.empty.is_empty() && self.fill.is_empty() && self.builtin.is_empty() && self.delete.is_empty()
    }

    /// The lines, from `*TABLE` to `COMMIT`.
    pub fn lines(&self) -> impl Iterator<Item = Line<'a>> + '_ {
        let declared = self.empty.iter().copied().chain(self.fill.iter().map(|content| content.chain));
        let rules = self.fill.iter().flat_map(|content| content.iter().map(|rule| (content.chain, rule)));
        std::iter::once(Line::Table(self.table))
            .chain(declared.map(Line::Declare))
            .chain(rules.map(|(chain, rule)| Line::Append(chain, rule)))
            .chain(self.builtin.iter().copied().map(Line::Builtin))
            .chain(self.delete.iter().copied().map(Line::Delete))
            .chain(std::iter::once(Line::Commit))
    }
}

/// The whole input of one restore process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script<'a> {
    pub family: Family,
    pub sections: Vec<Section<'a>>,
}

impl<'a> Script<'a> {
    /// Every line with its table. The first is line 1 of the text.
    pub fn lines(&self) -> impl Iterator<Item = (Table, Line<'a>)> + '_ {
        self.sections.iter().flat_map(|section| section.lines().map(|line| (section.table, line)))
    }

    /// Writes the text in pieces, never holding more than a few of them.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write_to(&self, out: &mut dyn io::Write) -> io::Result<()> {
        const PIECE: usize = 64 * 1024;
        let mut text = String::with_capacity(PIECE + 1024);
        for (_, line) in self.lines() {
            line.push(&mut text, self.family);
            if text.len() >= PIECE {
                out.write_all(text.as_bytes())?;
                text.clear();
            }
        }
        out.write_all(text.as_bytes())
    }

    /// The whole text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (_, line) in self.lines() {
            line.push(&mut text, self.family);
        }
        text
    }
}
