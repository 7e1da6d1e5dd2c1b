//! Takes out of a text what looks like a secret: the last line of defence before an archive leaves
//! the node, after everything known to be secret has been left out.
//!
//! Private keys in PEM, also within JSON and base64; values of keys that are named like a secret
//! (`password: x`, `--token=x`, `"client-key-data": "x"`); bearer and basic credentials, JSON web
//! tokens, bootstrap tokens and passwords in URLs. Where it is not certain, it takes too much.

mod pem;
mod values;
mod words;

/// What stands for a secret.
pub const REMOVED: &str = "[removed]";

/// A text without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// What is left.
    pub text: String,
    /// How many were taken out.
    pub removed: usize,
}

/// Takes out all secrets. A text must come whole: half a secret is not recognized.
#[must_use]
pub fn scrub(text: &str) -> Scrubbed {
    let mut removed = 0;
    // Keys first: they go over several lines, which the others take for lines of their own.
    let mut text = pem::remove(text, &mut removed);
    // Assigned, so that each copy goes before the next is made.
    text = values::remove(&text, &mut removed);
    text = words::remove(&text, &mut removed);
    Scrubbed { text, removed }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn pem(label: &str) -> String {
        let line = "MHcCAQEEIPLANTEDsecretKEYmaterial0123456789abcdefghijklmnopqrstu";
        format!("-----BEGIN {label}-----\n{line}\n{line}\nAbC=\n-----END {label}-----\n")
    }

    /// Secrets, and the part of each that must not be left.
    fn secrets() -> Vec<(String, String)> {
        let key = STANDARD.encode(pem("EC PRIVATE KEY"));
        let inside = &key[60..90];
        // It begins like a certificate.
        let both = STANDARD.encode(pem("CERTIFICATE") + &pem("PRIVATE KEY"));
        let end = &both[both.len() - 80..both.len() - 50];
        let found: [(String, &str); 27] = [
            (pem("PRIVATE KEY"), "PLANTED"),
            (pem("RSA PRIVATE KEY"), "AbC="),
            (pem("OPENSSH PRIVATE KEY").replace('\n', "\\n"), "PLANTED"),
            (pem("EC PRIVATE KEY").replace('\n', "\n      "), "PLANTED"),
            (format!("    client-key-data: {key}\n"), inside),
            (format!("  \"tls.key\": \"{key}\","), inside),
            (format!("found {both} there"), end),
            ("token: k10-abc.def\n".to_owned(), "k10"),
            ("\"password\": \"hunter \\\" 22\",".to_owned(), "22"),
            (
                "password: pass phrase, with: all # of it".to_owned(),
                "phrase",
            ),
            ("- password: 'it''s one'".to_owned(), "s one"),
            (
                "password: |\n    first line\n    second\nnext: 1".to_owned(),
                "second",
            ),
            (
                "password:\n    on the next line\nnext: 1".to_owned(),
                "the next line",
            ),
            ("msg={\\\"token\\\":\\\"abcdef\\\"}".to_owned(), "abcdef"),
            ("kine --password hunter22 --listen x".to_owned(), "hunter22"),
            ("MYSQL_ROOT_PASSWORD=hunter22".to_owned(), "hunter22"),
            ("PrivateKey = qBsecret=".to_owned(), "qBsecret"),
            ("host=db password=hunter22 user=k".to_owned(), "hunter22"),
            ("Authorization: Bearer abcdefgh12345".to_owned(), "abcdefgh"),
            (
                "sent \"authorization: basic dXNlcjpwYXNz\"".to_owned(),
                "dXNl",
            ),
            ("curl -H 'X: y' bearer AAAAbbbbCCCC1".to_owned(), "AAAAbbbb"),
            ("Basic dXNlcjpwYXNzd29yZA==".to_owned(), "dXNl"),
            (
                "id eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZG1pbiJ9.c2lnbmF0dXJl-_x end".to_owned(),
                "c2lnbmF0",
            ),
            (
                "join with abcdef.0123456789abcdef now".to_owned(),
                "0123456789abcdef",
            ),
            ("postgres://kine:hunt@er22@db:5432/k".to_owned(), "er22"),
            ("{\"auth\":\"dXNlcjpwYXNz\"}".to_owned(), "dXNl"),
            (
                "https://x/y?a=1&access_token=hunter22&b=2".to_owned(),
                "hunter22",
            ),
        ];
        found.map(|(text, part)| (text, part.to_owned())).into()
    }

    #[test]
    fn every_kind_of_secret_is_taken_out() {
        for (text, forbidden) in secrets() {
            assert!(
                text.contains(&forbidden),
                "{forbidden:?} is not in {text:?}"
            );
            let scrubbed = scrub(&text);
            assert!(
                !scrubbed.text.contains(&forbidden),
                "{text:?} became {scrubbed:?}"
            );
            assert!(scrubbed.removed > 0, "{text:?}");
            assert!(
                scrubbed.text.contains(REMOVED),
                "{text:?} became {scrubbed:?}"
            );
        }
    }

    #[test]
    fn what_is_around_a_secret_stays() {
        for (text, expected) in [
            ("a: 1\ntoken: x\nb: 2\n", "a: 1\ntoken: [removed]\nb: 2\n"),
            (
                "{\"user\":\"k\",\"password\":\"x\",\"port\":5432}",
                "{\"user\":\"k\",\"password\":\"[removed]\",\"port\":5432}",
            ),
            (
                "password: |\n  x\nnext: 1\n",
                "password: |\n  [removed]\nnext: 1\n",
            ),
            ("--token=x --v=2", "--token=[removed] --v=2"),
            ("a ?token=x&b=2 c", "a ?token=[removed]&b=2 c"),
            ("postgres://k:x@db/k?y", "postgres://[removed]@db/k?y"),
            (
                "x\n-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\ny",
                "x\n[removed]\ny",
            ),
        ] {
            assert_eq!(scrub(text).text, expected);
        }
    }

    #[test]
    fn harmless_text_stays() {
        for text in [
            "I1121 10:00:00.1 server.go:42] \"Starting\" port=10250 addr=\"[::]\"\n",
            "automountServiceAccountToken: false\n",
            "tokenFile: /run/x\nsecretName: db\nauthorization-mode: Node,RBAC\n",
            "secret:\n  secretName: db\n",
            "token: null\npassword: \"\"\n",
            "-----BEGIN CERTIFICATE-----\nMIIBfTCCASOgAwIBAgI=\n-----END CERTIFICATE-----\n",
            "expected -----BEGIN PRIVATE KEY here\n",
            "image: registry.example/coredns:v1.11@sha256:0123456789abcdef0123456789abcdef\n",
            "https://user@host/path http://[::1]:2379 a@b.c\n",
            "basic authentication is off; bearer of news\n",
            "eyJ.a.b eyJhbGci.x\n",
            "coredns-5d78c9869d-abcde.1812d5b0a3c4e5f6\n",
            "",
        ] {
            assert_eq!(
                scrub(text),
                Scrubbed {
                    text: text.to_owned(),
                    removed: 0
                }
            );
        }
    }

    #[test]
    fn half_a_key_is_taken_out() {
        let whole = pem("PRIVATE KEY");
        let cut = whole.find("-----END").unwrap();
        let start = scrub(&format!("log\n{}", &whole[..cut]));
        assert_eq!(start.text, "log\n[removed]\n");
        let end = scrub(&format!("log line\n{}after\n", &whole[30..]));
        assert_eq!(end.text, "log line\n[removed]\nafter\n");
    }

    proptest! {
        #[test]
        fn nothing_around_hides_a_secret(
            before in "([ -~äß\n\"'{}:=\\\\]{0,40}\n)?",
            after in "(\n[ -~äß\n\"'{}:=\\\\]{0,40})?",
            which in 0usize..27,
        ) {
            let (secret, forbidden) = secrets().swap_remove(which);
            prop_assume!(!before.contains(&forbidden) && !after.contains(&forbidden));
            let text = format!("{before}{secret}{after}");
            prop_assert!(!scrub(&text).text.contains(&forbidden), "{}", text);
        }

        #[test]
        fn never_panics(text: String, odd in "([ \\-\"'\\\\\n|>:=&?.a]|-----|BEGIN|END| PRIVATE KEY|token|Bearer|eyJ|://|@|LS0tLS1CRUdJ){0,30}") {
            let _ = scrub(&text);
            let _ = scrub(&odd);
        }
    }
}
