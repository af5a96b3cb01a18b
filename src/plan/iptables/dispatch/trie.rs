//! The entries of a tree: a radix trie over nibbles, path-compressed, with counts.

use super::{Entry, Key, Prefix};
use crate::net::Family;

/// A set of entries. Equal keys share a leaf.
#[derive(Clone, Debug)]
pub struct Trie {
    pub family: Family,
    pub root: Option<Box<Node>>,
}

/// A leaf holds all entries of one key; a branch all entries that share its prefix, which is as long as they allow.
#[derive(Clone, Debug)]
pub enum Node {
    Leaf { key: Key, entries: Vec<Entry> },
    Branch { prefix: Prefix, count: usize, children: Vec<(u8, Box<Node>)> },
}

impl Node {
    /// How many entries are below.
    pub fn count(&self) -> usize {
        match self {
            Node::Leaf { entries, .. } => entries.len(),
            Node::Branch { count, .. } => *count,
        }
    }

    /// The longest prefix that all entries below share.
    pub fn prefix(&self, family: Family) -> Prefix {
        match self {
            Node::Leaf { key, .. } => Prefix::of(key, Key::len(family), family),
            Node::Branch { prefix, .. } => *prefix,
        }
    }

    /// Some key below; all share the node's prefix.
    fn some_key(&self) -> Option<&Key> {
        match self {
            Node::Leaf { key, .. } => Some(key),
            Node::Branch { children, .. } => children.first().and_then(|(_, child)| child.some_key()),
        }
    }

    /// Visits the entries below in order.
    pub fn each(&self, visit: &mut impl FnMut(&Entry)) {
        match self {
            Node::Leaf { entries, .. } => entries.iter().for_each(visit),
            Node::Branch { children, .. } => children.iter().for_each(|(_, child)| child.each(visit)),
        }
    }
}

impl Trie {
    pub fn new(family: Family) -> Self {
        Trie { family, root: None }
    }

    /// The highest node all of whose entries begin with the prefix.
    pub fn at(&self, prefix: &Prefix) -> Option<&Node> {
        let mut node = self.root.as_deref()?;
        loop {
            let own = node.prefix(self.family);
            if prefix.contains(&own, self.family) {
                return Some(node);
            }
            if !own.contains(prefix, self.family) {
                return None;
            }
            let Node::Branch { children, .. } = node else { return None };
            let nibble = prefix.nibble(own.len(), self.family);
            node = children.iter().find(|(n, _)| *n == nibble).map(|(_, child)| &**child)?;
        }
    }

    /// Puts an entry in; an equal one is replaced.
    pub fn insert(&mut self, entry: Entry) {
        let family = self.family;
        self.root = Some(match self.root.take() {
            Some(node) => insert(node, entry, family),
            None => Box::new(Node::Leaf { key: entry.key, entries: vec![entry] }),
        });
    }

    /// Takes an entry out, if it is there.
    pub fn remove(&mut self, entry: &Entry) {
        let family = self.family;
        self.root = self.root.take().and_then(|node| remove(node, entry, family));
    }
}

fn insert(mut node: Box<Node>, entry: Entry, family: Family) -> Box<Node> {
    let own = node.prefix(family);
    if !own.covers(&entry.key, family) {
        return fork(node, entry, family);
    }
    match &mut *node {
        Node::Leaf { entries, .. } => match entries.binary_search_by(|e| e.order().cmp(&entry.order())) {
            Ok(i) => {
                if let Some(slot) = entries.get_mut(i) {
                    *slot = entry;
                }
            }
            Err(i) => entries.insert(i, entry),
        },
        Node::Branch { prefix, children, .. } => {
            let nibble = entry.key.nibble(prefix.len(), family);
            match children.binary_search_by_key(&nibble, |(n, _)| *n) {
                Ok(i) => {
                    let (_, child) = children.remove(i);
                    children.insert(i, (nibble, insert(child, entry, family)));
                }
                Err(i) => children.insert(i, (nibble, leaf(entry))),
            }
        }
    }
    recount(&mut node);
    node
}

/// A branch above `node` and a new leaf, where their keys part.
fn fork(node: Box<Node>, entry: Entry, family: Family) -> Box<Node> {
    let Some(other) = node.some_key().copied() else { return leaf(entry) };
    let at = other.common(&entry.key, family);
    let prefix = Prefix::of(&entry.key, at, family);
    let count = node.count() + 1;
    let mut children = vec![(other.nibble(at, family), node), (entry.key.nibble(at, family), leaf(entry))];
    children.sort_by_key(|(nibble, _)| *nibble);
    Box::new(Node::Branch { prefix, count, children })
}

fn leaf(entry: Entry) -> Box<Node> {
    Box::new(Node::Leaf { key: entry.key, entries: vec![entry] })
}

fn remove(mut node: Box<Node>, entry: &Entry, family: Family) -> Option<Box<Node>> {
    if !node.prefix(family).covers(&entry.key, family) {
        return Some(node);
    }
    match &mut *node {
        Node::Leaf { entries, .. } => {
            entries.retain(|e| e.order() != entry.order());
            return if entries.is_empty() { None } else { Some(node) };
        }
        Node::Branch { prefix, children, .. } => {
            let nibble = entry.key.nibble(prefix.len(), family);
            if let Ok(i) = children.binary_search_by_key(&nibble, |(n, _)| *n) {
                let (_, child) = children.remove(i);
                if let Some(child) = remove(child, entry, family) {
                    children.insert(i, (nibble, child));
                }
            }
            if children.len() == 1 {
                return children.pop().map(|(_, child)| child);
            }
        }
    }
    recount(&mut node);
    Some(node)
}

fn recount(node: &mut Node) {
    if let Node::Branch { count, children, .. } = node {
        *count = children.iter().map(|(_, child)| child.count()).sum();
    }
}
