//! What the suites share: a machine per test ([`Node`]), the saved Ready node most of them start
//! from ([`saved`]), the cluster as `kubectl` sees it ([`Kubectl`]), the node as
//! `keelsonctl` sees it ([`Keelsonctl`]), a registry for the one image
//! they run, and the figures they measure.
//!
//! The suites want `KEELSON_IMAGE` (or the image in `out/`), run one at a time, and leave what a
//! failed one wrote in `out/test/NAME/`.

mod environment;
pub mod grub;
mod keelsonctl;
mod kubectl;
pub mod lan;
mod lines;
mod node;
mod registry;
pub mod report;
pub mod saved;
mod standing;
mod transcript;
mod workload;

pub use environment::{Environment, number_in};
pub use keelsonctl::Keelsonctl;
pub use kubectl::{Kubectl, eventually};
pub use lines::Lines;
pub use node::{Boot, FirmwareKind, Node, Plugged, READY, usual_config};
pub use standing::{Standing, entry};
pub use transcript::Transcript;
pub use workload::{IMAGE, IMAGE_HOST};
