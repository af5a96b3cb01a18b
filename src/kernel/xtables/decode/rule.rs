//! The text of one rule → [`Rule`], if every word of it is understood.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::token::Tokens;
use crate::kernel::ipset::SetName;
use crate::kernel::xtables::encode::{CT_STATES, MAX_DIRECTIONS, ONE, full_mask, is_word, port_unreachable};
use crate::kernel::xtables::{
    AddrTypeMatch, ChainName, CtStates, Direction, InterfaceMatch, Match, NetMatch, PortRange, RecentAction, Rule,
    Target,
};
use crate::net::{Endpoint, Family, Protocol};

/// Reads the texts of many rules of one family.
pub struct RuleParser {
    family: Family,
    /// Neighbouring rules have the same comment: one text serves them all.
    last_comment: Arc<str>,
}

impl RuleParser {
    pub fn new(family: Family) -> Self {
        RuleParser { family, last_comment: Arc::from("") }
    }

    /// The rule, if all of `text` (what follows `-A CHAIN `) is understood; else `None`.
    ///
    /// `chain` finds a chain of the table by name. A target that is no chain and none of [`Target`]'s is not
    /// understood: `-j TRACE` must not become a jump.
    pub fn parse(&mut self, text: &str, chain: &dyn Fn(&str) -> Option<ChainName>) -> Option<Rule> {
        let mut words = Words { tokens: Tokens::new(text) };
        let mut rule = Rule::default();
        while let Some((invert, option)) = words.option()? {
            match &*option {
                "-m" if !invert => {
                    let name = words.word()?;
                    let item = self.parse_match(&name, &rule, &mut words)?;
                    rule.matches.push(item);
                }
                "-j" | "-g" if !invert => {
                    rule.target = Some(self.parse_target(&option, &mut words, chain)?);
                    return words.at_end().then_some(rule);
                }
                _ if rule.matches.is_empty() => self.parse_header(&mut rule, invert, &option, &mut words)?,
                _ => return None,
            }
        }
        Some(rule)
    }

    fn parse_header(&self, rule: &mut Rule, invert: bool, option: &str, words: &mut Words) -> Option<()> {
        let value = words.word()?;
        match option {
            "-s" => set_once(&mut rule.source, NetMatch { invert, net: net(self.family, &value)? }),
            "-d" => set_once(&mut rule.destination, NetMatch { invert, net: net(self.family, &value)? }),
            "-i" => set_once(&mut rule.in_interface, interface(invert, &value)?),
            "-o" => set_once(&mut rule.out_interface, interface(invert, &value)?),
            "-p" if !invert => set_once(&mut rule.protocol, protocol(&value)?),
            _ => None,
        }
    }

    fn parse_match(&mut self, name: &str, rule: &Rule, words: &mut Words) -> Option<Match> {
        match name {
            "comment" => {
                words.expect("--comment")?;
                let text = words.value()?;
                if *self.last_comment != *text {
                    self.last_comment = Arc::from(&*text);
                }
                Some(Match::Comment(self.last_comment.clone()))
            }
            "tcp" | "udp" | "sctp" => ports(protocol(name).filter(|p| rule.protocol == Some(*p))?, words),
            "mark" => {
                let invert = words.expect_invertible("--mark")?;
                let (value, mask) = mark(&words.word()?)?;
                Some(Match::Mark { invert, value, mask: mask.unwrap_or(u32::MAX) })
            }
            "statistic" => {
                words.expect("--mode")?;
                (&*words.word()? == "random").then_some(())?;
                words.expect("--probability")?;
                Some(Match::Random { probability: probability(&words.word()?)? })
            }
            "recent" => recent(self.family, words),
            "addrtype" => addrtype(words),
            "conntrack" => {
                let invert = words.expect_invertible("--ctstate")?;
                Some(Match::CtState { invert, states: states(&words.word()?)? })
            }
            "nfacct" => {
                words.expect("--nfacct-name")?;
                // Quoted by the tool if it has a dot, say.
                let name = words.value()?;
                is_word(&name).then(|| Match::Nfacct(Arc::from(&*name)))
            }
            "set" => {
                let invert = words.expect_invertible("--match-set")?;
                let name = words.word().filter(|name| name.len() <= SetName::MAX)?;
                Some(Match::Set { invert, set: SetName::new(&*name), directions: directions(&words.word()?)? })
            }
            _ => None,
        }
    }

    fn parse_target(
        &self,
        option: &str,
        words: &mut Words,
        chain: &dyn Fn(&str) -> Option<ChainName>,
    ) -> Option<Target> {
        let name = words.word()?;
        if option == "-g" {
            return chain(&name).map(Target::Goto);
        }
        match &*name {
            "ACCEPT" => Some(Target::Accept),
            "DROP" => Some(Target::Drop),
            "RETURN" => Some(Target::Return),
            "REJECT" => {
                words.expect("--reject-with")?;
                (&*words.word()? == port_unreachable(self.family)).then_some(Target::Reject)
            }
            "DNAT" => {
                words.expect("--to-destination")?;
                endpoint(self.family, &words.word()?).map(Target::Dnat)
            }
            "MASQUERADE" => Some(Target::Masquerade { random_fully: words.take("--random-fully")? }),
            "MARK" => {
                words.expect("--set-xmark")?;
                let (value, mask) = mark(&words.word()?)?;
                Some(Target::Mark { value, mask: mask? })
            }
            _ => chain(&name).map(Target::Jump),
        }
    }
}

/// The words still to come. `None` is "not understood" throughout.
struct Words<'a> {
    tokens: Tokens<'a>,
}

impl<'a> Words<'a> {
    /// The next option with its `!`; `Some(None)` at the end.
    fn option(&mut self) -> Option<Option<(bool, Cow<'a, str>)>> {
        let Some(mut token) = self.tokens.next().ok()? else { return Some(None) };
        let invert = !token.quoted && token.text == "!";
        if invert {
            token = self.tokens.next().ok()??;
        }
        (!token.quoted && token.text.starts_with('-')).then_some(Some((invert, token.text)))
    }

    /// The next option if it belongs to the current match, which all start with `--`; `Some(None)` if not.
    fn own_option(&mut self) -> Option<Option<(bool, Cow<'a, str>)>> {
        let before = self.tokens;
        let option = self.option()?;
        if option.as_ref().is_some_and(|(_, option)| option.starts_with("--")) {
            return Some(option);
        }
        self.tokens = before;
        Some(None)
    }

    fn expect(&mut self, option: &str) -> Option<()> {
        (!self.expect_invertible(option)?).then_some(())
    }

    /// Whether the option, which must be next, has a `!`.
    fn expect_invertible(&mut self, option: &str) -> Option<bool> {
        let (invert, found) = self.option()??;
        (found == option).then_some(invert)
    }

    /// Takes a flag if it is next.
    fn take(&mut self, flag: &str) -> Option<bool> {
        let before = self.tokens;
        match self.option()? {
            Some((false, option)) if option == flag => Some(true),
            _ => {
                self.tokens = before;
                Some(false)
            }
        }
    }

    /// A value that iptables never quotes.
    fn word(&mut self) -> Option<Cow<'a, str>> {
        let token = self.tokens.next().ok()??;
        (!token.quoted && is_word(&token.text)).then_some(token.text)
    }

    /// A value that may be quoted.
    fn value(&mut self) -> Option<Cow<'a, str>> {
        self.tokens.next().ok()?.map(|token| token.text)
    }

    fn at_end(&mut self) -> bool {
        matches!(self.tokens.next(), Ok(None))
    }
}

/// `None` if there was a value already: printed twice means something we do not know.
fn set_once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.is_none().then(|| *slot = Some(value))
}

/// `/0` is only ever printed inverted, and no rule of ours matches nothing.
fn net(family: Family, text: &str) -> Option<IpNet> {
    let (ip, length) = match text.split_once('/') {
        Some((ip, length)) => (ip, number(length)?),
        None => (text, family.bits()),
    };
    let ip: IpAddr = ip.parse().ok()?;
    (Family::of(&ip) == family && length > 0).then(|| IpNet::new(ip, length).ok())?
}

fn interface(invert: bool, name: &str) -> Option<InterfaceMatch> {
    Some(InterfaceMatch { invert, name: name.into() })
}

fn protocol(text: &str) -> Option<Protocol> {
    let by_number = || number::<u8>(text).and_then(Protocol::from_number);
    Protocol::ALL.into_iter().find(|protocol| protocol.lower() == text).or_else(by_number)
}

fn ports(protocol: Protocol, words: &mut Words) -> Option<Match> {
    let (mut source, mut destination) = (None, None);
    while let Some((invert, option)) = words.own_option()? {
        let slot = match &*option {
            "--sport" => &mut source,
            "--dport" => &mut destination,
            _ => return None,
        };
        set_once(slot, port_range(invert, &words.word()?)?)?;
    }
    Some(Match::Ports { protocol, source, destination })
}

fn port_range(invert: bool, text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && (first, last) != (0, u16::MAX)).then_some(PortRange { invert, first, last })
}

fn recent(family: Family, words: &mut Words) -> Option<Match> {
    let (mut set, mut check, mut reap, mut by_source) = (false, false, false, false);
    let (mut seconds, mut name) = (None, None);
    while let Some((invert, option)) = words.own_option()? {
        if invert {
            return None;
        }
        match &*option {
            "--set" => set = true,
            "--rcheck" => check = true,
            "--seconds" => set_once(&mut seconds, number(&words.word()?)?)?,
            "--reap" => reap = true,
            "--name" => set_once(&mut name, Arc::from(&*words.word()?))?,
            "--mask" => (&*words.word()? == full_mask(family)).then_some(())?,
            "--rsource" => by_source = true,
            _ => return None,
        }
    }
    let action = match (set, check, seconds) {
        (true, false, None) if !reap => RecentAction::Set,
        (false, true, Some(seconds)) => RecentAction::Check { seconds, reap },
        _ => return None,
    };
    by_source.then_some(Match::Recent { name: name?, action })
}

fn addrtype(words: &mut Words) -> Option<Match> {
    let mut types = AddrTypeMatch::default();
    while let Some((invert, option)) = words.own_option()? {
        let slot = match &*option {
            "--src-type" => &mut types.source_local,
            "--dst-type" => &mut types.destination_local,
            _ => return None,
        };
        (&*words.word()? == "LOCAL").then_some(())?;
        set_once(slot, invert)?;
    }
    (types != AddrTypeMatch::default()).then_some(Match::AddrType(types))
}

fn states(text: &str) -> Option<CtStates> {
    text.split(',').try_fold(CtStates(0), |states, name| {
        CT_STATES.iter().find(|(known, _)| *known == name).map(|(_, state)| states.with(*state))
    })
}

/// `src` and `dst` with commas between.
fn directions(text: &str) -> Option<Box<[Direction]>> {
    let direction = |word| match word {
        "src" => Some(Direction::Source),
        "dst" => Some(Direction::Destination),
        _ => None,
    };
    let directions: Box<[Direction]> = text.split(',').map(direction).collect::<Option<_>>()?;
    (directions.len() <= MAX_DIRECTIONS).then_some(directions)
}

/// `0xVALUE` or `0xVALUE/0xMASK`.
fn mark(text: &str) -> Option<(u32, Option<u32>)> {
    match text.split_once('/') {
        Some((value, mask)) => Some((hex(value)?, Some(hex(mask)?))),
        None => Some((hex(text)?, None)),
    }
}

/// The kernel's value for a probability, as iptables rounds it.
fn probability(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let scaled = (text.parse::<f64>().ok()? * f64::from(ONE)).round();
    (scaled <= f64::from(ONE)).then_some(scaled as u32)
}

fn endpoint(family: Family, text: &str) -> Option<Endpoint> {
    let (ip, port) = text.rsplit_once(':')?;
    let ip = match family {
        Family::V4 => IpAddr::V4(ip.parse().ok()?),
        Family::V6 => IpAddr::V6(ip.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?),
    };
    Some(Endpoint::new(ip, number(port)?))
}

fn hex(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x")?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

/// Rust's parser would also take a `+`.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}
