//! What is sent of a bundle, on its way to the thread that writes it: in order, each byte once, and
//! never more in memory than a few pieces.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::handle::Refused;
use super::install::{Progress, Stage};

/// Most bytes of one piece.
const MAX_PIECE: usize = 1024 * 1024;

/// Pieces that wait for the writer.
const QUEUE: usize = 2;

/// How long a piece waits for the writer before its sender is asked to send it again: less than
/// callers wait for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The way in; closed while no bundle is received.
#[derive(Debug, Default)]
pub(crate) struct Feed(Mutex<Option<Open>>);

#[derive(Debug)]
struct Open {
    upgrade: String,
    /// Where the first block starts in the file.
    start: u64,
    /// Stored bytes of each block.
    lengths: Vec<u32>,
    /// Block and place of the next byte; not known until the writer has looked at the slot.
    next: Option<(usize, u64)>,
    sender: mpsc::Sender<Vec<u8>>,
    progress: watch::Receiver<Progress>,
    /// When something came last.
    heard: Instant,
}

/// How much was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The next bytes that are wanted, if any are.
    pub(crate) wants: Option<Wants>,
    /// Stored bytes of all blocks.
    pub(crate) total: u64,
    /// Those that need not be sent any more.
    pub(crate) done: u64,
}

/// Bytes that are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wants {
    pub(crate) block: u32,
    /// Place in the stored block.
    pub(crate) offset: u64,
    /// Place in the file.
    pub(crate) position: u64,
    /// Bytes that are left of the block.
    pub(crate) left: u32,
}

impl Feed {
    /// Opens; gives the writer's end. `start` is where the first block starts in the file.
    pub(crate) fn open(
        &self,
        upgrade: &str,
        start: u64,
        lengths: Vec<u32>,
        progress: watch::Receiver<Progress>,
    ) -> mpsc::Receiver<Vec<u8>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        *self.state() = Some(Open {
            upgrade: upgrade.to_owned(),
            start,
            lengths,
            next: None,
            sender,
            progress,
            heard: Instant::now(),
        });
        receiver
    }

    /// Closes; the writer sees the end.
    pub(crate) fn close(&self) {
        *self.state() = None;
    }

    /// For how long nothing came, while something is wanted.
    pub(crate) fn silence(&self) -> Option<Duration> {
        let mut state = self.state();
        let open = state.as_mut()?;
        open.wants()?;
        Some(open.heard.elapsed())
    }

    /// How much was sent.
    pub(crate) fn sent(&self) -> Sent {
        let mut state = self.state();
        state.as_mut().map_or(Sent::default(), Open::sent)
    }

    /// Takes a piece, if it is the one that is wanted now; another one changes nothing, for the
    /// answer says which it is.
    pub(crate) async fn push(
        &self,
        upgrade: &str,
        block: u32,
        offset: u64,
        data: Vec<u8>,
    ) -> Result<(), Refused> {
        if data.is_empty() || data.len() > MAX_PIECE {
            return Err(Refused::invalid(format!(
                "a piece has 1 to {MAX_PIECE} bytes, not {}",
                data.len()
            )));
        }
        let Some(sender) = self.take(upgrade, block, offset, data.len())? else {
            return Ok(());
        };
        let Ok(Ok(permit)) = timeout(PATIENCE, sender.reserve()).await else {
            return Ok(());
        };
        // Another call may have been quicker.
        let mut state = self.state();
        if let Some(open) = state.as_mut()
            && open.upgrade == upgrade
            && open.wants() == Some((block, offset))
        {
            open.advance(data.len());
            permit.send(data);
        }
        Ok(())
    }

    /// The way to the writer, when this piece is wanted.
    fn take(
        &self,
        upgrade: &str,
        block: u32,
        offset: u64,
        length: usize,
    ) -> Result<Option<mpsc::Sender<Vec<u8>>>, Refused> {
        let mut state = self.state();
        let Some(open) = state.as_mut().filter(|open| open.upgrade == upgrade) else {
            return Err(Refused::not_now(
                "this bundle is not being received; begin the upgrade (again)",
            ));
        };
        if open.wants() != Some((block, offset)) {
            return Ok(None);
        }
        open.heard = Instant::now();
        let left = open.left();
        if u64::try_from(length).unwrap_or(u64::MAX) > left {
            return Err(Refused::invalid(format!(
                "block {block} has {left} more bytes, not {length}"
            )));
        }
        Ok(Some(open.sender.clone()))
    }

    fn state(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn wants(&mut self) -> Option<(u32, u64)> {
        if self.next.is_none() {
            let progress = *self.progress.borrow();
            if progress.stage == Stage::Receiving {
                self.next = Some(self.stored_from(progress.blocks));
            }
        }
        let (block, offset) = self.next.filter(|(block, _)| *block < self.lengths.len())?;
        Some((u32::try_from(block).ok()?, offset))
    }

    /// The first block from this one on that has bytes in the bundle.
    fn stored_from(&self, block: usize) -> (usize, u64) {
        let stored = self
            .lengths
            .iter()
            .skip(block)
            .position(|length| *length > 0);
        (stored.map_or(self.lengths.len(), |more| block + more), 0)
    }

    /// Bytes of the wanted block that are missing.
    fn left(&self) -> u64 {
        let (block, offset) = self.next.unwrap_or_default();
        let length = self.lengths.get(block).copied().unwrap_or_default();
        u64::from(length).saturating_sub(offset)
    }

    fn advance(&mut self, bytes: usize) {
        let left = self.left();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if let Some((block, offset)) = self.next {
            self.next = Some(if bytes >= left {
                self.stored_from(block + 1)
            } else {
                (block, offset + bytes)
            });
        }
    }

    fn sent(&mut self) -> Sent {
        let wants = self.wants();
        let sum = |blocks: &[u32]| blocks.iter().map(|length| u64::from(*length)).sum::<u64>();
        let known = self.progress.borrow().blocks;
        let (block, offset) = self.next.unwrap_or((known, 0));
        let whole = self.lengths.get(..block).unwrap_or(&self.lengths);
        let done = sum(whole) + offset;
        Sent {
            wants: wants.map(|(block, offset)| Wants {
                block,
                offset,
                position: self.start + done,
                left: u32::try_from(self.left()).unwrap_or_default(),
            }),
            total: sum(&self.lengths),
            done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(feed: &Feed, blocks: usize) -> (watch::Sender<Progress>, mpsc::Receiver<Vec<u8>>) {
        let progress = watch::Sender::new(Progress::default());
        let receiver = feed.open("up", 100, vec![10, 0, 5, 0], progress.subscribe());
        if blocks < usize::MAX {
            progress.send_modify(|progress| {
                progress.stage = Stage::Receiving;
                progress.blocks = blocks;
            });
        }
        (progress, receiver)
    }

    #[tokio::test]
    async fn pieces_pass_in_order_and_each_once() {
        let feed = Feed::default();
        let (_progress, mut receiver) = open(&feed, 0);
        let wants = || {
            let wants = feed.sent().wants?;
            let (position, left) = (wants.position, wants.left);
            Some((wants.block, wants.offset, position, left))
        };
        assert_eq!(wants(), Some((0, 0, 100, 10)));
        let push = async |block, offset, length: usize| {
            feed.push("up", block, offset, vec![7; length]).await
        };
        push(0, 0, 4).await.unwrap();
        assert_eq!(wants(), Some((0, 4, 104, 6)));
        // Again, ahead, and for another block: nothing happens.
        for (block, offset) in [(0, 0), (0, 5), (2, 0), (9, 9)] {
            push(block, offset, 4).await.unwrap();
        }
        assert_eq!(receiver.recv().await.unwrap().len(), 4);
        assert!(push(0, 4, 7).await.is_err(), "more than the block has");
        push(0, 4, 6).await.unwrap();
        // Zeros are not sent.
        assert_eq!(wants(), Some((2, 0, 110, 5)));
        assert_eq!(feed.sent().done, 10);
        push(2, 0, 5).await.unwrap();
        assert_eq!(wants(), None);
        assert_eq!((feed.sent().done, feed.sent().total), (15, 15));
        assert_eq!(receiver.recv().await.unwrap().len(), 6);
        assert_eq!(receiver.recv().await.unwrap().len(), 5);
    }

    #[tokio::test]
    async fn what_is_there_is_not_wanted() {
        let feed = Feed::default();
        let (_progress, _receiver) = open(&feed, 1);
        assert_eq!(feed.sent().wants.unwrap().block, 2);
        let (_progress, _receiver) = open(&feed, 3);
        assert_eq!(feed.sent().wants, None);
        assert_eq!(feed.sent().done, 15);
    }

    #[tokio::test]
    async fn nothing_is_taken_before_the_slot_was_looked_at_nor_for_another_bundle() {
        let feed = Feed::default();
        let (_progress, mut receiver) = open(&feed, usize::MAX);
        feed.push("up", 0, 0, vec![1]).await.unwrap();
        assert!(receiver.try_recv().is_err());
        assert!(feed.push("other", 0, 0, vec![1]).await.is_err());
        for wrong in [vec![], vec![0; MAX_PIECE + 1]] {
            assert!(feed.push("up", 0, 0, wrong).await.is_err());
        }
        feed.close();
        assert!(receiver.recv().await.is_none());
        assert!(feed.push("up", 0, 0, vec![1]).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_is_busy_is_not_waited_for_for_ever() {
        let feed = Feed::default();
        let (_progress, mut receiver) = open(&feed, 0);
        for offset in 0..3 {
            feed.push("up", 0, offset, vec![1]).await.unwrap();
        }
        // The third found no place in time, and is wanted again.
        assert_eq!(feed.sent().wants.unwrap().offset, 2);
        receiver.recv().await.unwrap();
        feed.push("up", 0, 2, vec![1]).await.unwrap();
        assert_eq!(feed.sent().wants.unwrap().offset, 3);
    }
}
