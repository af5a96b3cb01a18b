//! Logs: one line an event, on stderr.

use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterFn};
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use super::colour::Colour;
use crate::config::{LogFormat, Logging, VmoduleItem};

/// What a program says that nobody asked for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loudness {
    /// It runs on: news.
    Running,
    /// It answers and ends; its answer is not news, so only warnings are logged unless more is asked for.
    Answering,
}

/// The level that klog's verbosity stands for: 0 to 1 informs, 2 to 4 debugs, 5 and more traces.
fn level(verbosity: u32) -> LevelFilter {
    match verbosity {
        0..=1 => LevelFilter::INFO,
        2..=4 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

type AnyFilter = Box<dyn Filter<Registry> + Send + Sync>;

/// What was started, to be changed while the program runs.
struct Started {
    filter: reload::Handle<AnyFilter, Registry>,
    logging: Mutex<Logging>,
    /// `WEIR_LOG` counts instead of anything else.
    by_environment: bool,
}

static STARTED: OnceLock<Started> = OnceLock::new();

/// Starts logging. `WEIR_LOG`, if set, says in tracing's words what is logged, instead of verbosity and vmodule. Called
/// again, it changes how much is logged; the format stays the one of the start.
pub fn start(logging: &Logging, loudness: Loudness) {
    if let Some(started) = STARTED.get() {
        started.change(logging, loudness);
        return;
    }
    let colour = Colour::Auto.choice(&std::io::stderr()) == anstream::ColorChoice::Always;
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour).with_target(false);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match logging.format() {
        LogFormat::Text => Box::new(layer),
        LogFormat::Json => Box::new(layer.json()),
    };
    let environment = EnvFilter::try_from_env("WEIR_LOG").ok();
    let by_environment = environment.is_some();
    let filter: AnyFilter = match environment {
        Some(filter) => Box::new(filter),
        None => Levels::new(logging, loudness).filter(),
    };
    let (filter, handle) = reload::Layer::new(filter);
    // Only fails if logging has started already, as in tests: then that one stays.
    if tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().is_ok() {
        let logging = Mutex::new(logging.clone());
        let _ = STARTED.set(Started { filter: handle, logging, by_environment });
    }
}

/// Logs by this verbosity from now on, as `PUT /debug/flags/v` asks for.
///
/// # Errors
/// One line: logs follow something else.
pub fn set_verbosity(verbosity: u32) -> Result<(), String> {
    let Some(started) = STARTED.get() else { return Err("logging has not been started".to_owned()) };
    if started.by_environment {
        return Err("WEIR_LOG says what is logged: start without it".to_owned());
    }
    let logging = started.logging.lock().unwrap_or_else(PoisonError::into_inner).clone();
    started.change(&Logging { verbosity, ..logging }, Loudness::Running);
    Ok(())
}

impl Started {
    fn change(&self, logging: &Logging, loudness: Loudness) {
        if self.by_environment {
            return;
        }
        let filter = Levels::new(logging, loudness).filter();
        // Fails only where the subscriber is gone, and nothing is logged any more.
        let _ = self.filter.modify(|now| *now = filter);
        *self.logging.lock().unwrap_or_else(PoisonError::into_inner) = logging.clone();
    }
}

/// Which part of the program logs how much.
#[derive(Clone, Debug)]
struct Levels {
    all: LevelFilter,
    parts: Vec<VmoduleItem>,
}

impl Levels {
    fn new(logging: &Logging, loudness: Loudness) -> Self {
        let is_quiet = loudness == Loudness::Answering && logging.verbosity == 0;
        let all = if is_quiet { LevelFilter::WARN } else { level(logging.verbosity) };
        Levels { all, parts: logging.vmodule.clone() }
    }

    fn filter(self) -> AnyFilter {
        let most = self.most();
        Box::new(FilterFn::new(move |metadata| self.lets_through(metadata)).with_max_level_hint(most))
    }

    fn most(&self) -> LevelFilter {
        self.parts.iter().map(|item| level(item.verbosity)).chain([self.all]).max().unwrap_or(self.all)
    }

    fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.of(metadata.target(), metadata.file().unwrap_or_default())
    }

    /// The level of a module, in a file. Of several patterns that fit the first counts; other people's code only warns.
    fn of(&self, target: &str, file: &str) -> LevelFilter {
        if let Some(item) = self.parts.iter().find(|item| is_meant(&item.file_pattern, target, file)) {
            return level(item.verbosity);
        }
        let is_ours = target == "weir" || target.starts_with("weir::");
        if is_ours { self.all } else { self.all.min(LevelFilter::WARN) }
    }
}

/// A pattern with colons is a module's with all in it, one with slashes a file's with its folders, any other a file's or
/// the last part of a module's.
fn is_meant(pattern: &str, target: &str, file: &str) -> bool {
    let file = file.strip_suffix(".rs").unwrap_or(file);
    if pattern.contains("::") {
        return fits(pattern, target) || fits(&format!("{pattern}::*"), target);
    }
    if pattern.contains('/') {
        return fits(pattern, file);
    }
    let last = |text: &'static str, path: &str| path.rsplit(text).next().unwrap_or_default().to_owned();
    fits(pattern, &last("/", file)) || fits(pattern, &last("::", target))
}

/// Whether a text is as a pattern says, in which `*` is any text and `?` any character.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Which beginnings of the text fit the pattern so far.
    let mut reached: Vec<bool> = std::iter::once(true).chain(text.iter().map(|_| false)).collect();
    for p in pattern {
        let before = reached.clone();
        let from = |at: usize| before.get(at).copied().unwrap_or_default();
        match p {
            '*' => {
                let mut any = false;
                for (now, was) in reached.iter_mut().zip(&before) {
                    any |= *was;
                    *now = any;
                }
            }
            _ => {
                for (at, now) in reached.iter_mut().enumerate() {
                    let c = at.checked_sub(1).and_then(|at| text.get(at));
                    *now = c.is_some_and(|c| (p == '?' || *c == p) && from(at - 1));
                }
            }
        }
    }
    reached.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn levels(verbosity: u32, parts: &[(&str, u32)]) -> Levels {
        let mut logging = Config::default().logging;
        logging.verbosity = verbosity;
        let item = |(pattern, verbosity): &(&str, u32)| VmoduleItem {
            file_pattern: (*pattern).to_owned(),
            verbosity: *verbosity,
        };
        logging.vmodule = parts.iter().map(item).collect();
        Levels::new(&logging, Loudness::Running)
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("worker", "worker", true),
            ("work*", "worker", true),
            ("*", "", true),
            ("w?rker", "worker", true),
            ("w?ker", "worker", false),
            ("*er*", "worker", true),
            ("worker", "workers", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn parts_have_levels_of_their_own() {
        let (target, file) = ("weir::engine::worker", "src/engine/worker.rs");
        for (parts, expected) in [
            (&[][..], LevelFilter::INFO),
            (&[("worker", 4)], LevelFilter::DEBUG),
            (&[("weir::engine", 9)], LevelFilter::TRACE),
            (&[("src/engine/*", 2)], LevelFilter::DEBUG),
            (&[("weir::*", 2), ("worker", 9)], LevelFilter::DEBUG),
            (&[("engine", 4)], LevelFilter::INFO),
        ] {
            let levels = levels(0, parts);
            assert_eq!(levels.of(target, file), expected, "{parts:?}");
            assert!(levels.most() >= expected);
        }
        // The file of a module's folder has no name of its own.
        assert_eq!(levels(0, &[("engine", 4)]).of("weir::engine", "src/engine/mod.rs"), LevelFilter::DEBUG);
    }

    #[test]
    fn others_only_warn() {
        assert_eq!(levels(9, &[]).of("hyper::client", "x.rs"), LevelFilter::WARN);
        assert_eq!(levels(0, &[("hyper::*", 9)]).of("hyper::client", "x.rs"), LevelFilter::TRACE);
    }

    #[test]
    fn who_only_answers_warns() {
        let logging = Config::default().logging;
        assert_eq!(Levels::new(&logging, Loudness::Answering).all, LevelFilter::WARN);
        assert_eq!(Levels::new(&logging, Loudness::Running).all, LevelFilter::INFO);
    }
}
