//! What of our Node object has changed: a line for the log each, once.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::state::{Fact, Kind, Node, Update};

/// A change of our Node that matters here. Rules follow all of them but [`News::Gone`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Its first appearance after we have begun.
    Found {
        name: Arc<str>,
    },
    Addresses {
        old: Box<[IpAddr]>,
        new: Box<[IpAddr]>,
    },
    PodCidrs {
        old: Box<[IpNet]>,
        new: Box<[IpNet]>,
    },
    Zone {
        old: Option<Arc<str>>,
        new: Option<Arc<str>>,
    },
    /// It is being deleted, or the autoscaler is about to remove it; or no longer.
    Leaving(bool),
    /// The object was deleted. What it last said stays in force.
    Gone {
        name: Arc<str>,
    },
    /// It is there again.
    Back {
        name: Arc<str>,
    },
}

impl News {
    /// An operator should look.
    pub fn is_warning(&self) -> bool {
        matches!(self, News::Gone { .. } | News::Leaving(true))
    }
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            News::Found { name } => write!(f, "node {name:?} exists now"),
            News::Addresses { old, new } => {
                write!(f, "NodeIPs changed for the node, rules follow: {} -> {}", list(old), list(new))
            }
            News::PodCidrs { old, new } => {
                write!(f, "PodCIDRs changed for the node, rules follow: {} -> {}", list(old), list(new))
            }
            News::Zone { old, new } => {
                let text = |zone: &Option<Arc<str>>| zone.as_deref().unwrap_or("none").to_owned();
                write!(f, "the zone of the node changed, rules follow: {} -> {}", text(old), text(new))
            }
            News::Leaving(true) => f.write_str(
                "the node is to be removed: load balancers are told to send no new connections, and its rules stay",
            ),
            News::Leaving(false) => f.write_str("the node is no longer to be removed"),
            News::Gone { name } => write!(
                f,
                "node {name:?} was deleted from the API server: its rules stay, by what it last said; register the node \
                 again, or stop this proxy"
            ),
            News::Back { name } => write!(f, "node {name:?} is there again"),
        }
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(",") }
}

/// Remembers what was told of the Node.
#[derive(Clone, Debug, Default)]
pub struct NodeLog {
    known: Option<Node>,
    is_gone: bool,
    /// A list of Nodes has come: what is not there yet comes as news.
    listed: bool,
}

impl NodeLog {
    /// What is news in a batch. Only the first list tells nothing.
    pub fn take(&mut self, batch: &[Update]) -> Vec<News> {
        let mut news = Vec::new();
        for update in batch {
            match update {
                Update::Upsert(Fact::Node(node)) => self.is(node, &mut news),
                Update::Delete(key) if key.kind == Kind::Node => self.gone(&mut news),
                Update::Replace { kind: Kind::Node, facts } => {
                    let node = facts.iter().find_map(|fact| match fact {
                        Fact::Node(node) => Some(node),
                        _ => None,
                    });
                    match node {
                        Some(node) => self.is(node, &mut news),
                        None => self.gone(&mut news),
                    }
                    self.listed = true;
                }
                _ => {}
            }
        }
        news
    }

    fn is(&mut self, node: &Node, news: &mut Vec<News>) {
        let name = node.name.clone();
        if std::mem::take(&mut self.is_gone) {
            news.push(News::Back { name: name.clone() });
        }
        match &self.known {
            None if self.listed => news.push(News::Found { name }),
            None => {}
            Some(old) => {
                if old.ips != node.ips {
                    news.push(News::Addresses { old: old.ips.clone(), new: node.ips.clone() });
                }
                if old.pod_cidrs != node.pod_cidrs {
                    news.push(News::PodCidrs { old: old.pod_cidrs.clone(), new: node.pod_cidrs.clone() });
                }
                if old.zone != node.zone {
                    news.push(News::Zone { old: old.zone.clone(), new: node.zone.clone() });
                }
                if old.leaving != node.leaving {
                    news.push(News::Leaving(node.leaving));
                }
            }
        }
        self.known = Some(node.clone());
    }

    fn gone(&mut self, news: &mut Vec<News>) {
        if let Some(node) = self.known.as_ref().filter(|_| !self.is_gone) {
            news.push(News::Gone { name: node.name.clone() });
            self.is_gone = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ObjectName;
    use crate::state::FactKey;

    fn node(ips: &[&str]) -> Node {
        let ips = ips.iter().map(|text| text.parse().unwrap()).collect();
        Node { name: "n1".into(), ips, ..Node::default() }
    }

    fn upsert(node: Node) -> Vec<Update> {
        vec![Update::Upsert(Fact::Node(node))]
    }

    fn listed(node: Option<Node>) -> Vec<Update> {
        vec![Update::Replace { kind: Kind::Node, facts: node.into_iter().map(Fact::Node).collect() }]
    }

    fn texts(news: &[News]) -> Vec<String> {
        news.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_list_is_no_news_and_a_late_node_is() {
        let mut log = NodeLog::default();
        assert_eq!(log.take(&listed(Some(node(&["10.0.0.1"])))), []);
        assert_eq!(log.take(&listed(Some(node(&["10.0.0.1"])))), [], "nor is the same again");
        let mut log = NodeLog::default();
        assert_eq!(log.take(&listed(None)), []);
        assert_eq!(texts(&log.take(&upsert(node(&[])))), ["node \"n1\" exists now"]);
    }

    #[test]
    fn what_rules_depend_on_is_told_with_old_and_new() {
        let mut log = NodeLog::default();
        log.take(&listed(Some(node(&["10.0.0.1", "fd00::1"]))));
        let changed = Node {
            zone: Some("a".into()),
            pod_cidrs: ["10.244.1.0/24".parse().unwrap()].into(),
            leaving: true,
            ..node(&["10.0.0.2"])
        };
        let news = log.take(&upsert(changed.clone()));
        assert_eq!(
            texts(&news)[..3],
            [
                "NodeIPs changed for the node, rules follow: 10.0.0.1,fd00::1 -> 10.0.0.2",
                "PodCIDRs changed for the node, rules follow: none -> 10.244.1.0/24",
                "the zone of the node changed, rules follow: none -> a",
            ]
        );
        assert_eq!(news[3..], [News::Leaving(true)]);
        assert_eq!(log.take(&upsert(changed.clone())), []);
        assert_eq!(log.take(&upsert(Node { leaving: false, ..changed })), [News::Leaving(false)]);
    }

    #[test]
    fn a_deletion_is_told_once_and_loudly() {
        let delete = [Update::Delete(FactKey { kind: Kind::Node, name: ObjectName::new("", "n1") })];
        for gone in [delete.to_vec(), listed(None)] {
            let mut log = NodeLog::default();
            assert_eq!(log.take(&gone), [], "it was never there");
            log.take(&listed(Some(node(&["10.0.0.1"]))));
            let news = log.take(&gone);
            assert!(news[0].is_warning());
            assert!(texts(&news)[0].starts_with("node \"n1\" was deleted from the API server: its rules stay"));
            assert_eq!(log.take(&gone), []);
            let news = log.take(&upsert(node(&["10.0.0.2"])));
            assert_eq!(news.len(), 2, "{news:?}");
            assert_eq!(texts(&news)[0], "node \"n1\" is there again");
        }
    }
}
