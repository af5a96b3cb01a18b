//! Things that happen to a node: an endpoint is replaced, rules are deleted, weir is stopped.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use super::manifests::Folder;
use super::node::Weir;
use super::stage::Stage;
use super::steps::{self, Attempt};
use super::table::{Row, milliseconds};
use super::{Failure, failure};
use crate::kernel::xtables::{ChainChange, ChainKey, ChainName, Changes, Table};
use crate::lab::{Flow, Host, Probe};
use crate::net::Family;
use crate::sim::trace::Ruleset;

/// How long a change may take to show.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two connections of those that wait for something.
const PAUSE: Duration = Duration::from_millis(2);

/// An endpoint is replaced by another one while a connection to it is open.
pub fn roll<W: Write>(stage: &mut Stage<'_, W>, folder: &Folder, weir: &Weir) -> Result<(), Failure> {
    stage.table.title("The endpoint is replaced, pod3 by pod5: new connections follow, the open one is left alone");
    let (before, after) = steps::rolling();
    stage.attempt(&before)?;
    let client = stage.host(before.from)?;
    let mut open = Open::new(client, &before)?;
    let written = Instant::now();
    folder.roll()?;
    let mut lost = 0;
    let reached = wait_for(stage, client, &after, &Probe::tcp(after.to), &mut |answered| {
        lost += usize::from(!answered);
        open.ask();
    });
    let problem = match (reached, lost) {
        (false, _) => Some(format!("expected:  pod5 answers\nhappened:  it did not, within {PATIENCE:?}")),
        (true, 0) => None,
        (true, lost) => Some(format!("expected:  every connection is answered\nhappened:  {lost} were not")),
    };
    let written = written.elapsed();
    // The first connection may come before the program has ended that has written the rules.
    weir.wait()?;
    let below = weir.last_apply().map(|took| {
        format!("writing the rules took {}; first, the folder has to be quiet for a moment", milliseconds(took))
    });
    stage.table.row(&Row {
        who: "rolling.yaml is rewritten".to_owned(),
        reached: "pod5 is reached after".to_owned(),
        time: Some(written),
        below: below.unwrap_or_default(),
        problem,
        ..Row::default()
    });
    stage.read_rules()?;
    stage.attempt(&after)?;
    open.ask();
    stage.table.count(1);
    stage.table.row(&Row {
        who: "the connection that was open".to_owned(),
        reached: open.in_words(),
        time: Some(open.slowest),
        below: "no rule of this service leads to pod3 any more; the kernel keeps what is established".to_owned(),
        problem: open.problem(),
        ..Row::default()
    });
    Ok(())
}

/// Somebody empties a chain.
pub fn flush<W: Write>(stage: &mut Stage<'_, W>, weir: &Weir) -> Result<(), Failure> {
    stage.table.title("Somebody empties a chain, as iptables -t nat -F KUBE-SERVICES does: weir puts it back");
    let before = weir.drift_found();
    let emptied_at = Instant::now();
    stage.meddle(&emptied())?;
    let found = weir.wait_for_drift(before, PATIENCE);
    let took = emptied_at.elapsed();
    let problem = match found {
        0 => Some(format!("expected:  weir notices\nhappened:  it did not, within {PATIENCE:?}")),
        _ => None,
    };
    stage.table.row(&Row {
        who: "KUBE-SERVICES is emptied".to_owned(),
        reached: "the chain is back after".to_owned(),
        time: Some(took),
        below: "nobody told weir: the kernel announces changes, and of legacy tables weir watches the size".to_owned(),
        problem,
        ..Row::default()
    });
    stage.read_rules()?;
    stage.attempt(&steps::flushed())
}

/// The change that `iptables -t nat -F KUBE-SERVICES` makes.
fn emptied() -> Changes {
    let key = ChainKey { family: Family::V4, table: Table::Nat, name: ChainName::new("KUBE-SERVICES") };
    let change = ChainChange { before: Some(Vec::new()), after: Some(Vec::new()) };
    Changes { chains: [(key, change)].into(), builtin: Vec::new() }
}

/// weir ends.
pub fn stop<W: Write>(stage: &mut Stage<'_, W>, weir: Weir) -> Result<(), Failure> {
    stage.table.title("weir is stopped: its rules stay, and serve");
    let before = stage.read_rules()?.to_vec();
    let asked = Instant::now();
    weir.stop()?;
    let took = asked.elapsed();
    let after = stage.read_rules()?;
    let same = before == after;
    let (before, after) = (count(&before), count(after));
    let problem =
        (!same).then(|| format!("expected:  the same rules\nhappened:  {before} rules before, {after} others after"));
    stage.table.row(&Row {
        who: "weir stops".to_owned(),
        reached: format!("{after} rules, as before"),
        time: Some(took),
        problem,
        ..Row::default()
    });
    steps::stopped().iter().try_for_each(|attempt| stage.attempt(attempt))
}

fn count(rules: &[Ruleset]) -> usize {
    rules.iter().flat_map(Ruleset::chains).map(|(.., rules)| rules.len()).sum()
}

/// Connects until one of the pods answers that are to answer; tells `each` whether somebody did.
fn wait_for<W: Write>(
    stage: &mut Stage<'_, W>,
    client: &Host,
    attempt: &Attempt,
    probe: &Probe,
    each: &mut dyn FnMut(bool),
) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let reply = probe.run(client);
        stage.table.count(1);
        each(reply.is_ok());
        if reply.is_ok_and(|reply| attempt.expected.answered_by(&reply.server)) {
            return true;
        }
        thread::sleep(PAUSE);
    }
    false
}

/// A connection that stays open.
struct Open {
    flow: Flow,
    server: String,
    answers: usize,
    slowest: Duration,
    problem: Option<String>,
}

impl Open {
    fn new(client: &Host, attempt: &Attempt) -> Result<Open, Failure> {
        let mut flow = Flow::open(client, &Probe::tcp(attempt.to)).map_err(failure)?;
        let server = flow.ask().map_err(failure)?.server;
        Ok(Open { flow, server, answers: 1, slowest: Duration::ZERO, problem: None })
    }

    fn ask(&mut self) {
        match self.flow.ask() {
            Ok(reply) if reply.server == self.server => {
                self.answers += 1;
                self.slowest = self.slowest.max(reply.elapsed);
            }
            Ok(reply) => self.problem = Some(format!("{} answered on it", reply.server)),
            Err(error) => self.problem = Some(error.to_string()),
        }
    }

    fn in_words(&self) -> String {
        format!("{} still, {} answers", self.server, self.answers)
    }

    fn problem(&self) -> Option<String> {
        self.problem.as_ref().map(|what| format!("expected:  {} answers to the end\nhappened:  {what}", self.server))
    }
}
