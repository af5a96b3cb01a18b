//! The tables of the kernel, by netlink.

use weir::kernel::ipset::{index_of, name_of};
use weir::kernel::netlink::nfnetlink::{HEADER_LENGTH, Subsystem, header, message_type, split_header};
use weir::kernel::netlink::{Answer, Attributes, Batch, Body, Protocol, Socket, flags};
use weir::kernel::xtables::nft::expression::{put_rule, read_rule, set_indexes};
use weir::kernel::xtables::nft::sets::SetIndexes;
use weir::kernel::xtables::{Match, ObservedRule, Rule, Table};
use weir::net::Family;

/// `NFT_MSG_*`, `NFNL_MSG_BATCH_*`
const NEW_TABLE: u8 = 0;
const NEW_CHAIN: u8 = 3;
const NEW_RULE: u8 = 6;
const GET_RULE: u8 = 7;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// `NFTA_TABLE_NAME` and `NFTA_CHAIN_TABLE`, `NFTA_CHAIN_NAME`; `NFTA_RULE_*`
const TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;

/// As many rules as surely fit a socket's send buffer.
const RULES_PER_BATCH: usize = 100;

/// Adds chains without hook to a table, then rules to the first of them.
pub fn write(family: Family, table: Table, chains: &[&str], rules: &[Rule]) -> Result<(), String> {
    let mut socket = Socket::open(Protocol::Netfilter).unwrap();
    let message = |command| message_type(Subsystem::NfTables, command);
    let start = |body: &mut Body<'_>| _ = body.raw(&header(Some(family), 0)).put_text(TABLE, table.as_str());
    send(&mut socket, |batch| {
        batch.message(message(NEW_TABLE), flags::CREATE | flags::ACK, start);
        for chain in chains {
            batch.message(message(NEW_CHAIN), flags::CREATE | flags::ACK, |body| {
                start(body);
                body.put_text(CHAIN_NAME, chain);
            });
        }
    })?;
    let sets = named_sets(&mut socket, rules);
    for some in rules.chunks(RULES_PER_BATCH) {
        send(&mut socket, |batch| {
            for rule in some {
                batch.message(message(NEW_RULE), flags::CREATE | flags::APPEND | flags::ACK, |body| {
                    start(body);
                    body.put_text(RULE_CHAIN, chains[0]);
                    put_rule(body, family, rule, &sets);
                });
            }
        })?;
    }
    Ok(())
}

/// Sends a transaction; the error names the first message that was refused.
fn send(socket: &mut Socket, fill: impl FnOnce(&mut Batch)) -> Result<(), String> {
    let frame = header(None, Subsystem::NfTables as u16);
    let mut batch = Batch::new("write rules");
    batch.message(BATCH_BEGIN, 0, |body| _ = body.raw(&frame));
    fill(&mut batch);
    batch.message(BATCH_END, 0, |body| _ = body.raw(&frame));
    let mut refused = None;
    let outcome = socket.transact(&mut batch, |index, answer| {
        if let Answer::Refused(refusal) = answer {
            refused.get_or_insert(format!("message {index}: {refusal}"));
        }
    });
    outcome.map_err(|error| error.to_string())?;
    refused.map_or(Ok(()), Err)
}

/// The expressions of the rules of a chain.
pub fn dump(family: Family, table: Table, chain: &str) -> Vec<Vec<u8>> {
    let mut batch = Batch::new("list rules");
    batch.message(message_type(Subsystem::NfTables, GET_RULE), 0, |body| {
        body.raw(&header(Some(family), 0)).put_text(TABLE, table.as_str()).put_text(RULE_CHAIN, chain);
    });
    let mut socket = Socket::open(Protocol::Netfilter).unwrap();
    let mut dump = socket.dump(&mut batch).unwrap();
    let mut rules = Vec::new();
    while let Some(message) = dump.next_message().unwrap() {
        let (_, attributes) = split_header(message.payload).unwrap();
        assert_eq!(message.payload.len() - attributes.len(), HEADER_LENGTH);
        rules.push(Attributes::new(attributes).find(RULE_EXPRESSIONS).unwrap().payload.to_vec());
    }
    rules
}

/// The rules of a chain.
pub fn read(family: Family, table: Table, chain: &str) -> Vec<ObservedRule> {
    let dumped = dump(family, table, chain);
    let mut socket = Socket::open(Protocol::Netfilter).unwrap();
    let mut sets = SetIndexes::default();
    for index in dumped.iter().flat_map(|rule| set_indexes(Attributes::new(rule))) {
        if let Some(name) = name_of(&mut socket, index).unwrap() {
            sets.insert(name, index);
        }
    }
    dumped.iter().map(|rule| read_rule(family, Attributes::new(rule), &sets)).collect()
}

fn named_sets(socket: &mut Socket, rules: &[Rule]) -> SetIndexes {
    let mut sets = SetIndexes::default();
    for item in rules.iter().flat_map(|rule| &rule.matches) {
        if let Match::Set { set, .. } = item {
            sets.insert(set.clone(), index_of(socket, set).unwrap().unwrap_or_else(|| panic!("no set {set}")));
        }
    }
    sets
}
