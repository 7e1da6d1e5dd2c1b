//! What several targets need.

pub mod signed;
pub mod table;

// Everything here is compiled with coverage, whose functions are the engine's.
use keelson_fuzz_engine as _;

/// Takes a number below `count` off the front of an input: which of several things to do with the
/// rest.
#[must_use]
pub fn choose(bytes: &[u8], count: usize) -> (usize, &[u8]) {
    match bytes.split_first() {
        Some((first, rest)) => (usize::from(*first) % count.max(1), rest),
        None => (0, bytes),
    }
}

/// Panics when resolv.conf says something that netd does not say on its own: what a network sends
/// must not add lines.
pub fn check_resolv_conf(text: &str) {
    assert!(text.ends_with('\n'), "{text:?}");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._ ".contains(c);
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        let fine = match line.split_once(' ') {
            Some(("nameserver", address)) => address.parse::<std::net::IpAddr>().is_ok(),
            Some(("search", domains)) => !domains.is_empty() && domains.chars().all(plain),
            _ => false,
        };
        assert!(fine, "the line {line:?} in {text:?}");
    }
    assert!(
        text.lines().filter(|line| line.starts_with("# ")).count() <= 2,
        "{text:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_below_the_count() {
        assert_eq!(choose(&[7, 1, 2], 3), (1, &[1, 2][..]));
        assert_eq!(choose(&[], 3), (0, &[][..]));
        assert_eq!(choose(&[7], 0), (0, &[][..]));
    }

    #[test]
    fn a_line_too_many_is_seen() {
        check_resolv_conf("# by netd\nnameserver 10.0.2.3\nsearch lab.example\n");
        for wrong in [
            "nameserver x\n",
            "options rotate\n",
            "nameserver 10.0.2.3",
            "search a\tb\n",
        ] {
            assert!(
                std::panic::catch_unwind(|| check_resolv_conf(wrong)).is_err(),
                "{wrong:?}"
            );
        }
    }
}
