//! The command line described for others: shells and manuals. Both come of the structures that parse it.

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Failure};

/// What can be typed after `weir completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
    /// The name by which the program is called: `kube-proxy` is `weir proxy`
    #[arg(long, value_name = "NAME", default_value = "weir")]
    pub name: String,
}

/// What can be typed after `weir manpage`.
#[derive(Debug, Args)]
pub struct ManpageArgs {
    /// The command, such as proxy; without one, weir itself
    pub command: Option<String>,
}

/// Prints completions.
///
/// # Errors
/// Nobody reads them.
pub fn completions(args: CompletionsArgs) -> Result<(), Failure> {
    let mut command = match args.name.as_str() {
        "kube-proxy" => named("proxy")?.name("kube-proxy"),
        _ => Cli::command(),
    };
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, args.name, &mut text);
    print(&text)
}

/// Prints a manual page.
///
/// # Errors
/// There is no such command, or nobody reads it.
pub fn manpage(args: &ManpageArgs) -> Result<(), Failure> {
    let command = match &args.command {
        Some(name) => {
            let page = format!("weir-{name}");
            named(name)?.display_name(page).bin_name(format!("weir {name}"))
        }
        None => Cli::command(),
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut text)
        .map_err(|error| Failure::new(format!("cannot make the manual page: {error}")))?;
    print(&text)
}

fn named(name: &str) -> Result<clap::Command, Failure> {
    let all = Cli::command();
    all.find_subcommand(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = all.get_subcommands().map(clap::Command::get_name).collect();
        Failure::new(format!("unknown command {name:?}: there are {}", names.join(", ")))
    })
}

/// A reader that went away is no error.
fn print(text: &[u8]) -> Result<(), Failure> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(format!("cannot write: {error}"))),
        _ => Ok(()),
    }
}
