//! One question to several nodes at the same time.

use futures_util::future::join_all;
use keelson_client::{CallError, Endpoint, Node};
use keelson_control::chain;

use crate::exit::Exit;
use crate::failure::NodeFailure;
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
        let link = |node: &Endpoint| Link {
            node: node.clone(),
            connection: None,
        };
        Self {
            session,
            links: nodes.iter().map(link).collect(),
        }
    }

    /// Asks all of them; one that fails does not hide what the others answer. Connections are
    /// used again by the next question.
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
}

impl Link {
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
