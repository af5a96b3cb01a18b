//! What is printed: an introduction, the rows as they happen, a summary. At most 100 columns wide.

use std::io::Write;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

const TITLE: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Widths of the columns that are filled up.
const WHO: usize = 34;
const REACHED: usize = 29;
const SEEN: usize = 18;
const TIME: usize = 9;

/// One line of the table, and the rules below it.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Who connects to what, or what happens.
    pub who: String,
    /// Who answers, or how it ends.
    pub reached: String,
    /// Which source address pods see.
    pub seen: String,
    pub time: Option<Duration>,
    /// The way through the rules, or what else there is to say; may be empty.
    pub below: String,
    /// Why this is not as expected; may have several lines.
    pub problem: Option<String>,
}

/// The table, on a terminal or anywhere else.
pub struct Table<W> {
    out: W,
    titles: usize,
    rows: usize,
    failed: usize,
    connections: usize,
}

impl<W: Write> Table<W> {
    /// `out` removes colours where they do not belong.
    pub fn new(out: W) -> Self {
        Table { out, titles: 0, rows: 0, failed: 0, connections: 0 }
    }

    /// A line of text.
    pub fn say(&mut self, text: &str) {
        self.line(text);
    }

    /// The names of the columns.
    pub fn head(&mut self) {
        let (who, reached, seen, time) = ("from → to", "answered by ×connections", "client is seen as", "answer in");
        self.line(&format!("\n{DIM}        {who:<WHO$}{reached:<REACHED$}{seen:<SEEN$}{time:>TIME$}{DIM:#}"));
    }

    /// What is expected of the rows that follow.
    pub fn title(&mut self, text: &str) {
        self.titles += 1;
        self.line(&format!("{TITLE}{:>2}. {text}{TITLE:#}", self.titles));
    }

    /// What happened.
    pub fn row(&mut self, row: &Row) {
        self.rows += 1;
        let Row { who, reached, seen, below, .. } = row;
        let (style, word) = if row.problem.is_none() { (GOOD, "ok") } else { (BAD, "FAILED") };
        let time = row.time.map(milliseconds).unwrap_or_default();
        self.line(&format!("{style}{word:>6}{style:#}  {who:<WHO$}{reached:<REACHED$}{seen:<SEEN$}{time:>TIME$}"));
        if !below.is_empty() {
            self.line(&format!("        {DIM}{below}{DIM:#}"));
        }
        if let Some(problem) = &row.problem {
            self.failed += 1;
            for line in problem.lines() {
                self.line(&format!("        {BAD}{line}{BAD:#}"));
            }
        }
    }

    /// Counts connections for the summary.
    pub fn count(&mut self, connections: usize) {
        self.connections += connections;
    }

    /// The last line; returns whether everything was as expected.
    pub fn finish(mut self, with: &str, took: Duration) -> bool {
        let Table { rows, failed, connections, .. } = self;
        let (style, verdict) = match failed {
            0 => (GOOD, format!("{connections} connections, {rows} checks, all as expected")),
            _ => (BAD, format!("{failed} of {rows} checks FAILED, {connections} connections")),
        };
        self.line(&format!("\n{style}{verdict}{style:#}; {with}; {:.1} s.", took.as_secs_f64()));
        failed == 0
    }

    fn line(&mut self, text: &str) {
        // Whoever read it may have seen enough (`weir demo | head`); the exit code still tells.
        let _ = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
    }
}

/// `0.42 ms` or `312 ms`.
pub fn milliseconds(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}
