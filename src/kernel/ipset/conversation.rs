//! One request at a time, and what the kernel says to it.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::decode::{self, Header};
use super::encode::{self, Commented, Deed};
use super::wire::{PROTOCOL, error};
use super::{Entries, Entry, IpsetError, ObservedSet, SetName, SetSpec, SetType};
use crate::kernel::Traffic;
use crate::kernel::netlink::{Answer, Attributes, Batch, NetlinkError, Protocol, Refusal, Socket};

/// How long the kernel may take for an answer. Somebody else's large change makes us wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a set may be held by others before that is an error: nf_tables lets go of a set some time after the rule
/// that looked in it is gone, and nobody can swap a set while somebody lists it.
const HELD: Duration = Duration::from_secs(2);

/// How long to wait before the next attempt.
const PAUSE: Duration = Duration::from_millis(10);

/// What became of a set that was to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    New,
    /// There is one of that name.
    Exists,
}

/// What became of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Done,
    /// The set has no room for all; some are in it.
    Full,
}

/// A conversation with ipset in one network namespace.
#[derive(Debug)]
pub struct Conversation {
    socket: Socket,
}

impl Conversation {
    /// Opens it in the network namespace of the calling thread, and asks for the protocol.
    pub fn open() -> Result<Self, IpsetError> {
        let mut socket = Socket::open(Protocol::Netfilter)?;
        socket.set_timeout(PATIENCE)?;
        const ASKED: &str = "ask for the protocol of ipset";
        let mut batch = Batch::new(ASKED);
        encode::ask_protocol(&mut batch);
        let answered = socket.ask(&mut batch, |message| decode::protocol(decode::attributes(message)?))?;
        match answered {
            Ok(Some((oldest, newest))) if (oldest..=newest).contains(&PROTOCOL) => Ok(Conversation { socket }),
            Ok(Some((oldest, newest))) => Err(IpsetError::Protocol { oldest, newest }),
            Ok(None) => Err(NetlinkError::Malformed { asked: ASKED, what: "it names no version" }.into()),
            // nfnetlink knows no such subsystem.
            Err(refusal) if refusal.errno() == Errno::EINVAL => Err(IpsetError::Absent),
            Err(refusal) => Err(NetlinkError::Refused { asked: ASKED, refusal }.into()),
        }
    }

    /// Counts what is sent from now on there.
    pub fn count(&mut self, traffic: Traffic) {
        self.socket.count(traffic);
    }

    /// Sends one request.
    fn send(&mut self, asked: &'static str, fill: impl FnOnce(&mut Batch)) -> Result<Result<(), Refusal>, IpsetError> {
        let mut batch = Batch::new(asked);
        fill(&mut batch);
        let mut outcome = Ok(());
        self.socket.transact(&mut batch, |_, answer| {
            if let Answer::Refused(refusal) = answer {
                outcome = Err(refusal);
            }
        })?;
        Ok(outcome)
    }

    /// Makes a set that has room for this many entries.
    pub fn create(&mut self, set: &SetName, spec: &SetSpec, room: u32) -> Result<Made, IpsetError> {
        match self.send("make an ipset", |batch| encode::create(batch, set, spec, room))? {
            Ok(()) => Ok(Made::New),
            Err(refusal) if refusal.errno() == Errno::EEXIST => Ok(Made::Exists),
            Err(refusal) => {
                Err(IpsetError::Refused { what: format!("make the ipset {set} of type {}", spec.set_type), refusal })
            }
        }
    }

    /// Destroys sets; those that are gone already are no error.
    ///
    /// # Errors
    /// The first that something refers to, when nothing has let go of it for a while. All are tried.
    pub fn destroy(&mut self, sets: &[&SetName]) -> Result<(), IpsetError> {
        let until = Instant::now() + HELD;
        let mut left = sets.to_vec();
        loop {
            let mut held = Vec::new();
            for set in left {
                match self.send("destroy an ipset", |batch| encode::destroy(batch, set))? {
                    Ok(()) => {}
                    Err(refusal) if refusal.errno() == Errno::ENOENT => {}
                    Err(refusal) if refusal.code == error::BUSY => held.push(set),
                    Err(refusal) => {
                        return Err(IpsetError::Refused { what: format!("destroy the ipset {set}"), refusal });
                    }
                }
            }
            match held.first() {
                None => return Ok(()),
                Some(first) if Instant::now() >= until => return Err(IpsetError::InUse((*first).clone())),
                Some(_) => std::thread::sleep(PAUSE),
            }
            left = held;
        }
    }

    /// Gives each of two sets the name of the other. Rules follow the name.
    pub fn swap(&mut self, set: &SetName, other: &SetName) -> Result<(), IpsetError> {
        let until = Instant::now() + HELD;
        loop {
            match self.send("swap two ipsets", |batch| encode::swap(batch, set, other))? {
                Ok(()) => return Ok(()),
                Err(refusal) if refusal.errno() == Errno::EBUSY && Instant::now() < until => std::thread::sleep(PAUSE),
                Err(refusal) if refusal.errno() == Errno::EBUSY => return Err(IpsetError::Read(set.clone())),
                Err(refusal) => return Err(IpsetError::Refused { what: format!("swap {set} and {other}"), refusal }),
            }
        }
    }

    /// Adds or deletes entries, many with one request.
    pub fn put(
        &mut self,
        deed: Deed,
        set: &SetName,
        spec: &SetSpec,
        mut entries: &[Commented<'_>],
    ) -> Result<Put, IpsetError> {
        let asked = match deed {
            Deed::Add => "add entries to an ipset",
            Deed::Delete => "delete entries of an ipset",
        };
        while !entries.is_empty() {
            let (now, later) = entries.split_at(encode::portion(entries).min(entries.len()));
            match self.send(asked, |batch| encode::put_entries(batch, deed, set, now))? {
                Ok(()) => {}
                Err(refusal) if refusal.errno() == Errno::ENOENT => return Err(IpsetError::Gone(set.clone())),
                Err(refusal) if refusal.code == error::HASH_FULL && spec.set_type != SetType::BitmapPort => {
                    return Ok(Put::Full);
                }
                Err(refusal) => return Err(refused(deed, set, now, refusal)),
            }
            entries = later;
        }
        Ok(Put::Done)
    }

    /// What a set is; `None` if it is not there.
    pub fn header(&mut self, set: &SetName) -> Result<Option<Header>, IpsetError> {
        let mut found = None;
        let is_there = self.list("look for an ipset", |batch| encode::ask_header(batch, set), &mut |attributes| {
            found = decode::header(&attributes);
        })?;
        Ok(found.filter(|_| is_there))
    }

    /// What all sets are.
    pub fn headers(&mut self) -> Result<Vec<Header>, IpsetError> {
        let mut found = Vec::new();
        self.list("list ipsets", encode::ask_headers, &mut |attributes| found.extend(decode::header(&attributes)))?;
        Ok(found)
    }

    /// A set with what is in it; `None` if it is not there.
    pub fn read(&mut self, set: &SetName) -> Result<Option<ObservedSet>, IpsetError> {
        let mut header: Option<Header> = None;
        let mut entries = Entries::new();
        let mut foreign = false;
        self.list("list an ipset", |batch| encode::ask_entries(batch, set), &mut |attributes| {
            // Only the first of its messages has it.
            header = header.take().or_else(|| decode::header(&attributes));
            if let Some(Header { spec: Ok(spec), .. }) = header {
                for found in decode::entries(spec, &attributes) {
                    foreign |= found.is_none();
                    entries.extend(found);
                }
            }
        })?;
        Ok(header.map(|Header { name, spec, .. }| {
            let spec = spec.and_then(|spec| match foreign {
                true => Err(format!("{} with entries that weir does not make", spec.set_type).into()),
                false => Ok(spec),
            });
            ObservedSet { name, spec, entries }
        }))
    }

    /// Reads a list. False if it is one of a set that is not there.
    fn list(
        &mut self,
        asked: &'static str,
        fill: impl FnOnce(&mut Batch),
        visit: &mut dyn FnMut(Attributes<'_>),
    ) -> Result<bool, IpsetError> {
        let mut batch = Batch::new(asked);
        fill(&mut batch);
        let mut dump = self.socket.dump(&mut batch)?;
        loop {
            match dump.next_message() {
                Ok(Some(message)) => decode::attributes(&message).into_iter().for_each(&mut *visit),
                Ok(None) => return Ok(true),
                Err(NetlinkError::Refused { refusal, .. }) if refusal.errno() == Errno::ENOENT => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Names the entry, if the kernel does.
fn refused(deed: Deed, set: &SetName, entries: &[Commented<'_>], refusal: Refusal) -> IpsetError {
    let entry: Option<&Entry> = decode::refused_entry(&refusal).and_then(|at| entries.get(at)).map(|(entry, _)| *entry);
    let entry = entry.map_or_else(|| "entries".to_owned(), Entry::to_string);
    let what = match deed {
        Deed::Add => format!("add {entry} to the ipset {set}"),
        Deed::Delete => format!("delete {entry} from the ipset {set}"),
    };
    IpsetError::Refused { what, refusal }
}
