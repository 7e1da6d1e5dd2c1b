//! The URL to ask, taken apart.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use rustls_pki_types::ServerName;

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// gRPC's health service behind a unix socket.
    Grpc(PathBuf),
    /// A page of a web server.
    Http(Target),
}

impl Question {
    pub(crate) fn parse(url: &str) -> Result<Self, BadUrl> {
        match url.strip_prefix("grpc+unix://") {
            Some(path) if path.starts_with('/') => Ok(Self::Grpc(path.into())),
            Some(_) => Err(BadUrl::Socket),
            None => Target::parse(url).map(Self::Http),
        }
    }
}

/// How to talk to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// Where to ask and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query, as they stand in the request.
    pub(crate) path: String,
}

/// The text is no URL that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadUrl {
    #[error("it must begin with http://, https:// or grpc+unix://")]
    Scheme,
    #[error("grpc+unix:// must be followed by the absolute path of a socket")]
    Socket,
    #[error("the host is missing or not a name or address")]
    Host,
    #[error("the port must be a number from 1 to 65535")]
    Port,
    #[error("the path has a space or a control character")]
    Path,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self, BadUrl> {
        let (scheme, rest) = if let Some(rest) = url.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else if let Some(rest) = url.strip_prefix("http://") {
            (Scheme::Http, rest)
        } else {
            return Err(BadUrl::Scheme);
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        // Into the request line it goes as it is: it must not be able to add another one.
        if path.chars().any(|c| !c.is_ascii_graphic()) {
            return Err(BadUrl::Path);
        }
        let default = if scheme == Scheme::Https { 443 } else { 80 };
        let (host, port) = split_port(authority, default)?;
        if ServerName::try_from(host).is_err() {
            return Err(BadUrl::Host);
        }
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }

    /// The value of the Host header.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub(crate) fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }
}

fn split_port(authority: &str, default: u16) -> Result<(&str, u16), BadUrl> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(BadUrl::Host)?;
        let port = if rest.is_empty() {
            None
        } else {
            Some(rest.strip_prefix(':').ok_or(BadUrl::Port)?)
        };
        (host, port)
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    match port.map(str::parse) {
        None => Ok((host, default)),
        Some(Ok(0) | Err(_)) => Err(BadUrl::Port),
        Some(Ok(port)) => Ok((host, port)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let target = Target::parse("https://[::1]:6443/readyz?verbose").unwrap();
        assert_eq!((target.host.as_str(), target.port), ("::1", 6443));
        assert_eq!(target.path, "/readyz?verbose");
        assert_eq!(target.authority(), "[::1]:6443");
        assert_eq!(
            Target::parse("http://localhost").unwrap().authority(),
            "localhost:80"
        );
    }

    #[test]
    fn sockets_are_told_from_servers() {
        assert_eq!(
            Question::parse("grpc+unix:///run/kine/kine.sock"),
            Ok(Question::Grpc("/run/kine/kine.sock".into()))
        );
        assert_eq!(Question::parse("grpc+unix://run/s"), Err(BadUrl::Socket));
        let http = Question::parse("http://127.0.0.1:1/").unwrap();
        assert!(matches!(http, Question::Http(_)));
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for (url, error) in [
            ("127.0.0.1:80", BadUrl::Scheme),
            ("http://", BadUrl::Host),
            ("http://[::1", BadUrl::Host),
            ("http://a b/", BadUrl::Host),
            ("http://a:0/", BadUrl::Port),
            ("http://a:70000/", BadUrl::Port),
            ("http://[::1]80/", BadUrl::Port),
            ("http://a/x\r\nHost: b", BadUrl::Path),
        ] {
            assert_eq!(Target::parse(url), Err(error), "{url}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_handled(text: String) {
            let _ = Target::parse(&text);
            let _ = Target::parse(&format!("http://{text}"));
            let _ = Question::parse(&format!("grpc+unix://{text}"));
        }
    }
}
