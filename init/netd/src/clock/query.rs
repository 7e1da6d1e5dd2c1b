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

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::thread;
    use std::time::SystemTime;

    use super::*;

    /// Seconds from 1900, where NTP begins, to 1970.
    const ERA: u64 = 2_208_988_800;

    /// A time server that answers one question with its own clock, ahead by `ahead` seconds.
    fn serve(ahead: u64, damage: fn(&mut Vec<u8>)) -> String {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let mut question = [0; 48];
            let (_, from) = socket.recv_from(&mut question).unwrap();
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap();
            let seconds = u32::try_from((now.as_secs() + ERA + ahead) & 0xffff_ffff).unwrap();
            let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
            let mut answer = vec![0; 48];
            answer[0] = 0b00_100_100; // no leap second, version 4, server
            answer[1] = 2;
            answer[24..32].copy_from_slice(&question[40..48]);
            for at in [32, 40] {
                answer[at..at + 4].copy_from_slice(&seconds.to_be_bytes());
                answer[at + 4..at + 8]
                    .copy_from_slice(&u32::try_from(fraction).unwrap().to_be_bytes());
            }
            damage(&mut answer);
            socket.send_to(&answer, from).unwrap();
        });
        address
    }

    fn ask_all(servers: &[String]) -> Result<Offset, TimeError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(Sntp.offset(servers))
    }

    #[test]
    fn an_answer_gives_the_offset() {
        let server = serve(100, |_| {});
        let offset = ask_all(std::slice::from_ref(&server)).unwrap();
        assert!((offset.seconds - 100.0).abs() < 1.0, "{offset:?}");
        assert_eq!(offset.server, server);
    }

    #[test]
    fn a_useless_server_is_passed_over() {
        let kiss_of_death = serve(0, |answer| answer[1] = 0);
        let cut_off = serve(0, |answer| answer.truncate(20));
        let foreign = serve(0, |answer| answer[24] ^= 0xff);
        let good = serve(0, |_| {});
        let servers = [
            kiss_of_death.clone(),
            cut_off.clone(),
            foreign.clone(),
            good.clone(),
        ];
        assert_eq!(ask_all(&servers).unwrap().server, good);
    }

    #[test]
    fn every_failure_is_named() {
        let kiss_of_death = serve(0, |answer| answer[1] = 0);
        let text = ask_all(std::slice::from_ref(&kiss_of_death))
            .unwrap_err()
            .to_string();
        assert!(text.starts_with(&kiss_of_death), "{text}");
    }
}
