//! What the exit code says.

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    Failed,
    Usage,
    Unreachable,
    Refused,
    Unhealthy,
    Partial,
    RolledBack,
    Interrupted,
}

impl Exit {
    pub(crate) const ALL: [Self; 9] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::Unreachable,
        Self::Refused,
        Self::Unhealthy,
        Self::Partial,
        Self::RolledBack,
        Self::Interrupted,
    ];

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Refused => 4,
            Self::Unhealthy => 5,
            Self::Partial => 6,
            Self::RolledBack => 7,
            // 128 and the number of SIGINT, as shells have it.
            Self::Interrupted => 130,
        }
    }

    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done",
            Self::Failed => "the node answered with an error, or a file could not be used",
            Self::Usage => "wrong usage, or no usable context",
            Self::Unreachable => "no connection to the node, or no answer in time",
            Self::Refused => "the certificate is refused or does not permit this",
            Self::Unhealthy => "health: a check has not passed",
            Self::Partial => "some of several nodes failed",
            Self::RolledBack => "upgrade: the node went back to the version before",
            Self::Interrupted => "interrupted",
        }
    }

    /// Of what several nodes ended with.
    pub(crate) fn of_all(exits: &[Self]) -> Self {
        match exits {
            [] => Self::Ok,
            [first, rest @ ..] if rest.iter().all(|exit| exit == first) => *first,
            exits
                if exits
                    .iter()
                    .any(|exit| matches!(exit, Self::Ok | Self::Unhealthy)) =>
            {
                Self::Partial
            }
            // All failed, for different reasons.
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_nodes_have_one_exit() {
        use Exit::{Failed, Ok, Partial, Refused, Unhealthy, Unreachable};
        for (exits, wanted) in [
            (&[][..], Ok),
            (&[Ok, Ok], Ok),
            (&[Unreachable], Unreachable),
            (&[Unreachable, Unreachable], Unreachable),
            (&[Unreachable, Refused], Failed),
            (&[Ok, Unreachable], Partial),
            (&[Unhealthy, Failed], Partial),
        ] {
            assert_eq!(Exit::of_all(exits), wanted, "{exits:?}");
        }
    }

    #[test]
    fn no_two_exits_share_a_code() {
        let mut codes = Exit::ALL.map(Exit::code).to_vec();
        codes.dedup();
        assert_eq!(codes.len(), Exit::ALL.len());
        assert!(codes.is_sorted());
    }
}
