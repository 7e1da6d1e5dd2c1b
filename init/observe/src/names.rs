//! Names of users and groups by number.

use std::collections::BTreeMap;

use crate::root::Root;

/// The names of the image; whoever has none is shown by number.
#[derive(Debug, Default)]
pub(crate) struct Names {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Names {
    /// Reads `/etc/passwd` and `/etc/group`; a file that cannot be read has no names.
    pub(crate) fn read(root: &Root) -> Self {
        let table = |path| root.text(path).map(|text| parse(&text)).unwrap_or_default();
        Self {
            users: table("/etc/passwd"),
            groups: table("/etc/group"),
        }
    }

    pub(crate) fn user(&self, uid: u32) -> String {
        name(&self.users, uid)
    }

    pub(crate) fn group(&self, gid: u32) -> String {
        name(&self.groups, gid)
    }
}

fn name(table: &BTreeMap<u32, String>, number: u32) -> String {
    table
        .get(&number)
        .cloned()
        .unwrap_or_else(|| number.to_string())
}

/// passwd(5) and group(5) agree on the first three fields. The first name of a number counts.
fn parse(text: &str) -> BTreeMap<u32, String> {
    let mut table = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(Ok(number))) = (
            fields.next(),
            fields.next(),
            fields.next().map(str::parse::<u32>),
        ) {
            table.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_names_or_stay_numbers() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0::/:/\nbroken\ntoor:x:0:0::/:/\netcd:x:911:911::/:/\n",
        )
        .unwrap();
        let names = Names::read(&Root::at(dir.path()));
        assert_eq!(names.user(0), "root");
        assert_eq!(names.user(911), "etcd");
        assert_eq!(names.user(912), "912");
        assert_eq!(names.group(0), "0");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = parse(&text);
        }
    }
}
