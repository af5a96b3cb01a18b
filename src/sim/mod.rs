//! A kernel in memory.

mod faults;
mod kernel;
mod table;

pub use faults::Faults;
pub use kernel::SimKernel;

#[cfg(test)]
mod tests;
