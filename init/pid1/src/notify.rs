//! Meaning of sd_notify messages.

use keelson_supervisor::Notice;

/// What a message says of what matters here; other assignments are ignored.
pub(crate) fn notices(text: &str) -> Vec<Notice> {
    text.lines()
        .filter_map(|line| match line.trim_end() {
            "READY=1" => Some(Notice::Ready),
            "WATCHDOG=1" => Some(Notice::Watchdog),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matters_is_taken() {
        assert_eq!(notices("READY=1"), [Notice::Ready]);
        assert_eq!(
            notices("STATUS=x\nWATCHDOG=1\nREADY=1\n"),
            [Notice::Watchdog, Notice::Ready]
        );
        assert_eq!(notices("READY=0\nready=1\nXREADY=1"), []);
    }
}
