//! The difference for the tools that apply it by hand: the input of each under a comment that names it, in the order in
//! which `weir proxy` would make the changes.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::IpAddr;

use crate::cmd::Failure;
use crate::cmd::options::ProxyMode;
use crate::engine::{Step, steps};
use crate::kernel::ipset::{SetChange, SetName, text};
use crate::kernel::ipvs::text::{real_server_line, server_line, service};
use crate::kernel::ipvs::{RealServer, VirtualServerChange, VirtualServerKey};
use crate::kernel::link::SERVICE_DEVICE;
use crate::kernel::xtables::order::{Script, scripts};
use crate::kernel::xtables::variant::Variant;
use crate::kernel::xtables::{Changes, Match};
use crate::kernel::{ipset, ipvs, link};
use crate::net::{Endpoint, Family};
use crate::plan::egress;
use crate::plan::ipvs::Difference;

/// Writes all of it, or nothing where the rules cannot be brought into an order. Accounting objects that rules name are
/// made by `weir proxy` before; here, a comment names them.
///
/// # Errors
/// Rules that cannot be written. What the reader does is the inner result.
pub fn write(
    out: &mut impl Write,
    mode: ProxyMode,
    difference: &Difference,
    variant: Variant,
) -> Result<io::Result<()>, Failure> {
    let steps = in_order(mode, difference);
    let inputs: Result<Vec<Input<'_>>, _> = steps.iter().map(|step| Input::of(step, variant)).collect();
    let inputs = inputs.map_err(|error| Failure::new(error.to_string()))?;
    let mut write = || {
        for object in accounting_objects(&difference.rules) {
            writeln!(out, "# nfacct add {object}")?;
        }
        inputs.iter().try_for_each(|input| input.write(out))?;
        out.flush()
    };
    Ok(write())
}

/// In iptables mode, rules find the sets that they look up; then goes what another mode left.
fn in_order(mode: ProxyMode, difference: &Difference) -> Vec<Step> {
    if mode == ProxyMode::Ipvs {
        return steps(difference);
    }
    let egress = Family::ALL.map(egress::set_name);
    let sets = difference.sets.sets.iter().map(|(name, change)| (name.clone(), change.clone()));
    let (first, last) = sets.partition(|(name, change)| egress.contains(name) && change.after.is_some());
    let first = Difference { sets: ipset::Changes { sets: first }, ..Difference::default() };
    let rules = Some(Step::Rules(difference.rules.clone())).filter(|_| !difference.rules.is_empty());
    let last = Difference { sets: ipset::Changes { sets: last }, rules: Changes::default(), ..difference.clone() };
    steps(&first).into_iter().chain(rules).chain(steps(&last)).collect()
}

fn accounting_objects(changes: &Changes) -> BTreeSet<&str> {
    let rules = changes.chains.values().flat_map(|change| change.after.iter().flatten());
    let matches = rules.flat_map(|rule| &rule.matches);
    matches.filter_map(|m| if let Match::Nfacct(name) = m { Some(&**name) } else { None }).collect()
}

/// What one tool reads, or both iptables one after the other.
enum Input<'a> {
    Sets(&'a ipset::Changes),
    Links(&'a link::Changes),
    Rules(Vec<Script<'a>>),
    Servers(&'a ipvs::Changes),
}

impl<'a> Input<'a> {
    fn of(step: &'a Step, variant: Variant) -> Result<Self, crate::kernel::xtables::order::OrderError> {
        Ok(match step {
            Step::Sets(changes) => Input::Sets(changes),
            Step::Links(changes) => Input::Links(changes),
            Step::Rules(changes) => Input::Rules(scripts(changes, variant)?),
            Step::Servers(changes) => Input::Servers(changes),
        })
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Input::Sets(changes) => {
                writeln!(out, "# ipset -exist restore")?;
                changes.sets.iter().try_for_each(|(name, change)| write_set(out, name, change))
            }
            Input::Links(changes) => {
                writeln!(out, "# ip -batch -")?;
                write_links(out, changes)
            }
            Input::Rules(scripts) => scripts.iter().try_for_each(|script| {
                let tool = if script.family == Family::V4 { "iptables-restore" } else { "ip6tables-restore" };
                writeln!(out, "# {tool} --noflush")?;
                script.write_to(&mut *out)
            }),
            Input::Servers(changes) => {
                writeln!(out, "# ipvsadm -R")?;
                changes.servers.iter().try_for_each(|(key, change)| write_server(out, key, change))
            }
        }
    }
}

fn write_set(out: &mut impl Write, name: &SetName, change: &SetChange) -> io::Result<()> {
    let mut lines = String::new();
    if let (None, Some(spec)) = (&change.before, &change.after) {
        text::push_create_for(&mut lines, name, spec, change.add.len());
    }
    change.add.iter().for_each(|(entry, comment)| text::push_add(&mut lines, name, entry, comment.as_deref()));
    out.write_all(lines.as_bytes())?;
    for entry in &change.remove {
        writeln!(out, "del {name} {entry}")?;
    }
    if change.after.is_none() {
        writeln!(out, "destroy {name}")?;
    }
    Ok(())
}

fn write_links(out: &mut impl Write, changes: &link::Changes) -> io::Result<()> {
    let alone = |ip: &IpAddr| format!("{ip}/{} dev {SERVICE_DEVICE}", Family::of(ip).bits());
    if changes.create {
        writeln!(out, "link add {SERVICE_DEVICE} type dummy")?;
    }
    for ip in &changes.add {
        writeln!(out, "address add {}", alone(ip))?;
    }
    for ip in &changes.remove {
        writeln!(out, "address delete {}", alone(ip))?;
    }
    if changes.delete {
        writeln!(out, "link delete {SERVICE_DEVICE}")?;
    }
    Ok(())
}

/// A virtual server that goes takes its real servers with it.
fn write_server(out: &mut impl Write, key: &VirtualServerKey, change: &VirtualServerChange) -> io::Result<()> {
    let Some(server) = &change.after else { return writeln!(out, "-D {}", service(key)) };
    match &change.before {
        None => writeln!(out, "{}", server_line(key, server))?,
        Some(before) if before != server || change.is_nothing() => {
            writeln!(out, "{}", edit(&server_line(key, server), "-E"))?;
        }
        Some(_) => {}
    }
    for (endpoint, real) in &change.real_servers {
        write_real_server(out, key, endpoint, real.before.is_some(), real.after.as_ref())?;
    }
    Ok(())
}

fn write_real_server(
    out: &mut impl Write,
    key: &VirtualServerKey,
    endpoint: &Endpoint,
    is_there: bool,
    after: Option<&RealServer>,
) -> io::Result<()> {
    match after {
        None => writeln!(out, "-d {} -r {endpoint}", service(key)),
        Some(real) if is_there => writeln!(out, "{}", edit(&real_server_line(key, endpoint, real), "-e")),
        Some(real) => writeln!(out, "{}", real_server_line(key, endpoint, real)),
    }
}

/// The line with another command than the one that adds.
fn edit(line: &str, command: &str) -> String {
    let (_, options) = line.split_once(' ').unwrap_or_default();
    format!("{command} {options}")
}
