//! The kubeconfig people use: the node's own, with the address at which the host reaches it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};

/// The server the node writes: its own loopback address.
const NODE_SERVER: &str = "https://127.0.0.1:6443";

/// Points the node's kubeconfig at a forwarded port.
pub(crate) fn rewrite(text: &str, port: u16) -> anyhow::Result<String> {
    if !text.contains(NODE_SERVER) {
        bail!("the node's kubeconfig does not name the server {NODE_SERVER}");
    }
    Ok(text.replace(NODE_SERVER, &format!("https://127.0.0.1:{port}")))
}

/// Writes it for its owner alone: it carries a key.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let temporary = path.with_extension("new");
        // One that an interrupted run left may have other permissions.
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_port_is_replaced_and_nothing_else() {
        let text = "clusters:\n- cluster:\n    server: https://127.0.0.1:6443\n";
        let expected = "clusters:\n- cluster:\n    server: https://127.0.0.1:40001\n";
        assert_eq!(rewrite(text, 40001).unwrap(), expected);
        assert!(rewrite("server: https://10.0.0.1:6443", 1).is_err());
    }

    #[test]
    fn only_the_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out/kubeconfig");
        write(&path, "a").unwrap();
        write(&path, "b").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "b");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
