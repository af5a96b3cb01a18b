//! Whether to colour a stream.

use std::env;
use std::io::IsTerminal;

use anstream::ColorChoice;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set; everywhere if CLICOLOR_FORCE is set
    #[default]
    Auto,
    Always,
    Never,
}

impl Colour {
    /// For a stream. `NO_COLOR` that is not empty wins over `CLICOLOR_FORCE` that is not `0` (no-color.org,
    /// bixense.com/clicolors).
    pub fn choice(self, stream: &impl IsTerminal) -> ColorChoice {
        let coloured = match self {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto if is_set("NO_COLOR") => false,
            Colour::Auto if is_set("CLICOLOR_FORCE") && !is("CLICOLOR_FORCE", "0") => true,
            Colour::Auto => stream.is_terminal() && !is("TERM", "dumb") && !is("CLICOLOR", "0"),
        };
        if coloured { ColorChoice::Always } else { ColorChoice::Never }
    }
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

fn is(name: &str, value: &str) -> bool {
    env::var_os(name).is_some_and(|found| found == value)
}
