//! The arguments that libtest takes, as far as they make sense here.

/// What `cargo test -- ...` was told.
#[derive(Debug)]
pub struct Arguments {
    filters: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    pub list: bool,
    pub nocapture: bool,
    /// How many cases may run at the same time.
    pub threads: usize,
}

/// One after the other: all network namespaces share the kernel's table of virtual servers, and a list of it that is read
/// in pieces lacks entries, or has some twice, if another case adds or deletes any in between.
const THREADS: usize = 1;

impl Arguments {
    /// Reads them. What is for libtest's output or ignored tests is passed over.
    ///
    /// # Errors
    /// The flag that is not known, or has no value.
    pub fn read(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (filters, skip) = (Vec::new(), Vec::new());
        let mut read = Arguments { filters, skip, exact: false, list: false, nocapture: false, threads: THREADS };
        // `--flag=value` is `--flag value`.
        let parts = |argument: String| match argument.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => vec![flag.to_owned(), value.to_owned()],
            _ => vec![argument],
        };
        let mut arguments = arguments.flat_map(parts);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => read.list = true,
                "--exact" => read.exact = true,
                "--nocapture" | "--no-capture" => read.nocapture = true,
                "--skip" => read.skip.extend(arguments.next()),
                "--test-threads" => {
                    let number = arguments.next().and_then(|number| number.parse().ok());
                    read.threads = number.filter(|number| *number > 0).ok_or(argument)?;
                }
                "--format" | "--color" => drop(arguments.next()),
                "-q" | "--quiet" | "--show-output" | "--include-ignored" => {}
                flag if flag.starts_with('-') => return Err(argument),
                _ => read.filters.push(argument),
            }
        }
        Ok(read)
    }

    /// Whether a case of this name is to run.
    pub fn wants(&self, name: &str) -> bool {
        let is_meant = |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        (self.filters.is_empty() || self.filters.iter().any(is_meant)) && !self.skip.iter().any(is_meant)
    }
}
