//! Messages of nf_tables (uapi `linux/netfilter/nf_tables.h`) as far as tables in the manner of iptables need them.

use crate::kernel::netlink::nfnetlink::{Subsystem, header, message_type};
use crate::kernel::netlink::{Attributes, Batch, flags};
use crate::kernel::xtables::{Rule, Table};
use crate::net::Family;

use super::expression;
use super::hook::Hook;
use super::sets::SetIndexes;

/// `NFT_MSG_*`
const NEW_TABLE: u8 = 0;
const NEW_CHAIN: u8 = 3;
const GET_CHAIN: u8 = 4;
const DELETE_CHAIN: u8 = 5;
const NEW_RULE: u8 = 6;
const GET_RULE: u8 = 7;
const DELETE_RULE: u8 = 8;
const NEW_GENERATION: u8 = 15;
const GET_GENERATION: u8 = 16;

/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`: types of their own, without a subsystem.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// `NFNL_BATCH_GENID`
const BATCH_GENERATION: u16 = 1;

/// `NFTA_TABLE_NAME`
const TABLE_NAME: u16 = 1;
/// `NFTA_CHAIN_*`
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
/// `NFTA_HOOK_*`
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
/// `NFTA_RULE_*`
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_POSITION: u16 = 6;
/// `NFTA_GEN_ID`
const GENERATION_ID: u16 = 1;

/// What the kernel calls a rule within its table.
pub type Handle = u64;

fn message(command: u8) -> u16 {
    message_type(Subsystem::NfTables, command)
}

/// The opening frame of a transaction: valid only if the ruleset is still of this generation.
pub fn begin(batch: &mut Batch, generation: u32) {
    batch.message(BATCH_BEGIN, 0, |body| {
        body.raw(&header(None, Subsystem::NfTables as u16)).put_u32_be(BATCH_GENERATION, generation);
    });
}

/// Writes another generation into the opening frame, the first message of the batch.
pub fn rebegin(batch: &mut Batch, generation: u32) {
    batch.overwrite(0, BEGIN_LENGTH - 4, &generation.to_be_bytes());
}

/// Length of the opening frame: `nlmsghdr`, `nfgenmsg` and an attribute of 32 bits, which is at its end.
const BEGIN_LENGTH: usize = 16 + 4 + 8;

/// The closing frame.
pub fn end(batch: &mut Batch) {
    batch.message(BATCH_END, 0, |body| {
        body.raw(&header(None, Subsystem::NfTables as u16));
    });
}

/// Makes a table if it is not there.
pub fn make_table(batch: &mut Batch, family: Family, table: Table) {
    batch.message(message(NEW_TABLE), flags::CREATE, |body| {
        body.raw(&header(Some(family), 0)).put_text(TABLE_NAME, table.as_str());
    });
}

/// Makes a chain if it is not there; with a hook, a built-in one. Says nothing of its policy: that of a chain which is
/// there stays, a new one accepts.
pub fn make_chain(batch: &mut Batch, family: Family, table: Table, chain: &str, hook: Option<&Hook>) {
    batch.message(message(NEW_CHAIN), flags::CREATE, |body| {
        body.raw(&header(Some(family), 0)).put_text(CHAIN_TABLE, table.as_str()).put_text(CHAIN_NAME, chain);
        if let Some(hook) = hook {
            body.nest(CHAIN_HOOK, |body| {
                body.put_u32_be(HOOK_NUMBER, hook.number);
                body.put_u32_be(HOOK_PRIORITY, hook.priority.cast_unsigned());
            });
            body.put_text(CHAIN_TYPE, hook.kind);
        }
    });
}

/// Deletes a chain that is empty and that nothing refers to.
pub fn delete_chain(batch: &mut Batch, family: Family, table: Table, chain: &str) {
    // NONREC of a deletion has the number of REPLACE: a chain that is not empty is refused.
    batch.message(message(DELETE_CHAIN), flags::REPLACE, |body| {
        body.raw(&header(Some(family), 0)).put_text(CHAIN_TABLE, table.as_str()).put_text(CHAIN_NAME, chain);
    });
}

/// Where a rule goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// To the head of the chain.
    Head,
    /// To the end.
    Tail,
    /// Before the rule with this handle.
    Before(Handle),
    /// In place of the rule with this handle, which the new one inherits.
    InsteadOf(Handle),
}

/// Adds a rule. The sets that it names must be known.
pub fn put_rule(
    batch: &mut Batch,
    family: Family,
    table: Table,
    chain: &str,
    spot: Spot,
    rule: &Rule,
    sets: &SetIndexes,
) {
    let message_flags = match spot {
        Spot::Head | Spot::Before(_) => flags::CREATE,
        Spot::Tail => flags::CREATE | flags::APPEND,
        Spot::InsteadOf(_) => flags::REPLACE,
    };
    batch.message(message(NEW_RULE), message_flags, |body| {
        body.raw(&header(Some(family), 0)).put_text(RULE_TABLE, table.as_str()).put_text(RULE_CHAIN, chain);
        match spot {
            Spot::InsteadOf(handle) => drop(body.put(RULE_HANDLE, &handle.to_be_bytes())),
            Spot::Before(handle) => drop(body.put(RULE_POSITION, &handle.to_be_bytes())),
            Spot::Head | Spot::Tail => {}
        }
        expression::put_rule(body, family, rule, sets);
    });
}

/// Deletes the rule with this handle, or all rules of the chain.
pub fn delete_rules(batch: &mut Batch, family: Family, table: Table, chain: &str, handle: Option<Handle>) {
    batch.message(message(DELETE_RULE), 0, |body| {
        body.raw(&header(Some(family), 0)).put_text(RULE_TABLE, table.as_str()).put_text(RULE_CHAIN, chain);
        if let Some(handle) = handle {
            body.put(RULE_HANDLE, &handle.to_be_bytes());
        }
    });
}

/// Asks for the generation of the ruleset.
pub fn ask_generation(batch: &mut Batch) {
    batch.message(message(GET_GENERATION), flags::ACK, |body| {
        body.raw(&header(None, 0));
    });
}

/// Reads the answer.
pub fn read_generation(kind: u16, attributes: Attributes<'_>) -> Option<u32> {
    if kind != message(NEW_GENERATION) {
        return None;
    }
    attributes.find(GENERATION_ID)?.u32_be()
}

/// Asks for all chains of a family, as a list.
pub fn ask_chains(batch: &mut Batch, family: Family) {
    batch.message(message(GET_CHAIN), 0, |body| {
        body.raw(&header(Some(family), 0));
    });
}

/// Asks for one chain.
pub fn ask_chain(batch: &mut Batch, family: Family, table: Table, chain: &str) {
    batch.message(message(GET_CHAIN), flags::ACK, |body| {
        body.raw(&header(Some(family), 0)).put_text(CHAIN_TABLE, table.as_str()).put_text(CHAIN_NAME, chain);
    });
}

/// A chain as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedChain<'a> {
    pub table: &'a str,
    pub name: &'a str,
    /// It hangs on a hook.
    pub builtin: bool,
}

/// Reads a chain.
pub fn read_chain(kind: u16, attributes: Attributes<'_>) -> Option<ListedChain<'_>> {
    if kind != message(NEW_CHAIN) {
        return None;
    }
    Some(ListedChain {
        table: attributes.clone().find(CHAIN_TABLE)?.text()?,
        name: attributes.clone().find(CHAIN_NAME)?.text()?,
        builtin: attributes.find(CHAIN_HOOK).is_some(),
    })
}

/// Asks for all rules of a chain, as a list. It is empty if there is no such chain.
pub fn ask_rules(batch: &mut Batch, family: Family, table: Table, chain: &str) {
    batch.message(message(GET_RULE), 0, |body| {
        body.raw(&header(Some(family), 0)).put_text(RULE_TABLE, table.as_str()).put_text(RULE_CHAIN, chain);
    });
}

/// Reads a rule: its handle, and the attributes of its expressions.
pub fn read_rule(kind: u16, attributes: Attributes<'_>) -> Option<(Handle, Attributes<'_>)> {
    if kind != message(NEW_RULE) {
        return None;
    }
    let handle = attributes.clone().find(RULE_HANDLE)?.payload.try_into().ok()?;
    let expressions = attributes.find(RULE_EXPRESSIONS).map_or(Attributes::new(&[]), |list| list.nested());
    Some((Handle::from_be_bytes(handle), expressions))
}
