//! What a notification says (uapi `linux/netfilter/nf_tables.h`).

use crate::kernel::netlink::nfnetlink::{Subsystem, message_type, split_header};
use crate::kernel::netlink::{Attributes, Message};
use crate::net::Family;

/// `NFT_MSG_*`
const NEW_TABLE: u8 = 0;
const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const DELETE_CHAIN: u8 = 5;
const NEW_RULE: u8 = 6;
const DELETE_RULE: u8 = 8;
const NEW_GENERATION: u8 = 15;
const DESTROY_TABLE: u8 = 26;
const DESTROY_CHAIN: u8 = 27;
const DESTROY_RULE: u8 = 28;

/// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`: the same number.
const TABLE: u16 = 1;
/// `NFTA_CHAIN_NAME`
const CHAIN_NAME: u16 = 3;
/// `NFTA_RULE_CHAIN`
const RULE_CHAIN: u16 = 2;
/// `NFTA_GEN_*`
const GENERATION_ID: u16 = 1;
const GENERATION_PID: u16 = 2;
const GENERATION_PROCESS: u16 = 3;

/// Something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// A table was made, deleted, or switched on or off.
    Table { family: Family, table: &'a str },
    /// A chain, or a rule in it.
    Chain { family: Family, table: &'a str, chain: &'a str },
    /// The end of a commit: the generation that it made, and the process that asked for it.
    Generation(Generation<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation<'a> {
    pub(super) id: u32,
    /// In the initial process namespace, whoever asks.
    pub(super) pid: Option<u32>,
    /// The name of the thread.
    pub(super) process: Option<&'a str>,
}

impl<'a> Event<'a> {
    /// `None` for sets, objects and other families, which no rule of iptables is made of.
    pub(super) fn read(message: &Message<'a>) -> Option<Event<'a>> {
        let [command, subsystem] = message.kind.to_le_bytes();
        if message_type(Subsystem::NfTables, command) != u16::from_le_bytes([command, subsystem]) {
            return None;
        }
        let (family, attributes) = split_header(message.payload)?;
        let attributes = Attributes::new(attributes);
        let text = |kind| attributes.clone().find(kind).and_then(|attribute| attribute.text());
        let chain = |kind| Some(Event::Chain { family: family?, table: text(TABLE)?, chain: text(kind)? });
        match command {
            NEW_TABLE | DELETE_TABLE | DESTROY_TABLE => Some(Event::Table { family: family?, table: text(TABLE)? }),
            NEW_CHAIN | DELETE_CHAIN | DESTROY_CHAIN => chain(CHAIN_NAME),
            NEW_RULE | DELETE_RULE | DESTROY_RULE => chain(RULE_CHAIN),
            NEW_GENERATION => Generation::read(attributes).map(Event::Generation),
            _ => None,
        }
    }
}

impl<'a> Generation<'a> {
    pub(super) fn read(attributes: Attributes<'a>) -> Option<Generation<'a>> {
        let number = |kind| attributes.clone().find(kind).and_then(|attribute| attribute.u32_be());
        let process = attributes.clone().find(GENERATION_PROCESS).and_then(|attribute| attribute.text());
        Some(Generation { id: number(GENERATION_ID)?, pid: number(GENERATION_PID), process })
    }
}
