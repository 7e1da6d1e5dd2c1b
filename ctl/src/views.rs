//! Messages of the API as tables and lines for people.

mod certificates;
mod configuration;
mod files;
mod machine;
mod network;
mod node;
mod services;
mod upgrades;

use keelson_api::v1alpha1::Event;
use serde::Serialize;

/// Events as one answer; the API streams them.
#[derive(Debug, Serialize)]
pub(crate) struct EventList {
    pub(crate) events: Vec<Event>,
}
