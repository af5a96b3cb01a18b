//! What this kernel's nf_tables can do, and what it holds.

use super::read;
use crate::kernel::netlink::nfnetlink::{Subsystem, header, message_type};
use crate::kernel::netlink::{Batch, NetlinkError, Protocol, Refusal, Socket, flags};
use crate::kernel::xtables::Table;
use crate::net::Family;

/// `NFNL_MSG_COMPAT_GET` and its attributes (uapi `linux/netfilter/nf_tables_compat.h`).
const COMPAT_GET: u8 = 0;
const COMPAT_NAME: u16 = 1;
const COMPAT_REVISION: u16 = 2;
const COMPAT_TYPE: u16 = 3;

/// An extension of x_tables, as the kernel asks for it: matches are 0, targets 1.
struct Extension {
    name: &'static str,
    revision: u32,
    kind: u32,
}

const fn extension(kind: u32, name: &'static str, revision: u32) -> Extension {
    Extension { name, revision, kind }
}

/// What every node's rules use. `recent` and `nfacct` are missed only where a service asks for them.
const NEEDED: [Extension; 11] = [
    extension(0, "comment", 0),
    extension(0, "tcp", 0),
    extension(0, "udp", 0),
    extension(0, "mark", 1),
    extension(0, "statistic", 0),
    extension(0, "addrtype", 1),
    extension(0, "conntrack", 3),
    extension(1, "MARK", 2),
    extension(1, "DNAT", 2),
    extension(1, "MASQUERADE", 0),
    extension(1, "REJECT", 0),
];

/// What rules that look addresses up in sets use besides.
const SETS: [Extension; 1] = [extension(0, "set", 4)];

/// Chains that the kubelet leaves in `mangle`.
const KUBELET: [&str; 2] = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];

/// Whether rules of this family can be written by netlink. Writes nothing; the kernel may load modules.
///
/// # Errors
/// Why not, in one line.
pub fn usable(family: Family) -> Result<(), String> {
    let mut socket = Socket::open(Protocol::Netfilter).map_err(|error| error.to_string())?;
    read::generation(&mut socket).map_err(|error| format!("nf_tables cannot be used: {error}"))?;
    has_all(&mut socket, family, &NEEDED)
}

/// Whether rules of this family that look addresses up in sets can be written by netlink.
///
/// # Errors
/// Why not, in one line.
pub fn can_look_up_sets(family: Family) -> Result<(), String> {
    let mut socket = Socket::open(Protocol::Netfilter).map_err(|error| error.to_string())?;
    has_all(&mut socket, family, &SETS)
}

fn has_all(socket: &mut Socket, family: Family, all: &[Extension]) -> Result<(), String> {
    for needed in all {
        if let Some(refusal) = ask(socket, family, needed).map_err(|error| error.to_string())? {
            let what = if needed.kind == 0 { "match" } else { "target" };
            return Err(format!(
                "the kernel lacks the {what} {} revision {} of x_tables for {family} in nf_tables: {refusal}; remedy: load \
                 the modules nft_compat and xt_{}",
                needed.name, needed.revision, needed.name
            ));
        }
    }
    Ok(())
}

/// Asks for an extension; `None` if the kernel has it.
fn ask(socket: &mut Socket, family: Family, extension: &Extension) -> Result<Option<Refusal>, NetlinkError> {
    let mut batch = Batch::new("ask for an extension of x_tables");
    batch.message(message_type(Subsystem::NfTablesCompat, COMPAT_GET), flags::ACK, |body| {
        body.raw(&header(Some(family), 0))
            .put_text(COMPAT_NAME, extension.name)
            .put_u32_be(COMPAT_REVISION, extension.revision)
            .put_u32_be(COMPAT_TYPE, extension.kind);
    });
    Ok(socket.ask(&mut batch, |_| Some(()))?.err())
}

/// Whether the kernel has the match of this name and revision for rules of a family.
///
/// # Errors
/// The kernel cannot be asked.
pub fn has_match(socket: &mut Socket, family: Family, name: &'static str, revision: u32) -> Result<bool, NetlinkError> {
    Ok(ask(socket, family, &extension(0, name, revision))?.is_none())
}

/// What the tables hold: whether the kubelet's chains are there, and how many rules in all.
///
/// # Errors
/// The kernel cannot be asked.
pub fn found() -> Result<(bool, usize), NetlinkError> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let (mut kubelet, mut rules) = (false, 0);
    for family in Family::ALL {
        let mut chains = Vec::new();
        read::chains(&mut socket, family, &mut |chain| {
            if let Some(table) = Table::ALL.into_iter().find(|table| table.as_str() == chain.table) {
                kubelet |= table == Table::Mangle && KUBELET.contains(&chain.name);
                chains.push((table, chain.name.to_owned()));
            }
        })?;
        for (table, name) in chains {
            rules += read::count_rules(&mut socket, family, table, &name)?;
        }
    }
    Ok((kubelet, rules))
}
