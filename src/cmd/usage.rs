//! What was typed wrong, in one line that names the flag, the value and the remedy.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Error};

use super::Cli;

/// Underscores in flag names are dashes, as kube-proxy has it (contract 1.1). What is no text is left as it is.
pub(super) fn normalise(args: Vec<OsString>) -> Vec<OsString> {
    args.into_iter()
        .map(|arg| match arg.to_str() {
            Some(text) if text.starts_with("--") => match text.split_once('=') {
                Some((flag, value)) => format!("{}={value}", flag.replace('_', "-")).into(),
                None => text.replace('_', "-").into(),
            },
            _ => arg,
        })
        .collect()
}

/// Prints the help, the version, or what is wrong, and says how to exit.
pub(super) fn explain(error: &Error, args: &[OsString]) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Printing can only fail if the reader is gone, and then there is nobody to tell.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            let _ = error.print();
        }
        _ => {
            let command = subcommand(args).map_or_else(|| "weir".to_owned(), |name| format!("weir {name}"));
            let _ = writeln!(io::stderr(), "Error: {}; try `{command} --help`", line(error, &command));
        }
    }
    let is_diff = subcommand(args).as_deref() == Some("diff");
    let detailed = args.iter().any(|arg| arg == "--detailed-exitcode");
    if is_diff && !detailed { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// The command that was typed, if there is one of that name.
fn subcommand(args: &[OsString]) -> Option<String> {
    let name = args.get(1)?.to_str()?;
    Cli::command().find_subcommand(name).map(|command| command.get_name().to_owned())
}

/// What is wrong.
fn line(error: &Error, command: &str) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    // clap names a flag with the form of its value: `--cluster-cidr <CIDR[,CIDR]>`.
    let typed = text(ContextKind::InvalidArg).unwrap_or_default();
    let flag = typed.split([' ', '[']).next().unwrap_or_default();
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let names: Vec<_> = Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
            let typed = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            format!("unknown command {typed:?}: there are {}", names.join(", "))
        }
        ErrorKind::UnknownArgument if flag.starts_with('-') => match text(ContextKind::SuggestedArg) {
            Some(similar) if is_slip(flag, &similar) => format!("unknown flag {flag}, perhaps {similar}"),
            _ => format!("unknown flag {flag}"),
        },
        ErrorKind::UnknownArgument => {
            format!("{command} does not take any arguments, got {typed:?}: flags begin with --")
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("{typed} needs a value"),
        ErrorKind::InvalidValue => {
            let valid = text(ContextKind::ValidValue).unwrap_or_default();
            format!("{flag} {value:?} is not supported: expected one of {valid}")
        }
        ErrorKind::ValueValidation if flag.is_empty() => {
            format!("{command} does not take any arguments, got {value:?}: flags begin with --")
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            let named = why.contains(&format!("{value:?}"));
            if named { format!("{flag}: {why}") } else { format!("{flag} {value:?}: {why}") }
        }
        _ => {
            let all = error.to_string();
            let first = all.lines().next().unwrap_or_default();
            first.strip_prefix("error: ").unwrap_or(first).to_owned()
        }
    }
}

/// Whether one name is the other with a letter or two wrong. What is less alike is another flag, such as one that only
/// kube-proxy has.
fn is_slip(typed: &str, known: &str) -> bool {
    let known: Vec<char> = known.chars().collect();
    // The distance of Levenshtein, row by row.
    let mut row: Vec<usize> = (0..=known.len()).collect();
    for (i, c) in typed.chars().enumerate() {
        let mut next = vec![i + 1];
        for (pair, k) in row.windows(2).zip(&known) {
            let (&[above_left, above], Some(left)) = (pair, next.last()) else { continue };
            next.push((above_left + usize::from(c != *k)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().is_some_and(|distance| *distance <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn normalised(args: &[&str]) -> Vec<OsString> {
        normalise(args.iter().map(OsString::from).collect())
    }

    #[test]
    fn underscores_are_dashes_in_names_only() {
        let args = normalised(&["weir", "proxy", "--proxy_mode=a_b", "--cluster_cidr", "a_b"]);
        assert_eq!(args, ["weir", "proxy", "--proxy-mode=a_b", "--cluster-cidr", "a_b"]);
    }

    #[test]
    fn what_is_no_text_stays() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(b"--a_b=\xff".to_vec());
        assert_eq!(normalise(vec![odd.clone()]), [odd]);
    }

    #[test]
    fn one_line_for_each_mistake() {
        let cases = [
            ("proxy --oom-kill=0", "unknown flag --oom-kill"),
            ("proxy --clustr-cidr=10.0.0.0/8", "unknown flag --clustr-cidr, perhaps --cluster-cidr"),
            ("proxy --clustercidrs=10.0.0.0/8", "unknown flag --clustercidrs, perhaps --cluster-cidr"),
            (
                "proxy --healthz-bind-address=::1:x",
                "--healthz-bind-address: \"::1:x\" is no address: expected one such as 0.0.0.0, 0.0.0.0:10256 or [::]:10256",
            ),
            ("proxy -x", "unknown flag -x"),
            ("proxy here", "weir proxy does not take any arguments, got \"here\": flags begin with --"),
            (
                "proxy --masquerade-all maybe",
                "weir proxy does not take any arguments, got \"maybe\": flags begin with --",
            ),
            ("proxy --masquerade-all=maybe", "--masquerade-all: \"maybe\" is neither true nor false"),
            ("proxy --kubeconfig", "--kubeconfig <FILE> needs a value"),
            (
                "proxy --iptables-driver ebtables",
                "--iptables-driver \"ebtables\" is not supported: expected one of auto, netlink, restore",
            ),
            (
                "proxy --iptables-masquerade-bit=x",
                "--iptables-masquerade-bit: \"x\" is no whole number from -2147483648 to 2147483647",
            ),
            (
                "proxy --non-masquerade-cidrs=10.0.0.0/8,x",
                "--non-masquerade-cidrs \"10.0.0.0/8,x\": \"x\" is no CIDR: expected a network such as 10.244.0.0/16 or \
                 fd00::/48",
            ),
            (
                "frobnicate",
                "unknown command \"frobnicate\": there are proxy, diff, cleanup, demo, completions, manpage",
            ),
        ];
        for (typed, expected) in cases {
            let args = normalised(&["weir"].into_iter().chain(typed.split(' ')).collect::<Vec<_>>());
            let error = Cli::try_parse_from(args).expect_err(typed);
            assert_eq!(line(&error, "weir proxy"), expected, "{typed}");
        }
    }
}
