//! Rows Q1 to Q40 and Q43 of the scenarios, what others write, and whatever anybody could write.

mod catalogue;
mod completing;
mod decoding;
mod gates;
mod goldens;
mod properties;

use clap::{Args, Command, FromArgMatches};

use super::{Completion, Config, File, Flags, complete};

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

fn catalogue() -> Command {
    Flags::augment_args(Command::new("kube-proxy").no_binary_name(true).args_override_self(true))
}

/// What somebody typed.
fn typed(flags: &[&str]) -> Flags {
    Flags::from_arg_matches(&catalogue().try_get_matches_from(flags).unwrap()).unwrap()
}

/// What flags and the body of a file mean together.
fn both(flags: &[&str], body: Option<&str>) -> Result<Completion, String> {
    let text = body.map(|body| format!("{HEAD}{body}"));
    let file = text.as_deref().map(|text| File { name: "config.conf", text });
    complete(&typed(flags), file).map_err(|error| error.to_string())
}

fn of_flags(flags: &[&str]) -> Config {
    both(flags, None).unwrap().config
}

/// A file that is read without a warning.
fn of_file(body: &str) -> Config {
    let completion = both(&[], Some(body)).unwrap();
    assert_eq!(completion.warnings, Vec::<String>::new(), "{body}");
    completion.config
}
