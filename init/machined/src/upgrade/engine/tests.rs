//! The engine on a disk of files and a node of the test's own, through power cuts and restarts.

mod boots;
mod lab;
mod receiving;
