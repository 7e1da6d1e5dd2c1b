//! One question to several nodes at the same time.

use std::time::Duration;

use futures_util::future::join_all;
use keelson_client::{CallError, Endpoint, Node};
use keelson_control::chain;

use crate::exit::Exit;
use crate::failure::{Failure, NodeFailure};
use crate::session::Session;
use crate::terminal;

/// What one node answered.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) node: Endpoint,
    pub(crate) result: Result<T, NodeFailure>,
}

/// Nodes, with the connections that are open.
#[derive(Debug)]
pub(crate) struct Fleet<'a> {
    session: &'a Session,
    links: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    node: Endpoint,
    connection: Option<Node>,
}

impl<'a> Fleet<'a> {
    pub(crate) fn new(session: &'a Session, nodes: &[Endpoint]) -> Self {
        Self {
            session,
            links: nodes.iter().map(Link::new).collect(),
        }
    }

    /// Asks all of them once; one that fails does not hide what the others answer. Connections
    /// are used again by the next question.
    pub(crate) async fn ask<T>(
        &mut self,
        ask: impl AsyncFn(&Node) -> Result<T, CallError>,
    ) -> Vec<Answer<T>> {
        let (session, ask) = (self.session, &ask);
        join_all(self.links.iter_mut().map(|link| async move {
            Answer {
                node: link.node.clone(),
                result: link.ask(session, ask).await,
            }
        }))
        .await
    }

    /// The same for what changes nothing, which is asked again where the connection broke.
    pub(crate) async fn look<T>(
        &mut self,
        ask: impl AsyncFn(&Node) -> Result<T, CallError>,
    ) -> Vec<Answer<T>> {
        let (session, ask) = (self.session, &ask);
        join_all(self.links.iter_mut().map(|link| async move {
            Answer {
                node: link.node.clone(),
                result: link.look(session, ask).await,
            }
        }))
        .await
    }
}

/// Asks one node for what changes nothing.
pub(crate) async fn look<T>(
    session: &Session,
    node: &Endpoint,
    ask: impl AsyncFn(&Node) -> Result<T, CallError>,
) -> Result<T, Failure> {
    let answer = Link::new(node).look(session, &ask).await;
    answer.map_err(|error| Failure::node(node, error))
}

/// Asks the first node that can be reached: for what all nodes answer alike, and changes nothing.
pub(crate) async fn look_any<T>(
    session: &Session,
    ask: impl AsyncFn(&Node) -> Result<T, CallError>,
) -> Result<T, Failure> {
    let mut first = None;
    for node in session.all() {
        match Link::new(node).look(session, &ask).await {
            Err(error @ NodeFailure::Connect(_)) => {
                first = first.or(Some(Failure::node(node, error)));
            }
            answer => return answer.map_err(|error| Failure::node(node, error)),
        }
    }
    Err(first.unwrap_or_else(|| Failure::usage("no node to ask")))
}

/// Before a broken connection is made again: the API of a node restarts in less.
const PAUSE: Duration = Duration::from_secs(1);

impl Link {
    fn new(node: &Endpoint) -> Self {
        Self {
            node: node.clone(),
            connection: None,
        }
    }

    async fn look<T>(
        &mut self,
        session: &Session,
        ask: &impl AsyncFn(&Node) -> Result<T, CallError>,
    ) -> Result<T, NodeFailure> {
        match self.ask(session, ask).await {
            Err(NodeFailure::Call(CallError::Lost { .. })) => {
                tokio::time::sleep(PAUSE).await;
                self.ask(session, ask).await
            }
            answer => answer,
        }
    }

    async fn ask<T>(
        &mut self,
        session: &Session,
        ask: &impl AsyncFn(&Node) -> Result<T, CallError>,
    ) -> Result<T, NodeFailure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => session.connect(&self.node).await?,
        };
        let answer = ask(&connection).await?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

/// Says what failed, and gives the exit code of the whole. `judge` decides on what was answered.
pub(crate) fn conclude<T>(answers: &[Answer<T>], judge: impl Fn(&T) -> Exit) -> Exit {
    let exits: Vec<Exit> = answers
        .iter()
        .map(|answer| match &answer.result {
            Ok(value) => judge(value),
            Err(failure) => {
                report(&answer.node, failure);
                failure.exit()
            }
        })
        .collect();
    Exit::of_all(&exits)
}

/// Says what failed on a node.
pub(crate) fn report(node: &Endpoint, failure: &NodeFailure) {
    terminal::note(&format!("keelsonctl: {node}: {}", chain(failure)));
}
