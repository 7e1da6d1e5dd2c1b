//! The one-time code of a node in maintenance, and the patience of who guesses it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// Crockford's digits: none looks like another one, and none of them makes words.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 40 bits: at one guess a minute, half of them take a million years.
const BYTES: usize = 5;
const DIGITS: usize = BYTES * 8 / 5;

/// Wrong codes before a new one is made, so that no list of tried ones is worth keeping.
const WRONG_PER_CODE: u32 = 10;

/// The next answer after one wrong code; each further one doubles it.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Attempts that wait for their turn; further ones are turned away.
const WAITING: usize = 8;

/// A code that is valid once.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Code([u8; DIGITS]);

impl Code {
    /// Makes one.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self::from_bytes(bytes))
    }

    /// Every five bits are a digit.
    fn from_bytes(bytes: [u8; BYTES]) -> Self {
        let number = bytes
            .iter()
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let mut digits = [b'0'; DIGITS];
        for (place, digit) in digits.iter_mut().rev().enumerate() {
            let index = usize::try_from(number >> (5 * place) & 31).unwrap_or_default();
            *digit = ALPHABET.get(index).copied().unwrap_or(b'0');
        }
        Self(digits)
    }

    /// As people type it: any case, with or without its dash, and with the letters that
    /// Crockford's digits leave out.
    fn read(text: &str) -> Option<Self> {
        let mut digits = [0; DIGITS];
        let mut places = digits.iter_mut();
        for c in text.trim().chars().filter(|c| !matches!(c, '-' | ' ')) {
            let upper = match u8::try_from(c).ok()?.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            *places.next()? = upper;
        }
        places.next().is_none().then_some(Self(digits))
    }

    /// Takes the same time wherever the two differ.
    fn is(&self, other: &Self) -> bool {
        let differences = self
            .0
            .iter()
            .zip(&other.0)
            .fold(0, |seen, (a, b)| seen | std::hint::black_box(a ^ b));
        std::hint::black_box(differences) == 0
    }

    /// In two groups.
    pub(crate) fn text(&self) -> String {
        let (first, second) = self.0.split_at(DIGITS / 2);
        let text = |digits: &[u8]| String::from_utf8_lossy(digits).into_owned();
        format!("{}-{}", text(first), text(second))
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Why an attempt was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GateError {
    #[error(
        "the node has no one-time code: it is not in maintenance, or has just begun; its console shows the code"
    )]
    Closed,
    #[error("too many attempts wait for their turn already; try again in a minute")]
    TooMany,
    #[error("this is not the code on the node's console; the next attempt is answered in {} s", next.as_secs())]
    Wrong { next: Duration },
}

/// Lets in who knows the code.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    code: watch::Sender<Option<Code>>,
    places: Arc<Semaphore>,
    /// Attempts take turns, also while one waits for its answer.
    turn: Arc<tokio::sync::Mutex<()>>,
    wrong: Arc<Mutex<Wrong>>,
}

/// What went wrong so far.
#[derive(Debug, Default)]
struct Wrong {
    in_a_row: u32,
    with_this_code: u32,
    next_answer: Option<Instant>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            code: watch::Sender::new(None),
            places: Arc::new(Semaphore::new(WAITING)),
            turn: Arc::default(),
            wrong: Arc::default(),
        }
    }
}

/// The code was right. Nobody else is let in while this exists.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    gate: &'a Gate,
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

impl Admitted<'_> {
    /// The code is not valid any more.
    pub(crate) fn use_up(self) {
        self.gate.close();
    }
}

impl Gate {
    /// Opens with a new code. How long answers take is not forgotten.
    pub(crate) fn open(&self) -> Result<(), getrandom::Error> {
        let code = Code::random()?;
        self.wrong().with_this_code = 0;
        self.code.send_replace(Some(code));
        Ok(())
    }

    /// No code is valid.
    pub(crate) fn close(&self) {
        self.code.send_replace(None);
    }

    /// The code for the console, and every new one.
    pub(crate) fn code(&self) -> watch::Receiver<Option<Code>> {
        self.code.subscribe()
    }

    /// Waits for this attempt's turn and for the time that earlier wrong ones cost.
    pub(crate) async fn admit(&self, given: &str) -> Result<Admitted<'_>, GateError> {
        let _place = self.places.try_acquire().map_err(|_| GateError::TooMany)?;
        let turn = self.turn.lock().await;
        let next_answer = self.wrong().next_answer;
        if let Some(next_answer) = next_answer {
            tokio::time::sleep_until(next_answer).await;
        }
        let Some(code) = self.code.borrow().clone() else {
            return Err(GateError::Closed);
        };
        if Code::read(given).is_some_and(|given| code.is(&given)) {
            *self.wrong() = Wrong::default();
            return Ok(Admitted {
                gate: self,
                _turn: turn,
            });
        }
        let (next, used) = {
            let mut wrong = self.wrong();
            wrong.in_a_row = wrong.in_a_row.saturating_add(1);
            wrong.with_this_code += 1;
            let next = delay(wrong.in_a_row);
            wrong.next_answer = Some(Instant::now() + next);
            (next, wrong.with_this_code >= WRONG_PER_CODE)
        };
        tracing::warn!("maintenance: a wrong code was given; the next answer takes {next:?}");
        if used && self.open().is_err() {
            // No random bytes: better no code than one that is being guessed.
            self.close();
        }
        Err(GateError::Wrong { next })
    }

    fn wrong(&self) -> MutexGuard<'_, Wrong> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What so many wrong codes in a row cost.
fn delay(in_a_row: u32) -> Duration {
    let doublings = in_a_row.saturating_sub(1).min(16);
    FIRST_DELAY
        .saturating_mul(1 << doublings)
        .min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_forty_bits_in_two_groups() {
        assert_eq!(Code::from_bytes([0; 5]).text(), "0000-0000");
        assert_eq!(Code::from_bytes([0xff; 5]).text(), "ZZZZ-ZZZZ");
        assert_eq!(
            Code::from_bytes([0x08, 0x42, 0x10, 0x84, 0x21]).text(),
            "1111-1111"
        );
        assert_ne!(
            Code::random().unwrap().text(),
            Code::random().unwrap().text()
        );
    }

    #[test]
    fn people_may_type_it_their_way() {
        let code = Code::from_bytes([0x08, 0x42, 0x00, 0x84, 0x20]);
        for text in ["1110-1110", "11101110", "iLi0 1l1o", " IIIO-LLLO "] {
            assert!(code.is(&Code::read(text).unwrap()), "{text}");
        }
        assert!(!code.is(&Code::read("1110-1111").unwrap()));
        for text in ["", "1110-111", "1110-11101", "1110-111é", "1110_1110x"] {
            assert!(
                Code::read(text).is_none_or(|read| !code.is(&read)),
                "{text}"
            );
        }
    }

    #[test]
    fn delays_double_up_to_a_minute() {
        let seconds: Vec<_> = (1..9).map(|wrong| delay(wrong).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(u32::MAX), LONGEST_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_codes_slow_every_next_answer_down() {
        let gate = Gate::default();
        assert_eq!(gate.admit("x").await.unwrap_err(), GateError::Closed);
        gate.open().unwrap();
        let mut waited = Vec::new();
        for _ in 0..4 {
            let start = Instant::now();
            assert!(matches!(
                gate.admit("0000-000").await,
                Err(GateError::Wrong { .. })
            ));
            waited.push(start.elapsed().as_secs());
        }
        assert_eq!(waited, [0, 1, 2, 4]);
        let code = gate.code().borrow().clone().unwrap().text();
        let start = Instant::now();
        gate.admit(&code).await.unwrap().use_up();
        assert_eq!(start.elapsed().as_secs(), 8);
        assert_eq!(gate.admit(&code).await.unwrap_err(), GateError::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_at_the_same_time_take_turns_and_a_crowd_is_turned_away() {
        let gate = Gate::default();
        gate.open().unwrap();
        let start = Instant::now();
        let crowd: Vec<_> = (0..12)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move { gate.admit("wrong").await.map(drop).unwrap_err() })
            })
            .collect();
        let mut turned_away = 0;
        for attempt in crowd {
            turned_away += usize::from(attempt.await.unwrap() == GateError::TooMany);
        }
        // The first one had its answer before the others came.
        assert_eq!(turned_away, 12 - 1 - WAITING);
        let waited = 1 + 2 + 4 + 8 + 16 + 32 + 60 + 60;
        assert_eq!(start.elapsed().as_secs(), waited);
    }

    #[tokio::test(start_paused = true)]
    async fn ten_wrong_codes_make_a_new_one_and_waiting_goes_on() {
        let gate = Gate::default();
        gate.open().unwrap();
        let first = gate.code().borrow().clone().unwrap();
        for _ in 0..WRONG_PER_CODE {
            gate.admit("").await.unwrap_err();
        }
        let second = gate.code().borrow().clone().unwrap();
        assert_ne!(first, second);
        let start = Instant::now();
        assert!(gate.admit(&first.text()).await.is_err());
        assert_eq!(start.elapsed(), LONGEST_DELAY);
        assert!(gate.admit(&second.text()).await.is_ok());
    }

    #[tokio::test]
    async fn a_right_code_that_is_not_used_up_stays_valid() {
        let gate = Gate::default();
        gate.open().unwrap();
        let code = gate.code().borrow().clone().unwrap().text();
        drop(gate.admit(&code).await.unwrap());
        assert!(gate.admit(&code.to_lowercase()).await.is_ok());
    }
}
