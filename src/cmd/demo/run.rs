//! The order of things.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::manifests::Folder;
use super::node::Weir;
use super::stage::Stage;
use super::table::{Table, milliseconds};
use super::{Failure, IptablesDriver, VariantChoice, events, failure, steps};
use crate::cmd::live;
use crate::kernel::xtables::variant::{FamilyUnavailable, Variant};
use crate::kernel::xtables::{Driver, Xtables};
use crate::lab::{EchoServer, Lab, LabConfig};
use crate::model::Settings;
use crate::net::{Family, Protocol};
use crate::plan::iptables::Desired;

/// Where the pods' servers listen.
const PORT: u16 = 8080;

/// Shows everything, in a sandbox that has been entered; returns whether it was as expected.
pub fn run(variant: VariantChoice, driver: IptablesDriver) -> Result<bool, Failure> {
    let begin = Instant::now();
    let mut driver = live::open(variant, driver)?;
    try_rules(&mut driver)?;
    // IPv6 can be left out; some of what is shown is IPv4.
    if let Some((family, why)) = driver.unavailable().into_iter().find(|(family, _)| *family == Family::V4) {
        return Err(failure(format!("the demo needs {family}: {why}")));
    }
    let (named, left_out) = (driver.to_string(), left_out(&driver));
    let lab = Lab::new(&LabConfig::default()).map_err(failure)?;
    let pods = lab.pods().iter().chain(lab.node2_pods());
    let servers: Result<Vec<_>, _> = pods.map(|pod| EchoServer::start(pod, &[(Protocol::Tcp, PORT)])).collect();
    let _servers = servers.map_err(failure)?;
    let folder = Folder::below(Path::new("/run"))?;
    let mut table = Table::new(anstream::stdout());
    introduce(&mut table, &folder, &named, &left_out);

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
    Ok(stage.table.finish(&named, begin.elapsed()))
}

/// Writes the rules of an empty cluster into the sandbox's own network namespace, where no packet passes: whatever is
/// missing in the kernel shows here, in the words of the driver.
fn try_rules(driver: &mut Driver) -> Result<(), Failure> {
    let families = driver.families();
    let (desired, _) = Desired::plan(&Arc::new(Settings::default()), &families, &[]);
    driver.apply(&desired.compare().finish()).map_err(|error| {
        let other = if driver.variant() == Variant::Legacy { "nft" } else { "legacy" };
        failure(format!("{error}; or try --iptables-variant={other}"))
    })
}

/// The families that are not served, and why.
fn left_out(driver: &Driver) -> Vec<(Family, FamilyUnavailable)> {
    driver.unavailable().into_iter().map(|(family, why)| (family, why.clone())).collect()
}

fn introduce<W: Write>(table: &mut Table<W>, folder: &Folder, named: &str, left_out: &[(Family, FamilyUnavailable)]) {
    table.say("Real connections through real rules, in namespaces of this process; the host is not touched.");
    table.say("There are a node with pod1, pod2, pod3, a second one with pod4, pod5, and two outside clients.");
    table.say(&format!(
        "weir runs on the first node and follows {} manifest files. Its rules: {named}.",
        folder.files(),
    ));
    for (family, why) in left_out {
        table.say(&format!("{family} is left out: {why}."));
    }
}
