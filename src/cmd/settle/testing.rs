//! Flags to what they mean.

use clap::Parser;

use super::typed as settled;
use crate::cmd::options::{ProxyOptions, RuleOptions};
use crate::cmd::{Cli, Command};
use crate::config;

/// What was typed after `weir proxy`.
pub fn typed(flags: &[&str]) -> ProxyOptions {
    match Cli::try_parse_from(["weir", "proxy"].iter().chain(flags)).unwrap().command {
        Command::Proxy(args) => args.options,
        _ => unreachable!(),
    }
}

/// What rules depend on with these flags, which need not be valid.
pub fn rules(flags: &[&str]) -> RuleOptions {
    let options = typed(flags);
    let completion = config::complete(&options.kube_proxy, None).unwrap();
    settled::rules(&completion.config, &options.own).unwrap()
}
