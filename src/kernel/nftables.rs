//! Whole tables of nf_tables, by name: what kube-proxy's nftables mode leaves is one in each family (contract 5), and
//! nobody else writes to them. Tables in the manner of iptables are [`xtables`](super::xtables)' business.

use nix::errno::Errno;

use super::netlink::nfnetlink::{Subsystem, header, message_type, split_header};
use super::netlink::{Answer, Attributes, Batch, Message, NetlinkError, Protocol, Refusal, Socket};
use super::xtables::nft::{generation, wire};
use super::{ApplyError, ApplyErrorKind, ObserveError};
use crate::net::Family;

/// `NFT_MSG_*` of uapi `linux/netfilter/nf_tables.h`.
const NEW_TABLE: u8 = 0;
const GET_TABLE: u8 = 1;
const DELETE_TABLE: u8 = 2;
/// `NFTA_TABLE_*`
const NAME: u16 = 1;
const USE: u16 = 3;

/// The table of kube-proxy's nftables mode (contract 5).
pub const KUBE_PROXY_TABLE: &str = "kube-proxy";

/// A table that is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObservedTable {
    pub family: Family,
    pub name: Box<str>,
    /// How many chains, sets and maps it has.
    pub objects: u32,
}

impl ObservedTable {
    /// As `nft` names it: `ip kube-proxy`.
    pub fn title(&self) -> String {
        let family = match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        format!("{family} {}", self.name)
    }
}

/// A kernel that holds tables. Calls block.
pub trait Tables: Send {
    /// The tables of this name, of the families `ip` and `ip6`.
    ///
    /// # Errors
    /// The list cannot be read.
    fn observe(&mut self, name: &str) -> Result<Vec<ObservedTable>, ObserveError>;

    /// Deletes a table with all that is in it, in one step. One that is gone already is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    fn delete(&mut self, table: &ObservedTable) -> Result<(), ApplyError>;
}

/// nf_tables of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct NftTables {
    socket: Socket,
}

impl NftTables {
    /// Opens it; `None` if the kernel has no nf_tables, so that no table can be there. The kernel loads its module if it
    /// can.
    ///
    /// # Errors
    /// It has, and cannot be asked.
    pub fn open() -> Result<Option<Self>, ObserveError> {
        let asked = Socket::open(Protocol::Netfilter).and_then(|mut socket| {
            generation(&mut socket)?;
            Ok(NftTables { socket })
        });
        match asked {
            Ok(tables) => Ok(Some(tables)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(ObserveError { message: error.to_string() }),
        }
    }

    fn list(&mut self, name: &str) -> Result<Vec<ObservedTable>, NetlinkError> {
        let mut found = Vec::new();
        for family in Family::ALL {
            let mut batch = Batch::new("list the tables of nf_tables");
            batch.message(message_type(Subsystem::NfTables, GET_TABLE), 0, |body| {
                body.raw(&header(Some(family), 0));
            });
            let mut dump = self.socket.dump(&mut batch)?;
            while let Some(message) = dump.next_message()? {
                found.extend(read(&message).filter(|table| table.family == family && *table.name == *name));
            }
        }
        Ok(found)
    }

    /// Gives what the kernel refused it with, if it did.
    fn try_delete(&mut self, table: &ObservedTable) -> Result<Option<Refusal>, NetlinkError> {
        let mut batch = Batch::new("delete a table of nf_tables");
        // Whatever has changed meanwhile: it goes with all that is in it.
        wire::begin(&mut batch, 0);
        batch.message(message_type(Subsystem::NfTables, DELETE_TABLE), 0, |body| {
            body.raw(&header(Some(table.family), 0)).put_text(NAME, &table.name);
        });
        wire::end(&mut batch);
        let mut refused = None;
        self.socket.submit(&mut batch, |_, answer| {
            if let Answer::Refused(refusal) = answer {
                refused = Some(refusal);
            }
        })?;
        Ok(refused)
    }
}

impl Tables for NftTables {
    fn observe(&mut self, name: &str) -> Result<Vec<ObservedTable>, ObserveError> {
        self.list(name).map_err(|error| ObserveError { message: error.to_string() })
    }

    fn delete(&mut self, table: &ObservedTable) -> Result<(), ApplyError> {
        let failed = |kind, why: String| {
            let message = format!("cannot delete the nftables table {}: {why}", table.title());
            ApplyError { kind, message, chain: None }
        };
        match self.try_delete(table) {
            Ok(None) => Ok(()),
            Ok(Some(refusal)) if refusal.errno() == Errno::ENOENT => Ok(()),
            Ok(Some(refusal)) => Err(failed(ApplyErrorKind::Refused, format!("the kernel refuses: {refusal}"))),
            Err(error) => Err(failed(ApplyErrorKind::Busy, error.to_string())),
        }
    }
}

/// Whether the kernel lacks nf_tables, or netlink of netfilter altogether.
fn is_absent(error: &NetlinkError) -> bool {
    match error {
        // nfnetlink knows no such subsystem.
        NetlinkError::Refused { refusal, .. } => refusal.errno() == Errno::EINVAL,
        NetlinkError::Call { errno, .. } => matches!(errno, Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT),
        _ => false,
    }
}

fn read(message: &Message<'_>) -> Option<ObservedTable> {
    if message.kind != message_type(Subsystem::NfTables, NEW_TABLE) {
        return None;
    }
    let (family, attributes) = split_header(message.payload)?;
    let attributes = Attributes::new(attributes);
    Some(ObservedTable {
        family: family?,
        name: attributes.clone().find(NAME)?.text()?.into(),
        objects: attributes.find(USE).and_then(|count| count.u32_be()).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// Runs in a network namespace of its own, as root and with `nft`; says so where it cannot.
    fn in_namespace(test: fn()) {
        let has_nft = Command::new("nft").arg("--version").stdout(Stdio::null()).status().is_ok();
        let ran = std::thread::spawn(move || match unshare(CloneFlags::CLONE_NEWNET) {
            Ok(()) if has_nft => test(),
            Ok(()) => crate::lab::skipped("tables of nf_tables: nft is not installed"),
            Err(errno) => {
                crate::lab::skipped(&format!("tables of nf_tables: no network namespace: {errno} (run as root)"))
            }
        });
        ran.join().unwrap();
    }

    fn nft(commands: &str) -> String {
        let output = Command::new("nft").arg(commands).output().unwrap();
        assert!(output.status.success(), "{commands}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn tables_of_one_name_go_with_all_that_is_in_them_and_no_other() {
        in_namespace(|| {
            for family in ["ip", "ip6", "inet", "arp"] {
                nft(&format!(
                    "add table {family} kube-proxy {{ chain a {{ jump b; }}; chain b {{ }}; set s {{ type inet_proto; }}; }}"
                ));
            }
            nft("add table ip kube-proxy-x { chain a { }; }");
            let mut tables = NftTables::open().unwrap().expect("nft was here");
            let found = tables.observe(KUBE_PROXY_TABLE).unwrap();
            let shown: Vec<_> = found.iter().map(|table| (table.title(), table.objects)).collect();
            assert_eq!(shown, [("ip kube-proxy".to_owned(), 3), ("ip6 kube-proxy".to_owned(), 3)]);
            for table in &found {
                tables.delete(table).unwrap();
                tables.delete(table).expect("it is gone already");
            }
            assert_eq!(tables.observe(KUBE_PROXY_TABLE).unwrap(), []);
            let left = nft("list tables");
            assert_eq!(left, "table inet kube-proxy\ntable arp kube-proxy\ntable ip kube-proxy-x\n");
        });
    }

    #[test]
    fn an_owned_table_is_refused_by_name() {
        in_namespace(|| {
            // Another process has it, as long as its socket is open.
            let mut owner = Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            use std::io::Write;
            owner.stdin.as_mut().unwrap().write_all(b"add table ip kube-proxy { flags owner; }\n").unwrap();
            let mut tables = NftTables::open().unwrap().unwrap();
            let begin = std::time::Instant::now();
            let table = loop {
                match tables.observe(KUBE_PROXY_TABLE).unwrap().pop() {
                    Some(table) => break table,
                    None if begin.elapsed().as_secs() < 10 => std::thread::sleep(std::time::Duration::from_millis(10)),
                    None => panic!("nft does not make the table"),
                }
            };
            let error = tables.delete(&table).unwrap_err();
            assert!(error.message.starts_with("cannot delete the nftables table ip kube-proxy: "), "{error}");
            drop(owner.stdin.take());
            owner.wait().unwrap();
        });
    }
}
