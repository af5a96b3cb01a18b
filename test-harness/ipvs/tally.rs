//! What became of cases, told as libtest does: a line for each when it is over, and at the end what the failed printed.

use std::time::Instant;

/// What became of a case: `None` if it went well, else what it printed.
pub type Outcome = Option<String>;

/// The line that tells that a case is over. [`is_over`] reads it.
pub fn over(name: &str, outcome: &Outcome, seconds: f64) -> String {
    format!("test {name} ... {} ({seconds:.2} s)", word(outcome.is_none()))
}

/// The name of the case that this line tells to be over, and whether it went well.
pub fn is_over(line: &str) -> Option<(&str, bool)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let word = rest.split_once(" (")?.0;
    [true, false].into_iter().find(|passed| word == self::word(*passed)).map(|passed| (name, passed))
}

fn word(passed: bool) -> &'static str {
    if passed { "ok" } else { "FAILED" }
}

/// Counts cases from the first line of the output to the last.
pub struct Tally {
    start: Instant,
    passed: usize,
    failed: Vec<(String, String)>,
    filtered: usize,
}

impl Tally {
    /// Prints how many cases are to come.
    pub fn begin(chosen: usize, total: usize) -> Tally {
        println!("\nrunning {chosen} tests");
        Tally { start: Instant::now(), passed: 0, failed: Vec::new(), filtered: total - chosen }
    }

    pub fn count(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            None => self.passed += 1,
            Some(printed) => self.failed.push((name.to_owned(), printed)),
        }
    }

    /// Prints what the failed cases printed, and the sum. True if none failed.
    pub fn end(self) -> bool {
        for (name, printed) in &self.failed {
            println!("\n---- {name} ----");
            printed.trim_end().lines().for_each(|line| println!("{}", cut(line)));
        }
        let passed = self.failed.is_empty();
        println!(
            "\ntest result: {}. {} passed; {} failed; {} filtered out; finished in {:.2} s\n",
            if passed { "ok" } else { "FAILED" },
            self.passed,
            self.failed.len(),
            self.filtered,
            self.start.elapsed().as_secs_f64()
        );
        passed
    }
}

/// Values as large as a kernel's tables, printed by a comparison that failed, would bury everything else.
fn cut(line: &str) -> String {
    const MOST: usize = 2000;
    let left = line.chars().count().saturating_sub(MOST);
    if left == 0 {
        return line.to_owned();
    }
    format!("{} ... and {left} characters more", line.chars().take(MOST).collect::<String>())
}
