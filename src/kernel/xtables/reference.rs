//! What a rule refers to: none of it can go as long as the rule is there.

use super::decode::words;
use super::{Match, ObservedRule, Rule, Target};

/// Something that a rule names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A chain of the rule's own table.
    Chain(Box<str>),
    /// An ipset.
    Set(Box<str>),
    /// An accounting object.
    Counter(Box<str>),
}

/// An option of rules that are not understood, and what the word behind it names.
type Naming = (&'static str, fn(Box<str>) -> Reference);

const NAMING: [Naming; 9] = [
    ("-j", Reference::Chain),
    ("--jump", Reference::Chain),
    ("-g", Reference::Chain),
    ("--goto", Reference::Chain),
    ("--match-set", Reference::Set),
    ("--add-set", Reference::Set),
    ("--del-set", Reference::Set),
    ("--map-set", Reference::Set),
    ("--nfacct-name", Reference::Counter),
];

/// What the rule names, in its order. Of a rule that is not understood, what its text says; the target's own name is then
/// among the chains, as one that no chain has.
pub fn references(rule: &ObservedRule) -> Vec<Reference> {
    match rule {
        ObservedRule::Known(rule) => of_known(rule),
        ObservedRule::Verbatim(text) => of_text(text),
    }
}

fn of_known(rule: &Rule) -> Vec<Reference> {
    let of_match = |item: &Match| match item {
        Match::Set { set, .. } => Some(Reference::Set(set.as_str().into())),
        Match::Nfacct(name) => Some(Reference::Counter((&**name).into())),
        _ => None,
    };
    let target = match &rule.target {
        Some(Target::Jump(chain) | Target::Goto(chain)) => Some(Reference::Chain(chain.as_str().into())),
        _ => None,
    };
    rule.matches.iter().filter_map(of_match).chain(target).collect()
}

/// A word in quotes is a value, such as a comment's, and no option.
fn of_text(text: &str) -> Vec<Reference> {
    let words = words(text);
    let pairs = words.windows(2).filter_map(|pair| match pair {
        [(option, false), (name, _)] => {
            let (_, naming) = NAMING.iter().find(|(known, _)| *known == &**option)?;
            Some(naming((&**name).into()))
        }
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ipset::SetName;
    use crate::kernel::xtables::{ChainName, Direction};

    #[test]
    fn of_rules_that_are_understood() {
        let jump = |target| ObservedRule::Known(Rule { target: Some(target), ..Rule::default() });
        let chain = || ChainName::new("KUBE-SERVICES");
        for target in [Target::Jump(chain()), Target::Goto(chain())] {
            assert_eq!(references(&jump(target)), [Reference::Chain("KUBE-SERVICES".into())]);
        }
        assert_eq!(references(&jump(Target::Accept)), []);
        let set =
            Match::Set { invert: false, set: SetName::new("KUBE-LOOP-BACK"), directions: [Direction::Source].into() };
        let rule = Rule { matches: vec![Match::Nfacct("count".into()), set], ..Rule::default() };
        let found = references(&ObservedRule::Known(rule));
        assert_eq!(found, [Reference::Counter("count".into()), Reference::Set("KUBE-LOOP-BACK".into())]);
    }

    #[test]
    fn of_rules_that_are_not() {
        let of = |text: &str| references(&ObservedRule::Verbatim(text.into()));
        let chain = |name: &str| Reference::Chain(name.into());
        for (text, expected) in [
            ("-s 10.0.0.0/8 -m odd --thing -j KUBE-MARK-MASQ", vec![chain("KUBE-MARK-MASQ")]),
            ("-m odd -g KUBE-MARK-MASQ", vec![chain("KUBE-MARK-MASQ")]),
            ("-m comment --comment \"as -j KUBE-MARK-MASQ does\" -j ACCEPT", vec![chain("ACCEPT")]),
            ("-m comment --comment \"-j\" -j ACCEPT", vec![chain("ACCEPT")]),
            (
                "-m set ! --match-set KUBE-CLUSTER-IP dst,dst -j LOG",
                vec![Reference::Set("KUBE-CLUSTER-IP".into()), chain("LOG")],
            ),
            ("-j SET --add-set KUBE-IPVS-IPS src", vec![chain("SET"), Reference::Set("KUBE-IPVS-IPS".into())]),
            ("-m nfacct --nfacct-name count", vec![Reference::Counter("count".into())]),
            ("[nft meta 3 == 0a] -j KUBE-SERVICES", vec![chain("KUBE-SERVICES")]),
            ("-j KUBE-FORWARD -m comment --comment \"open", vec![chain("KUBE-FORWARD")]),
            ("-j", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }
}
