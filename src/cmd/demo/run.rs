//! The order of things.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::manifests::Folder;
use super::node::Weir;
use super::stage::Stage;
use super::table::{Table, milliseconds};
use super::{Failure, VariantChoice, events, failure, steps};
use crate::cmd::live;
use crate::kernel::xtables::Xtables;
use crate::kernel::xtables::restore::RestoreDriver;
use crate::kernel::xtables::variant::{Tools, Variant};
use crate::lab::{EchoServer, Lab, LabConfig};
use crate::model::Settings;
use crate::net::Protocol;
use crate::plan::iptables::Desired;

/// Where the pods' servers listen.
const PORT: u16 = 8080;

/// Shows everything, in a sandbox that has been entered; returns whether it was as expected.
pub fn run(variant: VariantChoice) -> Result<bool, Failure> {
    let begin = Instant::now();
    let mut driver = live::open(variant)?;
    try_rules(&mut driver)?;
    let tools = driver.tools().clone();
    // IPv6 can be left out; some of what is shown is IPv4.
    tools.binaries.v4.as_ref().map_err(failure)?;
    let lab = Lab::new(&LabConfig::default()).map_err(failure)?;
    let pods = lab.pods().iter().chain(lab.node2_pods());
    let servers: Result<Vec<_>, _> = pods.map(|pod| EchoServer::start(pod, &[(Protocol::Tcp, PORT)])).collect();
    let _servers = servers.map_err(failure)?;
    let folder = Folder::below(Path::new("/run"))?;
    let mut table = Table::new(anstream::stdout());
    introduce(&mut table, &folder, &tools);

    let started = Instant::now();
    let weir = Weir::start(lab.node(), folder.path().to_owned(), driver.clone())?;
    let ports = weir.wait()?;
    let took = milliseconds(started.elapsed());
    table.say(&format!("Its rules for {ports} service ports are in the kernel {took} after its start."));
    table.say("Below each row: the chains that decide where its packets go, traced over the kernel's own rules.");
    table.head();

    let mut stage = Stage::new(&lab, driver, table);
    stage.read_rules()?;
    for step in steps::daily() {
        stage.table.title(step.title);
        step.attempts.iter().try_for_each(|attempt| stage.attempt(attempt))?;
    }
    events::roll(&mut stage, &folder, &weir)?;
    events::flush(&mut stage, &weir)?;
    events::stop(&mut stage, weir)?;
    Ok(stage.table.finish(&named(&tools), begin.elapsed()))
}

/// Writes the rules of an empty cluster into the sandbox's own network namespace, where no packet passes: whatever is
/// missing in the kernel shows here, in the words of the driver.
fn try_rules(driver: &mut RestoreDriver) -> Result<(), Failure> {
    let families = driver.tools().families();
    let (desired, _) = Desired::plan(&Arc::new(Settings::default()), &families, &[]);
    driver.apply(&desired.compare().finish()).map_err(|error| {
        let variant = driver.tools().variant;
        let other = if variant == Variant::Legacy { "nft" } else { "legacy" };
        failure(format!("{error}; or try --iptables-variant={other}"))
    })
}

fn introduce<W: Write>(table: &mut Table<W>, folder: &Folder, tools: &Tools) {
    table.say("Real connections through real rules, in namespaces of this process; the host is not touched.");
    table.say("There are a node with pod1, pod2, pod3, a second one with pod4, pod5, and two outside clients.");
    table.say(&format!(
        "weir runs on the first node, follows {} manifest files and writes rules with {}.",
        folder.files(),
        named(tools)
    ));
    for (family, binaries) in tools.binaries.iter() {
        if let Err(why) = binaries {
            table.say(&format!("{family} is left out: {why}."));
        }
    }
}

/// `iptables-nft 1.8.9`.
fn named(tools: &Tools) -> String {
    format!("iptables-{} {}", tools.variant, tools.version)
}
