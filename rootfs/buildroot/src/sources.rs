//! Which Debian mirror this machine uses, read from its own apt sources.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Names under which a host may list Debian itself; other suites belong to somebody else's packages.
const SUITES: [&str; 10] = [
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "sid",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
];

/// Where Debian's packages and its security updates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    /// The archive.
    pub archive: String,
    /// Security updates; a host without them has none for us either.
    pub security: Option<String>,
    /// The key ring that the host checks Debian with, when it names one.
    pub keyring: Option<PathBuf>,
}

/// Why no mirror is known.
#[derive(Debug, Error)]
#[error(
    "no Debian mirror found in {folder}/sources.list and {folder}/sources.list.d: \
     the build root needs one; add a source for Debian there"
)]
pub struct NoMirror {
    folder: String,
}

/// One source as a host writes it, in either format.
#[derive(Debug, Default, PartialEq, Eq)]
struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

impl Mirrors {
    /// Reads the sources below an apt folder (`/etc/apt`).
    pub fn of_host(folder: &Path) -> Result<Self, NoMirror> {
        let mut sources = Vec::new();
        let main = folder.join("sources.list");
        sources.extend(one_line_sources(
            &fs::read_to_string(main).unwrap_or_default(),
        ));
        let parts = fs::read_dir(folder.join("sources.list.d"));
        let mut parts: Vec<_> = parts
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        parts.sort();
        for path in parts {
            // A file we may not read is as good as one that is not there: others may name a mirror.
            let text = fs::read_to_string(&path).unwrap_or_default();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("list") => sources.extend(one_line_sources(&text)),
                Some("sources") => sources.extend(stanza_sources(&text)),
                _ => {}
            }
        }
        Self::choose(&sources).ok_or_else(|| NoMirror {
            folder: folder.display().to_string(),
        })
    }

    fn choose(sources: &[Source]) -> Option<Self> {
        let first = |security: bool| {
            sources
                .iter()
                .filter(|source| source.components.iter().any(|name| name == "main"))
                .find(|source| {
                    let mut suites = source.suites.iter();
                    suites.any(|suite| debian_suite(suite) == Some(security))
                })
        };
        let archive = first(false)?;
        Some(Self {
            archive: archive.uris.first()?.clone(),
            security: first(true).and_then(|source| source.uris.first().cloned()),
            keyring: archive.signed_by.as_ref().map(PathBuf::from),
        })
    }
}

/// Whether a suite is one of Debian's: `Some(true)` for its security updates.
fn debian_suite(suite: &str) -> Option<bool> {
    let (name, rest) = match suite.find(['-', '/']) {
        Some(at) => suite.split_at(at),
        None => (suite, ""),
    };
    if !SUITES.contains(&name) {
        return None;
    }
    match rest {
        "" => Some(false),
        "-security" | "/updates" => Some(true),
        _ => None,
    }
}

/// `deb [signed-by=/key] URI suite component ...`, one per line.
fn one_line_sources(text: &str) -> Vec<Source> {
    text.lines().filter_map(one_line_source).collect()
}

fn one_line_source(line: &str) -> Option<Source> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t']) {
        return None;
    }
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let uri = words.next()?;
    let suite = words.next()?;
    let mut options = options.split_whitespace();
    Some(Source {
        uris: vec![uri],
        suites: vec![suite],
        components: words.collect(),
        signed_by: options
            .find_map(|option| option.strip_prefix("signed-by="))
            .filter(|value| value.starts_with('/'))
            .map(str::to_owned),
    })
}

/// The newer format: `Field: value` stanzas with empty lines between them.
fn stanza_sources(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut stanza: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            sources.extend(stanza_source(&stanza));
            stanza.clear();
        } else if line.starts_with('#') {
            // Comments may stand inside a stanza.
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((field, value)) = line.split_once(':') {
            stanza.push((field.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn stanza_source(stanza: &[(String, String)]) -> Option<Source> {
    let value = |name: &str| {
        let mut fields = stanza.iter();
        fields
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    };
    let words = |name: &str| -> Vec<String> {
        let words = value(name).unwrap_or_default().split_whitespace();
        words.map(str::to_owned).collect()
    };
    let off = value("enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
    if off || !words("types").iter().any(|kind| kind == "deb") {
        return None;
    }
    Some(Source {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        // A key may also be written into the file itself; then Debian's own key ring is used.
        signed_by: value("signed-by")
            .filter(|value| value.starts_with('/'))
            .map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirrors(list: &str, parts: &[(&str, &str)]) -> Result<Mirrors, NoMirror> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("sources.list"), list).unwrap();
        fs::create_dir(folder.path().join("sources.list.d")).unwrap();
        for (name, text) in parts {
            fs::write(folder.path().join("sources.list.d").join(name), text).unwrap();
        }
        Mirrors::of_host(folder.path())
    }

    #[test]
    fn one_line_format() {
        let list = "# comment\n\
            deb-src http://m.example/debian bookworm main\n\
            deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian bookworm main contrib # x\n\
            deb http://s.example/debian-security bookworm-security main\n";
        let found = mirrors(list, &[]).unwrap();
        assert_eq!(found.archive, "http://m.example/debian");
        assert_eq!(
            found.security.as_deref(),
            Some("http://s.example/debian-security")
        );
        assert_eq!(found.keyring.as_deref(), Some(Path::new("/k.gpg")));
    }

    #[test]
    fn stanza_format_with_comments_and_other_peoples_sources() {
        let debian = "Types: deb\n# comment\nURIs: http://m.example/debian\n\
            Suites: bookworm\n  bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\n\
            Types: deb\nURIs: http://s.example/debian-security\nSuites: bookworm-security\n\
            Components: main\n";
        let other = "deb https://other.example/apt sdk-bookworm main\n";
        let found = mirrors("", &[("a.list", other), ("debian.sources", debian)]).unwrap();
        assert_eq!(found.archive, "http://m.example/debian");
        assert_eq!(
            found.security.as_deref(),
            Some("http://s.example/debian-security")
        );
    }

    #[test]
    fn disabled_sources_and_hosts_without_debian_have_no_mirror() {
        let off = "Enabled: no\nTypes: deb\nURIs: http://m.example/debian\nSuites: trixie\n\
            Components: main\n";
        assert!(mirrors("", &[("debian.sources", off)]).is_err());
        let ubuntu = "deb http://u.example/ubuntu noble main\n";
        let error = mirrors(ubuntu, &[]).unwrap_err();
        assert!(error.to_string().contains("no Debian mirror"), "{error}");
    }

    #[test]
    fn odd_lines_do_no_harm() {
        for line in [
            "deb",
            "deb [",
            "deb [x] ",
            "deb http://x",
            "debris http://x y main",
        ] {
            assert!(mirrors(line, &[]).is_err(), "{line}");
        }
    }
}
