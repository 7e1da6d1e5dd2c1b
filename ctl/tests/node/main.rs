//! The real `keelsonctl` against nodes of the test's own: a server of the API over TLS on
//! 127.0.0.1, with certificates made here.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests may panic like tests"
)]

mod answers;
mod changing;
mod configuring;
mod fake;
mod generated;
mod image;
mod looking;
mod lost;
mod maintenance;
mod pki;
mod program;
mod several;
mod terminal;
mod trust;
mod upgrading;
