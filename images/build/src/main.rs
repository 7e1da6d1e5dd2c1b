//! The build program behind the Makefile: stages, cache keys, progress.

fn main() {}
