//! Asks time servers, by SNTP.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rsntp::{AsyncSntpClient, Config};

use super::{Offset, TimeError, TimeServer};

/// A server that answers at all answers sooner.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);

/// How long a server has the word before the next one is asked as well.
const HEAD_START: Duration = Duration::from_millis(500);

/// Time servers in the network.
#[derive(Debug)]
pub(crate) struct Sntp;

impl TimeServer for Sntp {
    /// Asks one after the other, each a little later; the first good answer counts.
    async fn offset(&self, servers: &[String]) -> Result<Offset, TimeError> {
        let mut questions: FuturesUnordered<_> = (0u32..)
            .zip(servers)
            .map(|(position, server)| async move {
                tokio::time::sleep(HEAD_START * position).await;
                ask(server).await
            })
            .collect();
        let mut failures = Vec::new();
        while let Some(answer) = questions.next().await {
            match answer {
                Ok(offset) => return Ok(offset),
                Err(reason) => failures.push(reason),
            }
        }
        Err(TimeError::NoAnswer(failures))
    }
}

async fn ask(server: &str) -> Result<Offset, String> {
    // The client sends from one socket: its family must be that of the server.
    let local = match server.parse::<Ipv6Addr>() {
        Ok(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        Err(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
    };
    let client = AsyncSntpClient::with_config(
        Config::default()
            .bind_address(local)
            .timeout(ANSWER_DEADLINE),
    );
    match client.synchronize(server).await {
        Ok(result) => Ok(Offset {
            seconds: result.clock_offset().as_secs_f64(),
            server: server.to_owned(),
        }),
        Err(error) => Err(format!("{server}: {error}")),
    }
}
