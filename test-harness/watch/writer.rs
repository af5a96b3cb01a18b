//! Somebody who writes nf_tables by netlink: tables, chains and rules as iptables-nft makes them.

use std::time::{Duration, Instant};

use weir::kernel::netlink::nfnetlink::{Subsystem, header, message_type};
use weir::kernel::netlink::{Answer, Attributes, Batch, Body, Protocol, Socket, flags};
use weir::kernel::xtables::Table;
use weir::net::Family;

/// `NFT_MSG_*` of uapi `linux/netfilter/nf_tables.h`.
const NEW_TABLE: u8 = 0;
const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const NEW_RULE: u8 = 6;
const DELETE_RULE: u8 = 8;
const GET_GENERATION: u8 = 16;

/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`.
const BEGIN: u16 = 16;
const END: u16 = 17;

/// The largest send, in bytes.
const CAPACITY: usize = 1 << 30;

/// One transaction.
pub struct Transaction {
    batch: Batch,
    family: Family,
    table: Table,
}

impl Transaction {
    pub fn new(family: Family, table: Table) -> Self {
        let mut batch = Batch::new("write");
        batch.message(BEGIN, 0, |body| {
            body.raw(&header(None, Subsystem::NfTables as u16));
        });
        Transaction { batch, family, table }
    }

    fn put(&mut self, command: u8, message_flags: u16, fill: impl FnOnce(&mut Body<'_>)) {
        let family = self.family;
        self.batch.message(message_type(Subsystem::NfTables, command), message_flags, |body| {
            fill(body.raw(&header(Some(family), 0)));
        });
    }

    pub fn make_table(&mut self) -> &mut Self {
        let table = self.table;
        self.put(NEW_TABLE, flags::CREATE, |body| {
            body.put_text(1, table.as_str());
        });
        self
    }

    pub fn delete_table(&mut self) -> &mut Self {
        let table = self.table;
        self.put(DELETE_TABLE, 0, |body| {
            body.put_text(1, table.as_str());
        });
        self
    }

    pub fn make_chain(&mut self, chain: &str) -> &mut Self {
        let table = self.table;
        self.put(NEW_CHAIN, flags::CREATE, |body| {
            body.put_text(1, table.as_str()).put_text(3, chain);
        });
        self
    }

    /// Appends `-d ADDRESS -p tcp -m comment --comment TEXT -j RETURN`, about 600 bytes.
    pub fn append(&mut self, chain: &str, number: u32) -> &mut Self {
        let table = self.table;
        self.put(NEW_RULE, flags::CREATE | flags::APPEND, |body| {
            body.put_text(1, table.as_str()).put_text(2, chain).nest(4, |list| expressions(list, number));
        });
        self
    }

    /// Deletes all rules of a chain.
    pub fn flush(&mut self, chain: &str) -> &mut Self {
        let table = self.table;
        self.put(DELETE_RULE, 0, |body| {
            body.put_text(1, table.as_str()).put_text(2, chain);
        });
        self
    }
}

fn expressions(list: &mut Body<'_>, number: u32) {
    let mut one = |name: &str, fill: &dyn Fn(&mut Body<'_>)| {
        list.nest(1, |element| {
            element.put_text(1, name).nest(2, |data| fill(data));
        });
    };
    let compare = |data: &mut Body<'_>, value: &[u8]| {
        data.put_u32_be(1, 1).put_u32_be(2, 0).nest(3, |wrapped| {
            wrapped.put(1, value);
        });
    };
    one("payload", &|data| {
        data.put_u32_be(1, 1).put_u32_be(2, 1).put_u32_be(3, 16).put_u32_be(4, 4);
    });
    one("cmp", &|data| compare(data, &number.to_be_bytes()));
    one("payload", &|data| {
        data.put_u32_be(1, 1).put_u32_be(2, 1).put_u32_be(3, 9).put_u32_be(4, 1);
    });
    one("cmp", &|data| compare(data, &[6]));
    let mut comment = [0; 256];
    comment[..12].copy_from_slice(b"some/service");
    one("match", &|data| {
        data.put_text(1, "comment").put_u32_be(2, 0).put(3, &comment);
    });
    one("counter", &|data| {
        data.put(1, &[0; 8]).put(2, &[0; 8]);
    });
    let code = (-5i32).to_be_bytes();
    one("immediate", &|data| {
        data.put_u32_be(1, 0).nest(2, |wrapped| {
            wrapped.nest(2, |verdict| {
                verdict.put(1, &code);
            });
        });
    });
}

/// The one who writes, in the network namespace of the thread that made it.
pub struct Writer {
    socket: Socket,
}

impl Writer {
    pub fn new() -> Self {
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        socket.set_capacity(CAPACITY).unwrap();
        Writer { socket }
    }

    pub fn port(&self) -> u32 {
        self.socket.port().unwrap()
    }

    /// Commits, and says how long the kernel took.
    pub fn commit(&mut self, transaction: &mut Transaction) -> Duration {
        transaction.batch.message(END, 0, |body| {
            body.raw(&header(None, Subsystem::NfTables as u16));
        });
        let mut refused = None;
        let start = Instant::now();
        self.socket
            .submit(&mut transaction.batch, |index, answer| {
                if let Answer::Refused(refusal) = answer {
                    refused.get_or_insert_with(|| format!("{index}: {refusal}"));
                }
            })
            .unwrap();
        let took = start.elapsed();
        assert_eq!(refused, None);
        took
    }

    pub fn generation(&mut self) -> u32 {
        let mut batch = Batch::new("ask for the generation");
        batch.message(message_type(Subsystem::NfTables, GET_GENERATION), flags::ACK, |body| {
            body.raw(&header(None, 0));
        });
        let mut found = None;
        self.socket
            .transact(&mut batch, |_, answer| {
                if let Answer::Message(message) = answer {
                    found = Attributes::new(&message.payload[4..]).find(1).and_then(|id| id.u32_be());
                }
            })
            .unwrap();
        found.unwrap()
    }
}
