//! Leaves first: chains in an order in which every jump goes to a chain that came before.

use std::collections::HashMap;

use crate::kernel::xtables::{ChainName, Rule, Target};

/// The chain that a rule goes to.
pub(super) fn callee(rule: &Rule) -> Option<&ChainName> {
    match &rule.target {
        Some(Target::Jump(chain) | Target::Goto(chain)) => Some(chain),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    Open,
    Done,
}

/// Orders `items` so that what `callees` of an item names comes before it; names that are not items do not matter.
/// Otherwise the order stays as it is, so the same input gives the same output.
///
/// # Errors
/// The name of an item from which jumps lead back to itself.
pub(super) fn leaves_first<'a, T>(
    items: Vec<T>,
    name: impl Fn(&T) -> &'a ChainName,
    callees: impl Fn(&T) -> Vec<&'a ChainName>,
) -> Result<Vec<T>, ChainName> {
    let index: HashMap<&ChainName, usize> = items.iter().enumerate().map(|(at, item)| (name(item), at)).collect();
    let edges: Vec<Vec<usize>> = items
        .iter()
        .map(|item| {
            let mut targets: Vec<usize> = callees(item).into_iter().filter_map(|n| index.get(n).copied()).collect();
            targets.dedup();
            targets
        })
        .collect();
    drop(index);
    let order = post_order(&edges).map_err(|at| {
        let looping = items.get(at).map(|item| name(item).clone());
        looping.unwrap_or_else(|| ChainName::new(""))
    })?;
    let mut slots: Vec<Option<T>> = items.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|at| slots.get_mut(at).and_then(Option::take)).collect())
}

/// Depth first without recursion: a chain of 100,000 jumps must not overflow the stack.
fn post_order(edges: &[Vec<usize>]) -> Result<Vec<usize>, usize> {
    let mut marks = vec![Mark::New; edges.len()];
    let mut order = Vec::with_capacity(edges.len());
    let mut stack: Vec<(usize, std::slice::Iter<usize>)> = Vec::new();
    for start in 0..edges.len() {
        enter(start, edges, &mut marks, &mut stack)?;
        while let Some((at, targets)) = stack.last_mut() {
            let at = *at;
            if let Some(target) = targets.next() {
                enter(*target, edges, &mut marks, &mut stack)?;
                continue;
            }
            stack.pop();
            if let Some(mark) = marks.get_mut(at) {
                *mark = Mark::Done;
            }
            order.push(at);
        }
    }
    Ok(order)
}

fn enter<'e>(
    at: usize,
    edges: &'e [Vec<usize>],
    marks: &mut [Mark],
    stack: &mut Vec<(usize, std::slice::Iter<'e, usize>)>,
) -> Result<(), usize> {
    let (Some(mark), Some(targets)) = (marks.get_mut(at), edges.get(at)) else { return Ok(()) };
    match mark {
        Mark::Done => Ok(()),
        Mark::Open => Err(at),
        Mark::New => {
            *mark = Mark::Open;
            stack.push((at, targets.iter()));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sort(edges: &[(&str, &[&str])]) -> Result<Vec<String>, String> {
        let items: Vec<(ChainName, Vec<ChainName>)> = edges
            .iter()
            .map(|(name, targets)| (ChainName::new(*name), targets.iter().map(|n| ChainName::new(*n)).collect()))
            .collect();
        let sorted = leaves_first(items.iter().collect(), |item| &item.0, |item| item.1.iter().collect());
        sorted
            .map(|items| items.into_iter().map(|item| item.0.to_string()).collect())
            .map_err(|looping| looping.to_string())
    }

    #[test]
    fn callees_come_first_and_the_rest_stays() {
        assert_eq!(
            sort(&[("a", &["c", "b", "elsewhere"]), ("b", &[]), ("c", &["b"]), ("d", &[])]).unwrap(),
            ["b", "c", "a", "d"]
        );
    }

    #[test]
    fn a_loop_is_named() {
        assert_eq!(sort(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]), Err("b".to_owned()));
        assert_eq!(sort(&[("a", &["a"])]), Err("a".to_owned()));
    }

    #[test]
    fn deep_chains_do_not_overflow() {
        let edges: Vec<Vec<usize>> = (0..200_000).map(|at| if at < 199_999 { vec![at + 1] } else { vec![] }).collect();
        assert_eq!(post_order(&edges).unwrap().first(), Some(&199_999));
    }
}
