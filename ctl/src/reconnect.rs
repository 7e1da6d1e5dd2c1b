//! How long and how often a lost node is tried again by who follows it.

use std::time::{Duration, Instant};

use keelson_client::Endpoint;
use keelson_control::chain;

use crate::failure::NodeFailure;
use crate::terminal::note;
use crate::units::span;

/// After a restart of the API the second attempt succeeds.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A node that starts does not notice attempts so far apart, and nobody waits long for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What to do about a lost node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    GiveUp {
        /// It was not given up before.
        news: bool,
    },
    Retry {
        after: Duration,
        /// It worked until now.
        news: bool,
    },
}

/// The patience with one node.
#[derive(Debug)]
pub(crate) struct Patience {
    longest: Duration,
    standing: Standing,
}

#[derive(Clone, Copy, Debug)]
enum Standing {
    /// It never answered: nobody waits for what may be a wrong address.
    New,
    Works,
    Lost {
        since: Instant,
        pause: Duration,
    },
    GivenUp {
        since: Instant,
    },
}

impl Patience {
    /// That lasts so long from the loss of a node.
    pub(crate) fn new(longest: Duration) -> Self {
        Self {
            longest,
            standing: Standing::New,
        }
    }

    /// It worked, and does not any more.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.standing, Standing::Lost { .. })
    }

    /// The node took the question. One that was lost before has yet to answer it.
    pub(crate) fn begins(&mut self) {
        if let Standing::New = self.standing {
            self.standing = Standing::Works;
        }
    }

    /// The node answers; says for how long it did not, if it was lost.
    pub(crate) fn works(&mut self, now: Instant) -> Option<Duration> {
        let before = std::mem::replace(&mut self.standing, Standing::Works);
        match before {
            Standing::Lost { since, .. } | Standing::GivenUp { since } => {
                Some(now.saturating_duration_since(since))
            }
            Standing::New | Standing::Works => None,
        }
    }

    /// The node does not answer.
    pub(crate) fn fails(&mut self, failure: &NodeFailure, now: Instant) -> Next {
        let (since, after, news) = match self.standing {
            Standing::New => return self.give_up(now),
            Standing::Works => (now, FIRST_PAUSE, true),
            Standing::Lost { since, pause } => {
                (since, pause.saturating_mul(2).min(LONGEST_PAUSE), false)
            }
            Standing::GivenUp { .. } => return Next::GiveUp { news: false },
        };
        let over = now.saturating_duration_since(since) + after > self.longest;
        if over || !failure.may_pass() {
            return self.give_up(since);
        }
        self.standing = Standing::Lost {
            since,
            pause: after,
        };
        Next::Retry { after, news }
    }

    fn give_up(&mut self, since: Instant) -> Next {
        self.standing = Standing::GivenUp { since };
        Next::GiveUp { news: true }
    }

    /// Says that a node is lost and is tried again.
    pub(crate) fn tell_lost(&self, node: &Endpoint, failure: &NodeFailure) {
        note(&format!(
            "keelsonctl: {node}: {}; trying again, at most for {}",
            chain(failure),
            span(self.longest)
        ));
    }
}

/// Says that a node is there again.
pub(crate) fn tell_back(node: &Endpoint, away: Duration) {
    let away = span(Duration::from_secs(away.as_secs()));
    note(&format!(
        "keelsonctl: {node}: connected again after {away}, going on"
    ));
}

#[cfg(test)]
mod tests {
    use keelson_client::{CallError, ConnectError};

    use super::*;

    fn lost() -> NodeFailure {
        let why = "reset".to_owned();
        CallError::Lost { why }.into()
    }

    #[test]
    fn a_node_that_never_answered_is_not_waited_for() {
        let mut patience = Patience::new(Duration::from_secs(600));
        let failure = ConnectError::Refused.into();
        for news in [true, false] {
            let next = patience.fails(&failure, Instant::now());
            assert_eq!(next, Next::GiveUp { news });
        }
    }

    #[test]
    fn a_lost_node_is_tried_less_and_less_often_until_the_end() {
        let mut patience = Patience::new(Duration::from_secs(30));
        let begin = Instant::now();
        let mut now = begin;
        assert_eq!(patience.works(now), None);
        let mut pauses = Vec::new();
        while let Next::Retry { after, news } = patience.fails(&lost(), now) {
            assert_eq!(news, pauses.is_empty());
            pauses.push(after.as_millis());
            now += after;
        }
        assert_eq!(pauses[..5], [500, 1000, 2000, 4000, 5000]);
        assert!(now - begin <= Duration::from_secs(30) && pauses.len() > 7);
    }

    #[test]
    fn who_is_back_gets_all_the_patience_again() {
        let mut patience = Patience::new(Duration::from_secs(30));
        let now = Instant::now();
        patience.works(now);
        patience.fails(&lost(), now);
        let later = now + Duration::from_secs(29);
        assert_eq!(patience.works(later), Some(Duration::from_secs(29)));
        assert_eq!(
            patience.fails(&lost(), later + Duration::from_secs(60)),
            Next::Retry {
                after: FIRST_PAUSE,
                news: true
            }
        );
    }

    #[test]
    fn what_does_not_pass_by_itself_is_not_tried_again() {
        let mut patience = Patience::new(Duration::from_secs(30));
        patience.works(Instant::now());
        let message = "no".to_owned();
        let refused = CallError::NotPermitted { message }.into();
        let given_up = Next::GiveUp { news: true };
        assert_eq!(patience.fails(&refused, Instant::now()), given_up);
        let mut none = Patience::new(Duration::ZERO);
        none.works(Instant::now());
        assert_eq!(none.fails(&lost(), Instant::now()), given_up);
    }
}
