//! The table of mounts (/proc/self/mountinfo) and where in it a path leads.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: u32,
    pub(crate) parent: u32,
    pub(crate) target: PathBuf,
    pub(crate) options: String,
    pub(crate) file_system: String,
    pub(crate) source: Vec<u8>,
    pub(crate) super_options: String,
}

/// All lines; one that is malformed is left out.
pub(crate) fn parse(text: &[u8]) -> Vec<Entry> {
    text.split(|byte| *byte == b'\n')
        .filter_map(entry)
        .collect()
}

/// The mount in which the walk along a mount's target ends, and all it goes through on the way;
/// the mount itself is the last of them unless another one hides it.
pub(crate) fn way<'a>(entries: &'a [Entry], to: &Entry) -> Vec<&'a Entry> {
    let mut way: Vec<&Entry> = entries
        .iter()
        // The root's parent is not in the table, or the root itself.
        .filter(|entry| {
            let above = |other: &&Entry| other.id == entry.parent && other.id != entry.id;
            !entries.iter().any(|other| above(&other))
        })
        .take(1)
        .collect();
    while let Some(here) = way.last() {
        let next = entries
            .iter()
            .filter(|entry| entry.parent == here.id && entry.id != here.id)
            .filter(|entry| to.target.starts_with(&entry.target))
            // The walk meets the shortest one first.
            .min_by_key(|entry| entry.target.as_os_str().len());
        match next {
            // A table with a circle is none of the kernel's.
            Some(next) if way.len() <= entries.len() => way.push(next),
            _ => break,
        }
    }
    way
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn entry(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let (_device, _root) = (fields.next()?, fields.next()?);
    let target = unescape(fields.next()?);
    let options = text(fields.next()?);
    // Any number of optional fields, ended by a dash.
    fields.by_ref().find(|field| *field == b"-")?;
    let file_system = text(fields.next()?);
    let source = unescape(fields.next()?);
    let super_options = text(fields.next().unwrap_or_default());
    Some(Entry {
        id,
        parent,
        target: OsString::from_vec(target).into(),
        options,
        file_system,
        source,
        super_options,
    })
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// The kernel writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        if let (b'\\', Some(byte)) = (first, after.get(..3).and_then(octal)) {
            bytes.push(byte);
            rest = after.get(3..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    bytes
}

fn octal(digits: &[u8]) -> Option<u8> {
    // A sign would be taken for part of a number.
    if !digits.iter().all(|digit| matches!(digit, b'0'..=b'7')) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 0:19 / / ro,relatime - erofs /dev/mapper/root ro\n\
23 22 254:9 / /var rw,nosuid shared:1 master:2 - ext4 /dev/vda9 rw,discard\n\
24 23 0:40 / /var/nfs rw - nfs4 server:/export rw,vers=4.2\n\
25 24 0:41 / /var/nfs/in\\040side rw - tmpfs tmpfs rw\n\
26 22 0:42 / /run rw - tmpfs tmpfs rw,size=25%\n\
27 26 0:43 / /run rw - nfs4 server:/other rw\n\
28 26 0:44 / /run/hidden rw - tmpfs tmpfs rw\n\
29 22 0:45 / /variable rw - tmpfs tmp\\134fs rw\n";

    fn ids(target: &str) -> Vec<u32> {
        let entries = parse(TABLE.as_bytes());
        let to = entries
            .iter()
            .find(|entry| entry.target.as_path() == std::path::Path::new(target))
            .unwrap();
        way(&entries, to).iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn lines_are_taken_apart() {
        let entries = parse(TABLE.as_bytes());
        assert_eq!(entries.len(), 8);
        assert_eq!(
            entries[1],
            Entry {
                id: 23,
                parent: 22,
                target: "/var".into(),
                options: "rw,nosuid".to_owned(),
                file_system: "ext4".to_owned(),
                source: b"/dev/vda9".to_vec(),
                super_options: "rw,discard".to_owned(),
            }
        );
        assert_eq!(entries[3].target, PathBuf::from("/var/nfs/in side"));
        assert_eq!(entries[7].source, b"tmp\\fs");
    }

    #[test]
    fn the_way_goes_through_every_mount_above() {
        assert_eq!(ids("/"), [22]);
        assert_eq!(ids("/var"), [22, 23]);
        assert_eq!(ids("/var/nfs/in side"), [22, 23, 24, 25]);
        // Covered by another mount: the way ends there, not in what was meant.
        assert_eq!(ids("/run/hidden"), [22, 26, 27]);
        // No prefix by letters.
        assert_eq!(ids("/variable"), [22, 29]);
    }

    #[test]
    fn odd_escapes_stay() {
        assert_eq!(unescape(b"a\\040b\\"), b"a b\\");
        assert_eq!(unescape(b"\\777\\+12\\12"), b"\\777\\+12\\12");
        assert_eq!(unescape(b"\\303\\274"), "ü".as_bytes());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, pairs: Vec<(u8, u8)>) {
            let _ = parse(&bytes);
            // Any shape of table, circles included.
            let table: String = pairs
                .iter()
                .map(|(id, parent)| format!("{id} {parent} 0:1 / / rw - tmpfs x rw\n"))
                .collect();
            let entries = parse(table.as_bytes());
            for entry in &entries {
                let _ = way(&entries, entry);
            }
        }
    }
}
