//! Reading the output of `ipvsadm -Sn`.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::{FromStr, SplitWhitespace};

use super::super::decode::prefix_of;
use super::super::{
    Forwarding, ObservedRealServer, ObservedVirtualServer, RealServer, Scheduler, ServerFlags, VirtualServer,
    VirtualServerKey,
};
use super::flag_names;
use crate::net::{Endpoint, Family, Protocol};

/// What ipvsadm takes for `-p` without a number, in seconds (ipvsadm(8)).
const DEFAULT_TIMEOUT: u32 = 300;
/// What it takes where `-s` is not given.
const DEFAULT_SCHEDULER: &str = "wlc";
/// The greatest weight that the kernel takes.
const MAX_WEIGHT: u32 = i32::MAX as u32;

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct TextError {
    /// Counted from 1.
    pub line: usize,
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{0:?} is no command of a saved table: only -A and -a are; save it with `ipvsadm -Sn`")]
    Command(String),
    #[error("the option {0:?} is not known here: leave it out, or save the table with `ipvsadm -Sn` of version 1.31")]
    Option(String),
    #[error("the option {0} lacks its value")]
    NoValue(&'static str),
    #[error("{value:?} is no value of {option}: expected {expected}")]
    Value { option: &'static str, value: String, expected: &'static str },
    #[error("it names no virtual server: give one of -t, -u, --sctp-service and -f first")]
    NoServer,
    #[error("it names no real server: give it with -r")]
    NoRealServer,
    #[error("the virtual server {0} is added twice: leave one of the lines out")]
    ServerTwice(VirtualServerKey),
    #[error("the real server {endpoint} is added to {key} twice: leave one of the lines out")]
    RealServerTwice { key: VirtualServerKey, endpoint: Endpoint },
    #[error("no line before adds the virtual server {0}: add it with -A first")]
    Missing(VirtualServerKey),
    #[error("{0} is no tunnel that weir knows, which is --tun-type ipip: leave the virtual server out of the text")]
    Tunnel(String),
}

/// Reads virtual servers with their real servers, in the order of the text. Those by firewall mark are passed over, as
/// they are in the kernel; so are empty lines, and lines that begin with `#`.
///
/// # Errors
/// The first line that cannot be read.
pub fn parse(text: &str) -> Result<Vec<ObservedVirtualServer>, TextError> {
    let mut found = Found::default();
    for (line, number) in text.lines().zip(1..) {
        found.take_line(line).map_err(|problem| TextError { line: number, problem })?;
    }
    Ok(found.servers)
}

#[derive(Default)]
struct Found {
    servers: Vec<ObservedVirtualServer>,
    places: HashMap<VirtualServerKey, usize>,
}

impl Found {
    fn take_line(&mut self, line: &str) -> Result<(), Problem> {
        let mut words = Words(line.split_whitespace());
        match words.0.next() {
            None => Ok(()),
            Some(word) if word.starts_with('#') => Ok(()),
            Some("-A") => match words.service()? {
                Some(key) => self.add_server(virtual_server(&mut words, key)?),
                None => Ok(()),
            },
            Some("-a") => match words.service()? {
                Some(key) => self.add_real_server(key, real_server(&mut words)?),
                None => Ok(()),
            },
            Some(other) => Err(Problem::Command(other.to_owned())),
        }
    }

    fn add_server(&mut self, server: ObservedVirtualServer) -> Result<(), Problem> {
        if self.places.insert(server.key, self.servers.len()).is_some() {
            return Err(Problem::ServerTwice(server.key));
        }
        self.servers.push(server);
        Ok(())
    }

    fn add_real_server(&mut self, key: VirtualServerKey, (at, real): (Endpoint, RealServer)) -> Result<(), Problem> {
        let server = self.places.get(&key).and_then(|place| self.servers.get_mut(*place));
        let server = server.ok_or(Problem::Missing(key))?;
        let observed = ObservedRealServer { server: real, ..ObservedRealServer::default() };
        match server.real_servers.insert(at, observed) {
            None => Ok(()),
            Some(_) => Err(Problem::RealServerTwice { key, endpoint: at }),
        }
    }
}

/// The options of `-A` behind the address.
fn virtual_server(words: &mut Words<'_>, key: VirtualServerKey) -> Result<ObservedVirtualServer, Problem> {
    let mut scheduler = DEFAULT_SCHEDULER;
    let mut flags = ServerFlags::default();
    let (mut timeout, mut prefix, mut unknown) = (0, key.family().bits(), false);
    let mut flag_words = "";
    while let Some(option) = words.0.next() {
        match option {
            "-s" => scheduler = words.value("-s")?,
            "-p" => {
                flags = flags.with(ServerFlags::PERSISTENT);
                timeout = words.optional_number("-p")?.unwrap_or(DEFAULT_TIMEOUT);
            }
            "-M" => {
                let (length, holes) = words.mask(key.family())?;
                prefix = length;
                unknown |= holes;
            }
            "-o" => flags = flags.with(ServerFlags::ONE_PACKET),
            "-b" => flag_words = words.value("-b")?,
            "--pe" => {
                words.value("--pe")?;
                unknown = true;
            }
            other => return Err(Problem::Option(other.to_owned())),
        }
    }
    let scheduler = Scheduler::new(scheduler).ok_or(Problem::Value {
        option: "-s",
        value: scheduler.to_owned(),
        expected: "the name of a scheduler, at most 15 letters and digits",
    })?;
    let flags = flag_words
        .split(',')
        .filter(|word| !word.is_empty())
        .try_fold(flags, |flags, word| Ok(flags.with(scheduler_flag(&scheduler, word)?)))?;
    let server = VirtualServer { scheduler, flags, timeout, prefix };
    Ok(ObservedVirtualServer { key, server, unknown, real_servers: Default::default() })
}

fn scheduler_flag(scheduler: &Scheduler, word: &str) -> Result<ServerFlags, Problem> {
    let plain = [ServerFlags::SCHED_1, ServerFlags::SCHED_2, ServerFlags::SCHED_3].into_iter();
    let mut names = plain.zip(["flag-1", "flag-2", "flag-3"]).chain(flag_names(scheduler));
    let found = names.find(|(_, name)| *name == word).map(|(flag, _)| flag);
    found.ok_or_else(|| Problem::Value {
        option: "-b",
        value: word.to_owned(),
        expected: "flag-1, flag-2 and flag-3; of the scheduler sh also sh-fallback and sh-port, of mh mh-fallback and mh-port",
    })
}

/// The options of `-a` behind the address of the virtual server.
fn real_server(words: &mut Words<'_>) -> Result<(Endpoint, RealServer), Problem> {
    let mut endpoint = None;
    // Where it is not said, ipvsadm means direct routing.
    let mut real = RealServer { forwarding: Forwarding::DirectRoute, ..RealServer::active(1) };
    while let Some(option) = words.0.next() {
        match option {
            "-r" => endpoint = Some(words.endpoint("-r")?),
            "-m" => real.forwarding = Forwarding::Masquerade,
            "-i" => real.forwarding = Forwarding::Tunnel,
            "-g" => real.forwarding = Forwarding::DirectRoute,
            "-w" => real.weight = words.number("-w", MAX_WEIGHT, "a weight from 0 to 2147483647")?,
            "-x" => real.upper_threshold = words.number("-x", u32::MAX, A_NUMBER)?,
            "-y" => real.lower_threshold = words.number("-y", u32::MAX, A_NUMBER)?,
            "--tun-type" => match words.value("--tun-type")? {
                "ipip" => {}
                other => return Err(Problem::Tunnel(format!("--tun-type {other}"))),
            },
            other if other.starts_with("--tun-") => return Err(Problem::Tunnel(other.to_owned())),
            other => return Err(Problem::Option(other.to_owned())),
        }
    }
    Ok((endpoint.ok_or(Problem::NoRealServer)?, real))
}

const A_NUMBER: &str = "a number from 0 to 4294967295";

/// What is left of a line.
struct Words<'a>(SplitWhitespace<'a>);

impl<'a> Words<'a> {
    /// The virtual server that a command is about; `None` if it is one by firewall mark.
    fn service(&mut self) -> Result<Option<VirtualServerKey>, Problem> {
        let (option, protocol) = match self.0.next() {
            Some("-t") => ("-t", Protocol::Tcp),
            Some("-u") => ("-u", Protocol::Udp),
            Some("--sctp-service") => ("--sctp-service", Protocol::Sctp),
            Some("-f") => return Ok(None),
            _ => return Err(Problem::NoServer),
        };
        let Endpoint { ip, port } = self.endpoint(option)?;
        Ok(Some(VirtualServerKey::new(protocol, ip, port)))
    }

    fn value(&mut self, option: &'static str) -> Result<&'a str, Problem> {
        self.0.next().ok_or(Problem::NoValue(option))
    }

    fn endpoint(&mut self, option: &'static str) -> Result<Endpoint, Problem> {
        let value = self.value(option)?;
        let expected = "an address and a port, both as numbers, as `ipvsadm -Sn` prints them";
        let address: SocketAddr = parsed(option, value, expected)?;
        Ok(Endpoint::new(address.ip(), address.port()))
    }

    fn number(&mut self, option: &'static str, most: u32, expected: &'static str) -> Result<u32, Problem> {
        let value = self.value(option)?;
        let number: u32 = parsed(option, value, expected)?;
        if number > most {
            return Err(Problem::Value { option, value: value.to_owned(), expected });
        }
        Ok(number)
    }

    /// A number, unless the line ends or goes on with another option.
    fn optional_number(&mut self, option: &'static str) -> Result<Option<u32>, Problem> {
        match self.0.clone().next() {
            Some(word) if !word.starts_with('-') => self.number(option, u32::MAX, A_NUMBER).map(Some),
            _ => Ok(None),
        }
    }

    /// A persistence mask: its prefix length, and whether it has bits beyond that.
    fn mask(&mut self, family: Family) -> Result<(u8, bool), Problem> {
        let value = self.value("-M")?;
        match family {
            Family::V4 => {
                let mask: Ipv4Addr = parsed("-M", value, "an IPv4 mask such as 255.255.255.0")?;
                Ok(prefix_of(mask))
            }
            Family::V6 => {
                let expected = "a prefix length from 1 to 128";
                let prefix: u8 = parsed("-M", value, expected)?;
                match prefix {
                    1..=128 => Ok((prefix, false)),
                    _ => Err(Problem::Value { option: "-M", value: value.to_owned(), expected }),
                }
            }
        }
    }
}

fn parsed<T: FromStr>(option: &'static str, value: &str, expected: &'static str) -> Result<T, Problem> {
    value.parse().map_err(|_| Problem::Value { option, value: value.to_owned(), expected })
}
