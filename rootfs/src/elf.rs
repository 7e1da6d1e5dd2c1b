//! What a program needs at run time: its interpreter and the shared libraries it names.

use object::elf;
use object::read::elf::{ElfFile, FileHeader, ProgramHeader};
use thiserror::Error;

/// Run-time needs of one ELF file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Path of the dynamic linker; none in a static program or a library.
    pub interpreter: Option<String>,
    /// File names of shared libraries, in the order the file lists them.
    pub libraries: Vec<String>,
}

/// The file is not an ELF file or a damaged one.
#[derive(Debug, Error)]
#[error("not a readable ELF file")]
pub struct ElfError(#[source] object::read::Error);

/// Reads the needs of an ELF file, of 32 or 64 bits.
pub(crate) fn needs(data: &[u8]) -> Result<Needs, ElfError> {
    // e_ident[EI_CLASS]; anything else is left to the parser to refuse.
    let found = if data.get(4) == Some(&elf::ELFCLASS32.0) {
        read::<elf::FileHeader32<object::Endianness>>(data)
    } else {
        read::<elf::FileHeader64<object::Endianness>>(data)
    };
    found.map_err(ElfError)
}

fn read<Elf: FileHeader>(data: &[u8]) -> object::read::Result<Needs> {
    let file = ElfFile::<Elf>::parse(data)?;
    let mut needs = Needs::default();
    for segment in file.elf_program_headers() {
        if let Some(path) = segment.interpreter(file.endian(), data)? {
            needs.interpreter = Some(String::from_utf8_lossy(path).into_owned());
        }
    }
    let table = file.elf_dynamic_table()?;
    for entry in table.iter().filter(|entry| entry.tag == elf::DT_NEEDED) {
        let name = table.string(entry)?;
        needs
            .libraries
            .push(String::from_utf8_lossy(name).into_owned());
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_test_program_names_its_libraries() {
        let data = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = needs(&data).unwrap();
        assert!(
            needs
                .libraries
                .iter()
                .any(|name| name.starts_with("libc.so"))
        );
        assert!(needs.interpreter.unwrap().contains("ld-linux"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(data: Vec<u8>) {
            let _ = needs(&data);
            let with_magic = [&b"\x7fELF\x02\x01\x01"[..], &data].concat();
            let _ = needs(&with_magic);
        }
    }
}
