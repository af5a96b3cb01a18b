//! Sets as `ipset save` prints them, which is also what `ipset restore` reads.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::encode::{HASHSIZE, MAXELEM};
use super::{Entries, Entry, ObservedSet, SetName, SetSpec, SetType};
use crate::net::{Family, Protocol};

/// A text is not one of `ipset save`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct TextError {
    /// From 1 on.
    pub line: usize,
    pub what: String,
}

/// Appends a set: a line `create`, and a line `add` for each entry.
pub fn push_set(out: &mut String, set: &SetName, spec: &SetSpec, entries: &Entries) {
    push_create(out, set, spec);
    for (entry, comment) in entries {
        push_add(out, set, entry, comment.as_deref());
    }
}

/// Appends the line that makes the set, without the room of one that grew.
pub fn push_create(out: &mut String, set: &SetName, spec: &SetSpec) {
    let SetSpec { set_type, family, comments } = spec;
    let comments = if *comments { " comment" } else { "" };
    let family = match family {
        Family::V4 => "inet",
        Family::V6 => "inet6",
    };
    infallible(match set_type {
        SetType::BitmapPort => writeln!(out, "create {set} {set_type} range 0-65535{comments}"),
        _ => {
            writeln!(out, "create {set} {set_type} family {family} hashsize {HASHSIZE} maxelem {MAXELEM}{comments}")
        }
    });
}

/// Appends the line that adds an entry.
pub fn push_add(out: &mut String, set: &SetName, entry: &Entry, comment: Option<&str>) {
    infallible(match comment {
        None => writeln!(out, "add {set} {entry}"),
        Some(comment) => writeln!(out, "add {set} {entry} comment \"{comment}\""),
    });
}

/// Writing to a `String` cannot fail; `fmt` has no other way to say so.
fn infallible(written: std::fmt::Result) {
    debug_assert!(written.is_ok());
}

/// Reads a text, in the order of the sets. A set that is something which weir does not make has the error text of
/// [`ObservedSet`], and lacks the entries that are not known.
///
/// # Errors
/// The first line that is not one of `ipset save`.
pub fn parse(text: &str) -> Result<Vec<ObservedSet>, TextError> {
    let mut sets: Vec<ObservedSet> = Vec::new();
    let mut places: BTreeMap<SetName, usize> = BTreeMap::new();
    for (line, number) in text.lines().zip(1..) {
        let failed = |what| TextError { line: number, what };
        let mut words = Words { rest: line };
        match words.next() {
            None => {}
            Some(comment) if comment.starts_with('#') => {}
            Some("create") => {
                let set = create(&mut words).map_err(failed)?;
                if places.insert(set.name.clone(), sets.len()).is_some() {
                    return Err(failed(format!("the set {} is there twice", set.name)));
                }
                sets.push(set);
            }
            Some("add") => {
                let name = name(&mut words).map_err(failed)?;
                let set = places.get(&name).and_then(|place| sets.get_mut(*place));
                add(set.ok_or_else(|| failed(format!("the set {name} was not created before")))?, &mut words)
                    .map_err(failed)?;
            }
            Some(other) => return Err(failed(format!("a line begins with create or add, not with {other:?}"))),
        }
    }
    Ok(sets)
}

/// The words of a line.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let (word, rest) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    fn expect(&mut self, what: &str) -> Result<&'a str, String> {
        self.next().ok_or_else(|| format!("{what} is missing"))
    }

    /// What is between double quotes.
    fn quoted(&mut self) -> Result<&'a str, String> {
        let inside = self.rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
        let (text, rest) = inside.ok_or("a comment is not in double quotes")?;
        self.rest = rest;
        Ok(text)
    }
}

fn name(words: &mut Words<'_>) -> Result<SetName, String> {
    let name = words.expect("the name of the set")?;
    if name.len() > SetName::MAX {
        return Err(format!("the name {name:?} is longer than {} bytes", SetName::MAX));
    }
    Ok(SetName::new(name))
}

fn create(words: &mut Words<'_>) -> Result<ObservedSet, String> {
    let name = name(words)?;
    let type_name = words.expect("the type of the set")?;
    let Some(set_type) = SetType::ALL.into_iter().find(|known| known.as_str() == type_name) else {
        return Ok(ObservedSet { name, spec: Err(type_name.into()), entries: Entries::new() });
    };
    let is_bitmap = set_type == SetType::BitmapPort;
    let family = if is_bitmap { name.family() } else { Family::V4 };
    let mut spec = SetSpec { set_type, family, comments: false };
    let mut foreign = false;
    while let Some(option) = words.next() {
        match option {
            "comment" => spec.comments = true,
            "counters" | "skbinfo" => {}
            "family" if !is_bitmap => spec.family = family_named(words.expect("the family")?)?,
            "range" if is_bitmap => foreign |= port_range(words.expect("the range")?)? != (0, u16::MAX),
            "hashsize" | "maxelem" | "bucketsize" if !is_bitmap => drop(number(option, words.expect(option)?)?),
            "initval" if !is_bitmap => drop(words.expect(option)?),
            // Some have a value and some have none.
            _ => {
                foreign = true;
                break;
            }
        }
    }
    let spec = if foreign { Err(format!("{set_type} with options that weir does not use").into()) } else { Ok(spec) };
    Ok(ObservedSet { name, spec, entries: Entries::new() })
}

fn family_named(text: &str) -> Result<Family, String> {
    match text {
        "inet" => Ok(Family::V4),
        "inet6" => Ok(Family::V6),
        _ => Err(format!("the family is inet or inet6, not {text:?}")),
    }
}

fn number(what: &str, text: &str) -> Result<u32, String> {
    digits(text).ok_or_else(|| format!("{what} is a number, not {text:?}"))
}

/// Rust's parser would also take a `+`.
fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `FROM-TO`, both included; the tool takes them in either order.
fn port_range(text: &str) -> Result<(u16, u16), String> {
    let ends = text.split_once('-').and_then(|(from, to)| Some((digits::<u16>(from)?, digits::<u16>(to)?)));
    let (from, to) = ends.ok_or_else(|| format!("a range is two ports with a - between, not {text:?}"))?;
    Ok((from.min(to), from.max(to)))
}

fn add(set: &mut ObservedSet, words: &mut Words<'_>) -> Result<(), String> {
    let text = words.expect("the entry")?;
    // Nothing is known of the entries of such a set.
    let Ok(spec) = set.spec else { return Ok(()) };
    let found = entry(spec.set_type, spec.family, text)?;
    let mut comment = None;
    while let Some(option) = words.next() {
        match option {
            "comment" if spec.comments => comment = Some(Arc::from(words.quoted()?)),
            "comment" => return Err(format!("the set {} has no comments", set.name)),
            "packets" | "bytes" => drop(words.expect(option)?),
            _ => {
                set.spec = Err(format!("{} with entries that weir does not make", spec.set_type).into());
                return Ok(());
            }
        }
    }
    set.entries.insert(found, comment);
    Ok(())
}

/// Reads an entry. Without a protocol a port is one of TCP, as the tool takes it.
///
/// # Errors
/// What is wrong with it.
pub fn entry(set_type: SetType, family: Family, text: &str) -> Result<Entry, String> {
    let parts: Vec<&str> = text.split(',').collect();
    let ip = |text: &str| ip(family, text);
    let net = |text: &str| net(family, text);
    let port = |text| service_port(text);
    match (set_type, parts.as_slice()) {
        (SetType::HashIp, [first]) => Ok(Entry::Ip(ip(first)?)),
        (SetType::HashNet, [first]) => Ok(Entry::Net(net(first)?)),
        (SetType::HashIpPort, [first, second]) => {
            port(second).and_then(|(protocol, port)| Ok(Entry::IpPort(ip(first)?, protocol, port)))
        }
        (SetType::HashIpPortIp, [first, second, third]) => {
            port(second).and_then(|(protocol, port)| Ok(Entry::IpPortIp(ip(first)?, protocol, port, ip(third)?)))
        }
        (SetType::HashIpPortNet, [first, second, third]) => {
            port(second).and_then(|(protocol, port)| Ok(Entry::IpPortNet(ip(first)?, protocol, port, net(third)?)))
        }
        (SetType::BitmapPort, [first]) => port_number(first).map(Entry::Port),
        _ => Err(format!("{text:?} is no entry of a set of type {set_type}")),
    }
}

fn ip(family: Family, text: &str) -> Result<IpAddr, String> {
    let ip = text.parse().ok().filter(|ip| Family::of(ip) == family);
    ip.ok_or_else(|| format!("{text:?} is no {family} address"))
}

fn net(family: Family, text: &str) -> Result<IpNet, String> {
    let wrong = || format!("{text:?} is no {family} network");
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, digits(length).ok_or_else(wrong)?),
        None => (text, family.bits()),
    };
    let net = IpNet::new(ip(family, address)?, length).map_err(|_| wrong())?;
    if length == 0 {
        return Err(format!("{text:?}: sets take no network of length 0"));
    }
    Ok(net.trunc())
}

/// `tcp:80`, `80`.
fn service_port(text: &str) -> Result<(Protocol, u16), String> {
    let (protocol, port) = text.split_once(':').unwrap_or(("tcp", text));
    let protocol = Protocol::ALL.into_iter().find(|known| known.lower() == protocol);
    let protocol = protocol.ok_or_else(|| format!("{text:?}: the protocol is tcp, udp or sctp"))?;
    Ok((protocol, port_number(port)?))
}

fn port_number(text: &str) -> Result<u16, String> {
    digits(text).ok_or_else(|| format!("{text:?} is no port: 0 to 65535"))
}
