//! The output of `iptables-save` as typed chains, read line by line.
//!
//! A rule is understood completely or kept as it was printed ([`ObservedRule::Verbatim`]): what a newer tool or
//! another program's rule says can never be taken for a rule of ours. What is an error is output that is not whole,
//! because a missing chain would look like a chain to create.

mod rule;
mod token;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, BufRead};
use std::sync::Arc;

use super::{ChainName, ObservedChain, ObservedRule, Table};
use crate::net::Family;
pub use rule::RuleParser;

/// The text is not the whole output of `iptables-save`.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("cannot read: {0}")]
    Read(#[from] io::Error),
    /// iptables-nft meets an expression that only `nft` can write (or that is newer than the tool) and prints nothing
    /// of the table.
    #[error(
        "table {table} has rules that iptables cannot read (made by `nft` or a newer iptables): \
         find them with `nft list ruleset` and move them to a table of their own"
    )]
    Incompatible { table: String },
    #[error("the output ends before COMMIT: iptables-save stopped half-way")]
    Truncated,
    #[error("line {line} is not from iptables-save: {text:?}")]
    Malformed { line: usize, text: String },
    /// Only in text that no tool printed; [`read_scattered`] reads it.
    #[error("line {line}: the rules of chain {chain} are not in one place")]
    Scattered { line: usize, chain: String },
}

/// The words of a rule's text, each with whether it stood in quotes; as far as it is made of words.
pub(super) fn words(text: &str) -> Vec<(Cow<'_, str>, bool)> {
    let mut tokens = token::Tokens::new(text);
    let next = || tokens.next().ok().flatten().map(|token| (token.text, token.quoted));
    std::iter::from_fn(next).collect()
}

/// Visits every chain of every table in `input` that [`Table`] knows, holding one chain at a time: chains with rules
/// as they come, empty ones at the table's end. Other tables are skipped, and so are chains whose names are longer
/// than [`ChainName::MAX`], which only `nft` makes.
///
/// # Errors
/// See [`DecodeError`]; what was visited before an error is right, but not all.
pub fn read_tables(
    family: Family,
    input: &mut dyn BufRead,
    visit: &mut dyn FnMut(Table, ObservedChain),
) -> Result<(), DecodeError> {
    let mut grouped = Grouped { visit, current: None };
    Reader::new(family, input).run(&mut grouped)
}

/// The same for text in which the rules of a chain may stand in several places, such as a file written by hand. It
/// holds all chains of a table at once.
pub fn read_scattered(
    family: Family,
    input: &mut dyn BufRead,
    visit: &mut dyn FnMut(Table, ObservedChain),
) -> Result<(), DecodeError> {
    Reader::new(family, input).run(&mut Collected { visit, chains: Vec::new() })
}

/// What becomes of chains and rules as they are read. Chains of a table are known by the order of their declaration.
trait Sink {
    fn rule(&mut self, table: Table, chain: &mut Declared, index: usize, rule: ObservedRule) -> Result<(), ()>;
    fn end(&mut self, table: Table, chains: &mut [Declared]);
}

/// A chain that a `:` line declared.
struct Declared {
    name: Arc<str>,
    builtin: bool,
    /// Its rules were met.
    seen: bool,
}

impl Declared {
    fn with(&self, rules: Vec<ObservedRule>) -> ObservedChain {
        ObservedChain { name: ChainName::new(self.name.clone()), builtin: self.builtin, rules }
    }
}

/// Hands a chain on as soon as another one begins.
struct Grouped<'a> {
    visit: &'a mut dyn FnMut(Table, ObservedChain),
    current: Option<(Table, usize, ObservedChain)>,
}

impl Grouped<'_> {
    fn flush(&mut self) {
        if let Some((table, _, chain)) = self.current.take() {
            (self.visit)(table, chain);
        }
    }
}

impl Sink for Grouped<'_> {
    fn rule(&mut self, table: Table, chain: &mut Declared, index: usize, rule: ObservedRule) -> Result<(), ()> {
        if let Some((_, current, observed)) = &mut self.current
            && *current == index
        {
            observed.rules.push(rule);
            return Ok(());
        }
        self.flush();
        if std::mem::replace(&mut chain.seen, true) {
            return Err(());
        }
        self.current = Some((table, index, chain.with(vec![rule])));
        Ok(())
    }

    fn end(&mut self, table: Table, chains: &mut [Declared]) {
        self.flush();
        for chain in chains.iter().filter(|chain| !chain.seen) {
            (self.visit)(table, chain.with(Vec::new()));
        }
    }
}

/// Keeps the rules of all chains until the table ends.
struct Collected<'a> {
    visit: &'a mut dyn FnMut(Table, ObservedChain),
    chains: Vec<Vec<ObservedRule>>,
}

impl Sink for Collected<'_> {
    fn rule(&mut self, _: Table, _: &mut Declared, index: usize, rule: ObservedRule) -> Result<(), ()> {
        if self.chains.len() <= index {
            self.chains.resize_with(index + 1, Vec::new);
        }
        if let Some(rules) = self.chains.get_mut(index) {
            rules.push(rule);
        }
        Ok(())
    }

    fn end(&mut self, table: Table, chains: &mut [Declared]) {
        let mut rules = std::mem::take(&mut self.chains).into_iter();
        for chain in chains.iter() {
            (self.visit)(table, chain.with(rules.next().unwrap_or_default()));
        }
    }
}

/// Where the reader is.
#[derive(Clone, Copy)]
enum At {
    Outside,
    /// In a table that [`Table`] does not know.
    Skipping,
    In(Table),
}

struct Reader<'a> {
    input: &'a mut dyn BufRead,
    rules: RuleParser,
    at: At,
    line: usize,
    chains: Vec<Declared>,
    /// Index into `chains`; `None` for a chain that is left out because of its long name.
    by_name: HashMap<Arc<str>, Option<usize>>,
}

impl<'a> Reader<'a> {
    fn new(family: Family, input: &'a mut dyn BufRead) -> Self {
        Reader {
            input,
            rules: RuleParser::new(family),
            at: At::Outside,
            line: 0,
            chains: Vec::new(),
            by_name: HashMap::new(),
        }
    }

    fn run(&mut self, sink: &mut dyn Sink) -> Result<(), DecodeError> {
        let mut buffer = Vec::with_capacity(512);
        loop {
            buffer.clear();
            if self.input.read_until(b'\n', &mut buffer)? == 0 {
                return if matches!(self.at, At::Outside) { Ok(()) } else { Err(DecodeError::Truncated) };
            }
            self.line += 1;
            let bytes = buffer.strip_suffix(b"\n").unwrap_or(&buffer);
            match std::str::from_utf8(bytes) {
                Ok(text) => self.take_line(text, true, sink)?,
                // A comment may hold any bytes: such a rule is not ours.
                Err(_) => self.take_line(&String::from_utf8_lossy(bytes), false, sink)?,
            }
        }
    }

    /// `exact`: the text is what was printed, byte for byte.
    fn take_line(&mut self, text: &str, exact: bool, sink: &mut dyn Sink) -> Result<(), DecodeError> {
        if text.is_empty() {
            return Ok(());
        }
        if let Some(comment) = text.strip_prefix('#') {
            return incompatible(comment);
        }
        match (self.at, text) {
            (At::Outside, _) => return self.begin(text).ok_or_else(|| self.malformed(text)),
            (At::Skipping, "COMMIT") => self.at = At::Outside,
            (At::Skipping, _) => {}
            (At::In(table), "COMMIT") => {
                sink.end(table, &mut self.chains);
                self.at = At::Outside;
            }
            (At::In(table), _) => match text.strip_prefix(':') {
                Some(declaration) => self.declare(declaration).ok_or_else(|| self.malformed(text))?,
                None => self.append(table, text, exact, sink)?,
            },
        }
        Ok(())
    }

    /// `*TABLE`
    fn begin(&mut self, text: &str) -> Option<()> {
        let name = text.strip_prefix('*')?;
        self.chains.clear();
        self.by_name.clear();
        self.at = Table::ALL.into_iter().find(|table| table.as_str() == name).map_or(At::Skipping, At::In);
        Some(())
    }

    /// `NAME POLICY [packets:bytes]`
    fn declare(&mut self, text: &str) -> Option<()> {
        let (name, rest) = text.split_once(' ')?;
        let builtin = rest.split(' ').next()? != "-";
        let name: Arc<str> = Arc::from(name);
        let index = (name.len() <= ChainName::MAX).then_some(self.chains.len());
        if self.by_name.insert(name.clone(), index).is_some() {
            return None;
        }
        if index.is_some() {
            self.chains.push(Declared { name, builtin, seen: false });
        }
        Some(())
    }

    /// `[packets:bytes] -A CHAIN RULE`, the counters only with `--counters`.
    fn append(&mut self, table: Table, text: &str, exact: bool, sink: &mut dyn Sink) -> Result<(), DecodeError> {
        let command = match text.strip_prefix('[') {
            Some(counters) => counters.split_once("] ").map_or("", |(_, command)| command),
            None => text,
        };
        let Some(rest) = command.strip_prefix("-A ") else { return Err(self.malformed(text)) };
        let (name, rule) = rest.split_once(' ').unwrap_or((rest, ""));
        let Some(index) = self.by_name.get(name).copied() else { return Err(self.malformed(text)) };
        let by_name = &self.by_name;
        let known = |name: &str| {
            let (name, index) = by_name.get_key_value(name)?;
            index.map(|_| ChainName::new(name.clone()))
        };
        let Some(index) = index else { return Ok(()) };
        let Some(chain) = self.chains.get_mut(index) else { return Ok(()) };
        let parsed = exact.then(|| self.rules.parse(rule, &known)).flatten();
        let observed = parsed.map_or_else(|| ObservedRule::Verbatim(rule.into()), ObservedRule::Known);
        let scattered = sink.rule(table, chain, index, observed).is_err();
        if scattered {
            return Err(DecodeError::Scattered { line: self.line, chain: name.to_owned() });
        }
        Ok(())
    }

    fn malformed(&self, text: &str) -> DecodeError {
        DecodeError::Malformed { line: self.line, text: text.chars().take(200).collect() }
    }
}

/// ``# Table `nat' is incompatible, use 'nft' tool.`` Other comments say nothing.
fn incompatible(comment: &str) -> Result<(), DecodeError> {
    match comment.strip_prefix(" Table `").and_then(|rest| rest.split_once("' is incompatible")) {
        Some((table, _)) => Err(DecodeError::Incompatible { table: table.to_owned() }),
        None => Ok(()),
    }
}
