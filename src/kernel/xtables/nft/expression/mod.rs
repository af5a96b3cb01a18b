//! placeholder until merged
use crate::kernel::netlink::{Attributes, Body};
use crate::kernel::xtables::{ObservedRule, Rule};
use crate::net::Family;
pub fn put_rule(_body: &mut Body<'_>, _family: Family, _rule: &Rule) {}
pub fn read_rule(_family: Family, _expressions: Attributes<'_>) -> ObservedRule {
    ObservedRule::Verbatim("".into())
}
