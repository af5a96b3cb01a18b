//! Rows of the scenarios, what others write, and whatever anybody could write.

mod catalogue;
