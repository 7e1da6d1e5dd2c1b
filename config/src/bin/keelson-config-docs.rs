//! Writes the reference page.
fn main() {}
