//! The contexts file: which nodes a person works with, and what proves who they are.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use keelson_durable::ReplaceError;
use serde::{Deserialize, Serialize};
use serde_saphyr::options::DuplicateKeyPolicy;

use crate::Endpoint;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contexts {
    /// The context that is used when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One group of nodes with one authority, and how to show who one is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    /// The nodes.
    pub endpoints: Vec<Endpoint>,
    /// Certificates of the authorities that nodes are trusted by (PEM).
    pub authority: String,
    /// The person's certificate (PEM).
    pub certificate: String,
    /// Its key (PEM).
    pub key: String,
    /// The name in the nodes' certificates, when it is not the one they are reached by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

// The key stays out of logs and panics.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("endpoints", &self.endpoints)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// The contexts cannot be read, written or used.
#[derive(Debug, thiserror::Error)]
pub enum ContextsError {
    /// Its folder cannot be made.
    #[error("cannot make the folder {}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not YAML of this form.
    #[error("{} is not a contexts file", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<serde_saphyr::Error>,
    },
    /// It cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write the contexts")]
    Replace(#[from] ReplaceError),
    /// It cannot be put into YAML.
    #[error("cannot write the contexts as YAML")]
    Serialize(#[source] serde_saphyr::SerializeError),
    /// No context of that name.
    #[error("there is no context {name:?}; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// Neither asked for nor set.
    #[error(
        "no context is chosen; there are: {known}. Choose one with --context or `keelsonctl config use`"
    )]
    NoneChosen {
        /// Those that exist.
        known: String,
    },
    /// The file is empty or not there.
    #[error(
        "there is no context yet ({} holds none); `keelsonctl apply --code` makes one for a node in maintenance, `keelsonctl config add` takes one over from a file", .path.display()
    )]
    NoneExist {
        /// Where it was looked for.
        path: PathBuf,
    },
}

/// Where the contexts are: what KEELSONCONFIG says, else `~/.config/keelson/config`; none
/// without either variable.
#[must_use]
pub fn contexts_path(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    set("KEELSONCONFIG")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".config/keelson/config")))
}

/// Keys of people are for nobody else.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

impl Contexts {
    /// Reads the file; without one there are no contexts.
    ///
    /// # Errors
    /// When it exists and cannot be read or understood.
    pub fn load(path: &Path) -> Result<Self, ContextsError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => {
                return Err(ContextsError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let options = serde_saphyr::options! {
            duplicate_keys: DuplicateKeyPolicy::Error,
            strict_booleans: true,
            // The lines around an error may hold a key.
            with_snippet: false,
        };
        serde_saphyr::from_str_with_options(&text, options).map_err(|source| ContextsError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Writes the file, for its owner only.
    ///
    /// # Errors
    /// When it cannot be written; the old file is then untouched.
    pub fn save(&self, path: &Path) -> Result<(), ContextsError> {
        // A link stays a link: people keep such files in repositories of their own.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            DirBuilder::new()
                .recursive(true)
                .mode(FOLDER_MODE)
                .create(folder)
                .map_err(|source| ContextsError::Folder {
                    path: folder.to_owned(),
                    source,
                })?;
        }
        let text = serde_saphyr::to_string(self).map_err(ContextsError::Serialize)?;
        keelson_durable::replace(&path, text.as_bytes(), FILE_MODE)?;
        Ok(())
    }

    /// The context that is named, else the current one, else the only one; `path` is for the
    /// message.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn choose(
        &self,
        name: Option<&str>,
        path: &Path,
    ) -> Result<(&str, &Context), ContextsError> {
        let known = || self.contexts.keys().cloned().collect::<Vec<_>>().join(", ");
        if self.contexts.is_empty() {
            let path = path.to_owned();
            return Err(ContextsError::NoneExist { path });
        }
        match name.or(self.current.as_deref()) {
            Some(name) => self
                .contexts
                .get_key_value(name)
                .map(|(name, context)| (name.as_str(), context))
                .ok_or_else(|| ContextsError::Unknown {
                    name: name.to_owned(),
                    known: known(),
                }),
            None => match (self.contexts.first_key_value(), self.contexts.len()) {
                (Some((name, context)), 1) => Ok((name, context)),
                _ => Err(ContextsError::NoneChosen { known: known() }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn context(endpoint: &str) -> Context {
        Context {
            endpoints: vec![endpoint.parse().unwrap()],
            authority: "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_owned(),
            certificate: "certificate\n".to_owned(),
            key: "secret\n".to_owned(),
            server_name: None,
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/config");
        let mut contexts = Contexts::default();
        contexts
            .contexts
            .insert("home".to_owned(), context("[2001:db8::1]:9441"));
        contexts
            .contexts
            .insert("true".to_owned(), context("192.0.2.1"));
        contexts.current = Some("home".to_owned());
        contexts.save(&path).unwrap();
        assert_eq!(Contexts::load(&path).unwrap(), contexts);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert!(!format!("{contexts:?}").contains("secret"));
    }

    #[test]
    fn a_linked_file_is_replaced_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        Contexts::default().save(&link).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(std::fs::read_to_string(&file).unwrap().contains("contexts"));
    }

    #[test]
    fn unknown_and_double_keys_are_errors_that_show_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let whole = "contexts:\n  a:\n    endpoints: [x]\n    authority: a\n    certificate: c\n    key: secret\n";
        std::fs::write(&path, whole).unwrap();
        Contexts::load(&path).unwrap();
        for more in [
            "    color: red\n",
            "    key: secret\n",
            "    endpoints: [y]\n",
        ] {
            std::fs::write(&path, format!("{whole}{more}")).unwrap();
            let ContextsError::Parse { source, .. } = Contexts::load(&path).unwrap_err() else {
                panic!("{more} must not be read");
            };
            assert!(!source.to_string().contains("secret"), "{source}");
        }
    }

    #[test]
    fn the_only_context_needs_no_choice() {
        let path = Path::new("/x");
        let mut contexts = Contexts::default();
        let none = contexts.choose(None, path).unwrap_err();
        assert!(matches!(none, ContextsError::NoneExist { .. }));
        contexts.contexts.insert("a".to_owned(), context("x"));
        assert_eq!(contexts.choose(None, path).unwrap().0, "a");
        contexts.contexts.insert("b".to_owned(), context("y"));
        let open = contexts.choose(None, path).unwrap_err().to_string();
        assert!(open.contains("a, b"), "{open}");
        contexts.current = Some("b".to_owned());
        assert_eq!(contexts.choose(None, path).unwrap().0, "b");
        assert_eq!(contexts.choose(Some("a"), path).unwrap().0, "a");
        assert!(contexts.choose(Some("c"), path).is_err());
    }

    #[test]
    fn the_variable_comes_before_the_home_folder() {
        let home = |name: &str| (name == "HOME").then(|| OsString::from("/home/ana"));
        assert_eq!(
            contexts_path(home),
            Some(PathBuf::from("/home/ana/.config/keelson/config"))
        );
        let both = |name: &str| Some(OsString::from(if name == "HOME" { "/h" } else { "/k" }));
        assert_eq!(contexts_path(both), Some(PathBuf::from("/k")));
        assert_eq!(contexts_path(|_| Some(OsString::new())), None);
    }
}
