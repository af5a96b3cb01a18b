//! The flags are one catalogue: what `--help` says is what counts.

use std::collections::BTreeMap;

use super::catalogue;
use crate::config::{Flags, complete};

#[test]
fn it_is_consistent() {
    catalogue().debug_assert();
}

#[test]
fn every_flag_has_a_value_and_the_default_that_its_help_names() {
    let flags = Flags::default();
    let values: BTreeMap<_, _> = complete(&flags, None).unwrap().flag_values(&flags).into_iter().collect();
    let mut seen = 0;
    for arg in catalogue().get_arguments() {
        let name = arg.get_long().unwrap();
        let value = values.get(name).unwrap_or_else(|| panic!("{name} has no value"));
        let help = arg.get_help().unwrap().to_string().replace('\n', " ");
        let default = help.split("[default: ").nth(1).map(|rest| rest.trim_end_matches(']'));
        match default {
            Some("the host's name") => assert_eq!(value, ""),
            Some(default) => assert_eq!(value, default, "{name}"),
            None if ["proxy-mode", "detect-local-mode"].contains(&name) => {}
            None => assert!(["", "false", "[]", "0s"].contains(&value.as_str()), "{name}: {value}"),
        }
        seen += 1;
    }
    assert_eq!(seen, values.len());
    assert_eq!(seen, 57);
}
