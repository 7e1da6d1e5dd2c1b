//! Who can read which secret: tried, not computed.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use keelson_workload::Reader;

/// The command by which this program runs itself as another user.
pub(crate) const TRY_READ: &str = "try-read";

/// All regular files below the given folders.
pub(crate) fn files(folders: &[&Path]) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    for folder in folders {
        walk(folder, &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn walk(folder: &Path, files: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path().to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// Runs this program as `NAME:UID:GID` and lets it try.
pub(crate) fn reader(user: &str, files: &[String]) -> io::Result<Reader> {
    let mut parts = user.split(':');
    let (Some(name), Some(Ok(uid)), Some(Ok(gid))) = (
        parts.next(),
        parts.next().map(str::parse),
        parts.next().map(str::parse),
    ) else {
        return Err(io::Error::other(format!("{user} is not NAME:UID:GID")));
    };
    let output = Command::new(std::env::current_exe()?)
        .arg(TRY_READ)
        .args(files)
        .uid(uid)
        .gid(gid)
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("as {name}: {said}")));
    }
    Ok(Reader {
        user: name.to_owned(),
        files: serde_json::from_slice(&output.stdout)?,
    })
}

/// Those that this process can open.
pub(crate) fn readable<'a>(files: &[&'a str]) -> Vec<&'a str> {
    files
        .iter()
        .copied()
        .filter(|path| File::open(path).is_ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_and_tried() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("etcd")).unwrap();
        let key = folder.path().join("etcd/peer.pem");
        fs::write(&key, "key").unwrap();
        let found = files(&[folder.path()]).unwrap();
        assert_eq!(found, [key.to_string_lossy()]);
        let missing = format!("{}-not", found[0]);
        assert_eq!(readable(&[&found[0], &missing]), [found[0].as_str()]);
        assert!(reader("nobody", &found).is_err());
    }
}
