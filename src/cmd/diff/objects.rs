//! Changes of sets, virtual servers and the service device, grouped by whom they are there for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::grouping::{About, Action, Group, Grouped};
use super::lines::Fate;
use super::owners::Owners;
use crate::kernel::ipset::{Entry, SetChange, SetName, SetSpec, text};
use crate::kernel::ipvs::text::{real_server_line, server_line};
use crate::kernel::ipvs::{RealServer, VirtualServerChange, VirtualServerKey};
use crate::kernel::{ipset, ipvs, link};
use crate::net::{Endpoint, Family};
use crate::plan::ipvs::UnixSeconds;

/// The difference of one set, as far as it is about the group. The set itself is the base's, whoever has entries in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetDiff<'a> {
    pub name: &'a SetName,
    /// A bitmap of ports has one only in its name.
    pub family: Family,
    pub action: Action,
    /// What it was, if it goes or becomes something else.
    pub gone: Option<SetSpec>,
    /// What it becomes.
    pub new: Option<SetSpec>,
    pub entries: Vec<EntryLine<'a>>,
}

/// One entry that comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryLine<'a> {
    pub fate: Fate,
    pub entry: &'a Entry,
    pub comment: Option<&'a str>,
}

impl SetDiff<'_> {
    /// The line that makes such a set, as `ipset save` prints it.
    pub fn create_line(&self, spec: &SetSpec) -> String {
        let mut line = String::new();
        text::push_create(&mut line, self.name, spec);
        line.trim_end().to_owned()
    }

    /// The line of an entry, as `ipset save` prints it.
    pub fn entry_line(&self, line: &EntryLine<'_>) -> String {
        let mut text = String::new();
        text::push_add(&mut text, self.name, line.entry, line.comment);
        text.trim_end().to_owned()
    }
}

/// The difference of one virtual server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerDiff {
    pub key: VirtualServerKey,
    pub action: Action,
    pub lines: Vec<ServerLine>,
}

/// A virtual server or a real server, before or after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLine {
    pub fate: Fate,
    /// As `ipvsadm -Sn` prints it.
    pub text: String,
    /// It gets no new connections, and loses those that it has at this time.
    pub drains_until: Option<UnixSeconds>,
    /// It has something that weir does not know, and that the text does not say.
    pub has_more: bool,
}

/// An address of the service device that comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressLine {
    pub fate: Fate,
    pub address: IpAddr,
}

impl<'a> Grouped<'a> {
    pub(super) fn add_sets(&mut self, changes: &'a ipset::Changes, owners: &Owners<'_>) {
        for (name, change) in &changes.sets {
            let Some(spec) = change.after.or(change.before) else { continue };
            let action = match (&change.before, &change.after) {
                (None, _) => Action::Add,
                (_, None) => Action::Remove,
                _ => Action::Change,
            };
            let is_other = change.before != change.after;
            match action {
                Action::Add => self.summary.sets_added += 1,
                Action::Change => self.summary.sets_changed += usize::from(is_other),
                Action::Remove => self.summary.sets_removed += 1,
            }
            let mut parts: BTreeMap<About, Vec<EntryLine<'a>>> = BTreeMap::new();
            if is_other {
                parts.insert(About::Base, Vec::new());
            }
            for line in entry_lines(change) {
                match line.fate {
                    Fate::Add => self.summary.entries_added += 1,
                    Fate::Remove => self.summary.entries_removed += 1,
                    Fate::Keep => {}
                }
                parts.entry(owners.of_entry(spec.family, name, line.entry)).or_default().push(line);
            }
            for (about, entries) in parts {
                let is_whole = about == About::Base && is_other;
                let [gone, new] = [change.before, change.after].map(|spec| spec.filter(|_| is_whole));
                let action = if is_whole { action } else { Action::Change };
                self.group(about).sets.push(SetDiff { name, family: spec.family, action, gone, new, entries });
            }
        }
    }

    pub(super) fn add_servers(&mut self, changes: &ipvs::Changes, owners: &Owners<'_>) {
        for (key, change) in &changes.servers {
            let diff = server_diff(key, change);
            match (diff.action, change.before == change.after && !change.is_nothing()) {
                (Action::Add, _) => self.summary.virtual_servers_added += 1,
                (Action::Remove, _) => self.summary.virtual_servers_removed += 1,
                (Action::Change, false) => self.summary.virtual_servers_changed += 1,
                (Action::Change, true) => {}
            }
            for change in change.real_servers.values() {
                match (change.before, change.after) {
                    (None, Some(_)) => self.summary.real_servers_added += 1,
                    (Some(_), None) => self.summary.real_servers_removed += 1,
                    (Some(_), Some(_)) => self.summary.real_servers_changed += 1,
                    (None, None) => {}
                }
            }
            self.group(owners.of_server(key)).servers.push(diff);
        }
    }

    pub(super) fn add_links(&mut self, changes: &link::Changes, owners: &Owners<'_>) {
        self.summary.devices_added += usize::from(changes.create);
        self.summary.devices_removed += usize::from(changes.delete);
        if changes.create || changes.delete {
            let action = if changes.create { Action::Add } else { Action::Remove };
            self.group(About::Base).device = Some(action);
        }
        self.summary.addresses_added += changes.add.len();
        self.summary.addresses_removed += changes.remove.len();
        let gone = changes.remove.iter().map(|address| (Fate::Remove, *address));
        for (fate, address) in gone.chain(changes.add.iter().map(|address| (Fate::Add, *address))) {
            self.group(owners.of_address(&address)).addresses.push(AddressLine { fate, address });
        }
    }

    fn group(&mut self, about: About) -> &mut Group<'a> {
        self.groups.entry(about).or_default()
    }
}

/// What goes, then what comes. An entry that gets another comment is added again.
fn entry_lines(change: &SetChange) -> impl Iterator<Item = EntryLine<'_>> {
    let gone = change.remove.iter().map(|entry| EntryLine { fate: Fate::Remove, entry, comment: None });
    let new = change.add.iter();
    gone.chain(new.map(|(entry, comment)| EntryLine { fate: Fate::Add, entry, comment: comment.as_deref() }))
}

fn server_diff(key: &VirtualServerKey, change: &VirtualServerChange) -> ServerDiff {
    let line = |fate, server| ServerLine {
        fate,
        text: server_line(key, server),
        drains_until: None,
        has_more: fate == Fate::Remove && change.is_nothing(),
    };
    let mut lines = Vec::new();
    match (&change.before, &change.after) {
        (Some(before), Some(after)) if before == after && !change.is_nothing() => lines.push(line(Fate::Keep, after)),
        (before, after) => {
            lines.extend(before.iter().map(|server| line(Fate::Remove, server)));
            lines.extend(after.iter().map(|server| line(Fate::Add, server)));
        }
    }
    for (endpoint, real) in &change.real_servers {
        lines.extend(real.before.map(|server| real_line(key, endpoint, Fate::Remove, server)));
        lines.extend(real.after.map(|server| real_line(key, endpoint, Fate::Add, server)));
    }
    let action = match (&change.before, &change.after) {
        (None, _) => Action::Add,
        (_, None) => Action::Remove,
        _ => Action::Change,
    };
    ServerDiff { key: *key, action, lines }
}

/// The threshold of one that drains is no threshold, see [`crate::plan::ipvs`].
fn real_line(key: &VirtualServerKey, endpoint: &Endpoint, fate: Fate, server: RealServer) -> ServerLine {
    let drains_until = (server.weight == 0 && server.upper_threshold != 0).then_some(server.upper_threshold);
    let shown = match drains_until {
        Some(_) => RealServer { upper_threshold: 0, ..server },
        None => server,
    };
    ServerLine { fate, text: real_server_line(key, endpoint, &shown), drains_until, has_more: false }
}
