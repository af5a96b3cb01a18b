//! Logs: one line an event, on stderr.

use tracing_subscriber::EnvFilter;

use super::colour::Colour;

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    #[value(alias = "")]
    Text,
    Json,
}

/// The level that klog's verbosity stands for: 0 to 1 informs, 2 to 4 debugs, 5 and more traces.
pub fn level(verbosity: u8) -> &'static str {
    match verbosity {
        0..=1 => "info",
        2..=4 => "debug",
        _ => "trace",
    }
}

/// Starts logging. `WEIR_LOG`, if set, says in tracing's words what is logged, instead of `level`.
pub fn init(level: &str, format: Format) {
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new(format!("warn,weir={level}")));
    let colour = Colour::Auto.choice(&std::io::stderr()) == anstream::ColorChoice::Always;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false);
    // Only fails if logging has started already, as in tests: then that one stays.
    let _ = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().try_init(),
    };
}
