//! A DHCP server made of bytes, so that it can also answer what no real one would.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::lab::Peer;

const SERVER: [u8; 4] = [10, 9, 0, 1];
const CLIENT: [u8; 4] = [10, 9, 0, 50];

const OFFER: u8 = 2;
const ACK: u8 = 5;

/// Where options begin: fixed header and magic cookie.
const OPTIONS: usize = 240;

/// What the server does with a question.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behaviour {
    Serve {
        lease_seconds: u32,
    },
    OfferLoopback,
    Silent,
    /// Thousands of damaged answers to each question.
    Garbage,
}

#[derive(Debug)]
struct Shared {
    behaviour: Mutex<Behaviour>,
    grants: AtomicUsize,
    answers: AtomicUsize,
    stop: AtomicBool,
}

/// A running server; stops when dropped.
pub(super) struct DhcpServer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl DhcpServer {
    pub(super) fn start(peer: Peer, behaviour: Behaviour) -> Self {
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            grants: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = peer.spawn(move || {
            let socket = UdpSocket::bind("0.0.0.0:67").unwrap();
            socket.set_broadcast(true).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            ready.send(()).unwrap();
            serve(&socket, &theirs);
        });
        is_ready.recv().unwrap();
        Self {
            shared,
            thread: Some(thread),
        }
    }

    pub(super) fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }

    pub(super) fn grants(&self) -> usize {
        self.shared.grants.load(Ordering::SeqCst)
    }

    pub(super) fn answers(&self) -> usize {
        self.shared.answers.load(Ordering::SeqCst)
    }
}

impl Drop for DhcpServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 1500];
    while !shared.stop.load(Ordering::SeqCst) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let question = &buffer[..length];
        let Some(kind) = message_type(question) else {
            continue;
        };
        let answer_type = if kind == 1 { OFFER } else { ACK };
        // A client without an address can hear only broadcasts.
        let to = if from.ip().is_unspecified() {
            "255.255.255.255:68".parse().unwrap()
        } else {
            from
        };
        let behaviour = *shared.behaviour.lock().unwrap();
        match behaviour {
            Behaviour::Silent => {}
            Behaviour::Serve { lease_seconds } => {
                socket
                    .send_to(&answer(question, answer_type, CLIENT, lease_seconds), to)
                    .unwrap();
                if answer_type == ACK {
                    shared.grants.fetch_add(1, Ordering::SeqCst);
                }
            }
            Behaviour::OfferLoopback => {
                socket
                    .send_to(&answer(question, answer_type, [127, 0, 0, 1], 600), to)
                    .unwrap();
            }
            Behaviour::Garbage => {
                let good = answer(question, answer_type, CLIENT, 600);
                for seed in 0..2000u32 {
                    socket.send_to(&damaged(&good, seed), to).unwrap();
                    shared.answers.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    }
}

fn message_type(question: &[u8]) -> Option<u8> {
    let mut rest = question.get(OPTIONS..)?;
    while let [code, length, tail @ ..] = rest {
        if *code == 53 {
            return tail.first().copied();
        }
        rest = tail.get(usize::from(*length)..)?;
    }
    None
}

fn answer(question: &[u8], kind: u8, address: [u8; 4], lease_seconds: u32) -> Vec<u8> {
    let mut bytes = vec![0; OPTIONS];
    bytes[0] = 2;
    bytes[1] = 1;
    bytes[2] = 6;
    bytes[4..8].copy_from_slice(&question[4..8]);
    bytes[16..20].copy_from_slice(&address);
    bytes[20..24].copy_from_slice(&SERVER);
    bytes[28..44].copy_from_slice(&question[28..44]);
    bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
    let mut option = |code: u8, value: &[u8]| {
        bytes.push(code);
        bytes.push(u8::try_from(value.len()).unwrap());
        bytes.extend_from_slice(value);
    };
    option(53, &[kind]);
    option(54, &SERVER);
    option(51, &lease_seconds.to_be_bytes());
    option(1, &[255, 255, 255, 0]);
    option(3, &[10, 9, 0, 1]);
    option(6, &[10, 9, 0, 3]);
    option(15, b"lab.example");
    option(26, &1400u16.to_be_bytes());
    option(121, &[0, 10, 9, 0, 1, 24, 192, 168, 77, 10, 9, 0, 2]);
    bytes.push(255);
    bytes
}

/// A damaged copy: cut short, bytes changed, lengths that lead nowhere. The same each time.
fn damaged(good: &[u8], seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let mut bytes = good.to_vec();
    if seed.is_multiple_of(3) {
        bytes.truncate(usize::try_from(random()).unwrap() % (bytes.len() + 1));
    }
    for _ in 0..1 + random() % 40 {
        // Mostly in the options: the header is checked first and hides them.
        let from = if random() % 8 == 0 {
            0
        } else {
            OPTIONS.min(bytes.len())
        };
        if from < bytes.len() {
            let position = from + usize::try_from(random()).unwrap() % (bytes.len() - from);
            bytes[position] = u8::try_from(random() & 0xff).unwrap();
        }
    }
    // Whatever survived must not be a usable answer: a type that no client waits for.
    if let Some(kind) = bytes.get_mut(OPTIONS + 2) {
        *kind = 1;
    }
    bytes
}
