//! Colour only where it is wanted.

use std::process::Command;

use crate::program::{data, run, weir};

fn diff(flags: &[&str]) -> Command {
    let shop = data("cli/shop");
    let fixed = ["diff", "--against=empty", "--hostname-override=node-a", "--manifests", shop.to_str().unwrap()];
    weir(&fixed.into_iter().chain(flags.iter().copied()).collect::<Vec<_>>())
}

#[test]
fn a_pipe_gets_colour_only_if_it_is_asked_for() {
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], bool);
    let cases: [Case<'_>; 12] = [
        (&[], &[], false),
        (&["--color=always"], &[], true),
        (&["--color=never"], &[("CLICOLOR_FORCE", "1")], false),
        (&["--color", "auto"], &[("CLICOLOR_FORCE", "1")], true),
        (&[], &[("CLICOLOR_FORCE", "1")], true),
        (&[], &[("CLICOLOR_FORCE", "0")], false),
        (&[], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        (&[], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "")], true),
        (&[], &[("NO_COLOR", "")], false),
        (&["--color=always"], &[("NO_COLOR", "1")], true),
        (&["--output=json", "--color=always"], &[], false),
        (&["--output=restore", "--color=always"], &[], false),
    ];
    let plain = run(diff(&[])).out;
    for (flags, variables, coloured) in cases {
        let mut command = diff(flags);
        command.envs(variables.iter().copied());
        let ran = run(command);
        assert_eq!(ran.out.contains('\u{1b}'), coloured, "{flags:?} {variables:?}");
        if !flags.contains(&"--output=json") && !flags.contains(&"--output=restore") {
            assert_eq!(without_codes(&ran.out), plain, "{flags:?} {variables:?}");
        }
    }
}

#[test]
fn a_terminal_gets_colour_unless_no_color_says_something() {
    for (name, value, coloured) in
        [("TERM", "xterm", true), ("NO_COLOR", "", true), ("NO_COLOR", "1", false), ("TERM", "dumb", false)]
    {
        let inner = diff(&[]);
        let words = std::iter::once(inner.get_program()).chain(inner.get_args());
        let line: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        // util-linux's `script` runs a program on a terminal of its own.
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
        command.env_remove("NO_COLOR").env_remove("CLICOLOR").env("TERM", "xterm").env(name, value);
        let ran = run(command);
        assert_eq!(ran.code, Some(1), "{}", ran.out);
        assert_eq!(ran.out.contains("\u{1b}[32m+-d 10.96.0.10/32"), coloured, "{name}={value}: {}", ran.out);
    }
}

#[test]
fn logs_in_a_pipe_have_no_codes() {
    let mut command = diff(&["-v=5"]);
    command.env("TERM", "xterm");
    let ran = run(command);
    assert!(!ran.err.contains('\u{1b}'), "{}", ran.err);
}

/// The text without `ESC [ … m`.
fn without_codes(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    first + &parts.map(|part| part.split_once('m').map_or(part, |(_, rest)| rest)).collect::<String>()
}
