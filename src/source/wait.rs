//! Facts held back until our Node is known (contract 1.10).

use std::time::Instant;

use tokio::sync::mpsc;

use super::{QUEUE, Updates};
use crate::node::{NodeTimeout, Step, Told, Waiting};
use crate::state::{Fact, Kind, Node, Update};

/// Facts may be used now.
pub struct Found {
    /// All that was told so far, and all that follows.
    pub updates: Updates,
    /// `None`: it was waited for in vain.
    pub node: Option<Node>,
}

/// The wait has failed.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    #[error(transparent)]
    Timeout(#[from] NodeTimeout),
    #[error("the source of facts ended before it told of the node")]
    SourceEnded,
}

/// Takes facts in until the wait is over, and hands them on in the same batches and order. Each state of the wait is
/// logged once. May be dropped at any time.
///
/// Must be called within a tokio runtime.
///
/// # Errors
/// Pod networks are needed, and the time for them is over; or the source ended.
pub async fn for_node(mut updates: Updates, mut waiting: Waiting) -> Result<Found, WaitError> {
    let began = Instant::now();
    let (mut held, mut node, mut listed) = (Vec::new(), None, false);
    loop {
        let until = match waiting.look(began.elapsed(), listed, node.as_ref()) {
            Step::Wait { until, told } => {
                log(told.as_ref());
                until
            }
            Step::Go { told } => {
                log(told.as_ref());
                return Ok(Found { updates: handed_on(held, updates), node });
            }
            Step::Fail(error) => return Err(error.into()),
        };
        tokio::select! {
            batch = updates.recv() => {
                let batch = batch.ok_or(WaitError::SourceEnded)?;
                listed |= look(&batch, &mut node);
                held.push(batch);
            }
            () = sleep_until(until.map(|until| began + until)) => {}
        }
    }
}

fn log(told: Option<&Told>) {
    match told {
        Some(told) if told.is_error() => tracing::error!("{told}"),
        Some(told) => tracing::info!("{told}"),
        None => {}
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Notes what a batch says of the Node: true if it is a list of Nodes. A deletion leaves what was known.
fn look(batch: &[Update], node: &mut Option<Node>) -> bool {
    let mut listed = false;
    for update in batch {
        match update {
            Update::Upsert(Fact::Node(new)) => *node = Some(new.clone()),
            Update::Replace { kind: Kind::Node, facts } => {
                listed = true;
                for fact in facts {
                    if let Fact::Node(new) = fact {
                        *node = Some(new.clone());
                    }
                }
            }
            _ => {}
        }
    }
    listed
}

/// What was held, then what comes. The task ends with either end of it.
fn handed_on(held: Vec<Vec<Update>>, mut updates: Updates) -> Updates {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        for batch in held {
            if sender.send(batch).await.is_err() {
                return;
            }
        }
        loop {
            let batch = tokio::select! {
                batch = updates.recv() => batch,
                () = sender.closed() => None,
            };
            let Some(batch) = batch else { return };
            if sender.send(batch).await.is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::ObjectName;
    use crate::node::{Limits, WaitsFor};
    use crate::state::FactKey;

    fn node(pod_cidr: Option<&str>) -> Update {
        let pod_cidrs = pod_cidr.iter().map(|text| text.parse().unwrap()).collect();
        let ips = ["10.0.0.1".parse().unwrap()].into();
        Update::Upsert(Fact::Node(Node { name: "n1".into(), ips, pod_cidrs, ..Node::default() }))
    }

    fn other(number: u32) -> Update {
        Update::Delete(FactKey { kind: Kind::Service, name: ObjectName::new("ns", format!("s{number}")) })
    }

    fn listed() -> Update {
        Update::Replace { kind: Kind::Node, facts: Vec::new() }
    }

    fn waiting(limit: Duration) -> Waiting {
        let limits = Limits { address: limit, pod_cidrs: limit };
        Waiting::new(WaitsFor { node: "n1".to_owned(), pod_cidrs: true }, limits)
    }

    #[tokio::test]
    async fn nothing_is_lost_and_the_order_stays() {
        let (sender, updates) = mpsc::channel(4);
        let batches: Vec<Vec<Update>> = (0..1_000)
            .map(|number| match number {
                100 => vec![listed()],
                200 => vec![other(0), node(None)],
                600 => vec![node(Some("10.244.0.0/24"))],
                _ => vec![other(number)],
            })
            .collect();
        let told = batches.clone();
        let source = tokio::spawn(async move {
            for batch in told {
                sender.send(batch).await.unwrap();
            }
        });
        let mut found = for_node(updates, waiting(Duration::from_secs(60))).await.unwrap();
        assert_eq!(found.node.unwrap().pod_cidrs.len(), 1);
        let mut got = Vec::new();
        while let Some(batch) = found.updates.recv().await {
            got.push(batch);
        }
        assert!(got == batches, "{} batches of {}", got.len(), batches.len());
        source.await.unwrap();
    }

    #[tokio::test]
    async fn the_end_of_the_time_and_of_the_source() {
        let (sender, updates) = mpsc::channel(4);
        sender.send(vec![listed(), node(None)]).await.unwrap();
        let error = for_node(updates, waiting(Duration::from_millis(20))).await.err().unwrap();
        assert!(error.to_string().starts_with("timeout waiting for PodCIDR allocation on node \"n1\""), "{error}");
        assert!(sender.is_closed(), "the source is told");
        let (sender, updates) = mpsc::channel(4);
        drop(sender);
        let error = for_node(updates, waiting(Duration::from_secs(60))).await.err().unwrap();
        assert!(matches!(error, WaitError::SourceEnded), "{error}");
    }

    #[tokio::test]
    async fn the_source_learns_that_nobody_listens() {
        let (sender, updates) = mpsc::channel(4);
        sender.send(vec![listed(), node(Some("10.244.0.0/24"))]).await.unwrap();
        let found = for_node(updates, waiting(Duration::from_secs(60))).await.unwrap();
        drop(found.updates);
        tokio::time::timeout(Duration::from_secs(20), sender.closed()).await.unwrap();
    }
}
