//! The arguments that libtest takes, as far as they make sense here.

/// What `cargo test -- ...` was told.
#[derive(Debug, Default)]
pub struct Arguments {
    filters: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    pub list: bool,
    pub nocapture: bool,
}

impl Arguments {
    /// Reads them. What is for libtest's output, threads or ignored tests is passed over.
    ///
    /// # Errors
    /// The flag that is not known.
    pub fn read(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut read = Arguments::default();
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => read.list = true,
                "--exact" => read.exact = true,
                "--nocapture" | "--no-capture" => read.nocapture = true,
                "--skip" => read.skip.extend(arguments.next()),
                "--test-threads" | "--format" | "--color" => drop(arguments.next()),
                "-q" | "--quiet" | "--show-output" | "--include-ignored" => {}
                flag if flag.starts_with('-') && !flag.contains('=') => return Err(argument),
                flag if flag.starts_with('-') => {}
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
