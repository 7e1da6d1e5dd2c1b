//! List, then watch, then list again: every object of a collection, for as long as one likes.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use crate::error::RequestError;
use crate::request::Client;
use crate::watch::{Watch, WatchEvent};

/// After an error; doubled up to the cap, so a restarting server is not hammered.
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(15);

/// What happened to an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is there, as this. After a new list the same object may come again.
    Present(Value),
    /// It is gone.
    Gone(Value),
}

/// Follows one collection.
#[derive(Debug)]
pub struct Follower<'a> {
    client: &'a Client,
    path: String,
    field_selector: Option<String>,
    delay: Option<Duration>,
    position: Position,
    pending: VecDeque<Change>,
}

#[derive(Debug)]
enum Position {
    /// Nothing is known: list.
    Start,
    /// Listed up to this version: watch from there.
    Listed(String),
    /// Changes come from here.
    Watching(Box<Watch>),
}

impl<'a> Follower<'a> {
    /// Makes a follower; nothing is sent before [`Follower::next`].
    pub fn new(client: &'a Client, path: &str, field_selector: Option<&str>) -> Self {
        Self {
            client,
            path: path.to_owned(),
            field_selector: field_selector.map(str::to_owned),
            delay: None,
            position: Position::Start,
            pending: VecDeque::new(),
        }
    }

    /// The next change. After an error (for the log) the next call goes on, after a delay.
    pub async fn next(&mut self) -> Result<Change, RequestError> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return Ok(change);
            }
            match self.advance().await {
                Ok(()) => {}
                Err(error) => {
                    self.position = Position::Start;
                    let last = self.delay.unwrap_or(FIRST_DELAY / 2);
                    self.delay = Some((last * 2).min(LONGEST_DELAY));
                    return Err(error);
                }
            }
        }
    }

    async fn advance(&mut self) -> Result<(), RequestError> {
        match &mut self.position {
            Position::Start => {
                if let Some(delay) = self.delay {
                    sleep(delay).await;
                }
                let list = self.client.get(&self.list_path()).await?;
                self.delay = None;
                self.pending.extend(items(&list));
                self.position = Position::Listed(version(&list));
            }
            Position::Listed(version) => {
                let selector = self.field_selector.as_deref();
                let watch = self.client.watch(&self.path, selector, version).await?;
                self.position = Position::Watching(Box::new(watch));
            }
            Position::Watching(watch) => match watch.next().await? {
                Some(event) => self.take(event),
                None => self.position = Position::Start,
            },
        }
        Ok(())
    }

    fn take(&mut self, event: WatchEvent) {
        match event.kind.as_str() {
            "ADDED" | "MODIFIED" => self.pending.push_back(Change::Present(event.object)),
            "DELETED" => self.pending.push_back(Change::Gone(event.object)),
            // The version is too old for the server (410 Gone): list again.
            "ERROR" => self.position = Position::Start,
            // BOOKMARK: only says that the watch lives.
            _ => {}
        }
    }

    fn list_path(&self) -> String {
        match &self.field_selector {
            Some(selector) => format!("{}?fieldSelector={selector}", self.path),
            None => self.path.clone(),
        }
    }
}

/// Items of a list carry no apiVersion and kind; those who follow a path know them.
fn items(list: &Value) -> impl Iterator<Item = Change> {
    list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .cloned()
        .map(Change::Present)
}

fn version(list: &Value) -> String {
    list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or("0")
        .to_owned()
}
