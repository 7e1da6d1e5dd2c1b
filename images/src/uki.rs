//! Unified kernel images: systemd's UEFI stub with kernel, initramfs and command line as sections.
//!
//! Done as `ukify` does it: sections are appended in its order, aligned as the stub says, and
//! `.linux` comes last with room for the kernel to grow into when it is run in place.

use std::fmt;

/// The parts of a unified kernel image.
#[derive(Debug, Clone, Copy)]
pub struct Uki<'a> {
    /// `linuxx64.efi.stub` of systemd (Debian package systemd-boot-efi).
    pub stub: &'a [u8],
    /// The kernel, itself an EFI program (`bzImage`).
    pub linux: &'a [u8],
    /// The initramfs.
    pub initrd: &'a [u8],
    /// The kernel command line.
    pub command_line: &'a str,
    /// The kernel's release, as `uname -r` shows it.
    pub uname: &'a str,
    /// Content of `os-release`.
    pub os_release: &'a [u8],
}

/// Why an image could not be put together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AssembleUkiError {
    /// The sum of the parts exceeds what a PE file can address.
    #[error("section {section} makes the unified kernel image larger than 4 GiB")]
    TooLarge {
        /// The section that did not fit.
        section: &'static str,
    },
    /// The stub has no room for another section header.
    #[error(
        "the header of the EFI stub has no room for section {section}: use a stub of systemd 254 or later"
    )]
    HeaderFull {
        /// The section that did not fit.
        section: &'static str,
    },
    /// A part is not what it should be.
    #[error("the {part} is not an EFI program: {reason}")]
    NotEfi {
        /// Which part.
        part: Part,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// A part that must be an EFI program itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The kernel.
    Kernel,
    /// systemd's stub.
    Stub,
}

/// Flags of section headers: initialized data or code, and readable.
const INITIALIZED_DATA: u32 = 0x4000_0040;
const CODE: u32 = 0x4000_0020;

const SECTION_HEADER: usize = 40;

impl Uki<'_> {
    /// Puts the parts together; the same parts always give the same bytes.
    pub fn assemble(&self) -> Result<Vec<u8>, AssembleUkiError> {
        let kernel = Pe::parse(self.linux).map_err(|reason| AssembleUkiError::NotEfi {
            part: Part::Kernel,
            reason,
        })?;
        let stub = Pe::parse(self.stub).map_err(|reason| AssembleUkiError::NotEfi {
            part: Part::Stub,
            reason,
        })?;
        let room = usize::try_from(kernel.image_size).unwrap_or(usize::MAX);

        let mut image = Image {
            bytes: self.stub.to_vec(),
            pe: stub,
        };
        for (section, content) in [
            (".osrel", self.os_release),
            (".cmdline", self.command_line.as_bytes()),
            (".uname", self.uname.as_bytes()),
            (".initrd", self.initrd),
        ] {
            image.append(section, content, content.len(), INITIALIZED_DATA)?;
        }
        image.append(".linux", self.linux, self.linux.len().max(room), CODE)?;
        Ok(image.finish())
    }
}

/// A section of a finished image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Where it starts in the file.
    pub offset: usize,
    /// Its bytes in the file, padding included.
    pub file_len: usize,
    /// Its bytes in memory; the file has no more of it than `file_len`.
    pub memory_len: usize,
}

/// Finds a section by its name; `None` when `image` has none or is no PE file.
pub fn find_section(image: &[u8], name: &str) -> Option<Section> {
    let pe = Pe::parse(image).ok()?;
    let mut wanted = [0; 8];
    wanted
        .get_mut(..name.len())?
        .copy_from_slice(name.as_bytes());
    let header = (0..usize::from(pe.section_count))
        .filter_map(|n| image.get(pe.sections + n * SECTION_HEADER..))
        .find(|header| header.starts_with(&wanted))?;
    let field = |at| usize::try_from(u32_at(header, at)?).ok();
    let section = Section {
        offset: field(20)?,
        file_len: field(16)?,
        memory_len: field(8)?,
    };
    let end = section.offset.checked_add(section.file_len)?;
    (end <= image.len()).then_some(section)
}

/// What we need from the headers of a PE file.
#[derive(Debug, Clone, Copy)]
struct Pe {
    /// Offset of the COFF file header.
    coff: usize,
    /// Offset of the optional header.
    optional: usize,
    /// Offset of the first section header.
    sections: usize,
    section_count: u16,
    section_alignment: u32,
    file_alignment: u32,
    image_size: u32,
    headers_size: u32,
    /// First address after the last section.
    end: u32,
}

impl Pe {
    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        const CUT: &str = "its PE header is cut off";
        if !bytes.starts_with(b"MZ") {
            return Err("it does not start with MZ");
        }
        let at = usize::try_from(u32_at(bytes, 0x3c).ok_or(CUT)?).map_err(|_| CUT)?;
        if bytes
            .get(at..)
            .is_none_or(|rest| !rest.starts_with(b"PE\0\0"))
        {
            return Err("it has no PE signature");
        }
        let coff = at + 4;
        let optional = coff + 20;
        if u16_at(bytes, optional).ok_or(CUT)? != 0x20b {
            return Err("it is not a 64-bit PE file");
        }
        let section_count = u16_at(bytes, coff + 2).ok_or(CUT)?;
        let sections = optional + usize::from(u16_at(bytes, coff + 16).ok_or(CUT)?);
        let field = |offset| u32_at(bytes, optional + offset).ok_or(CUT);
        let (section_alignment, file_alignment) = (field(32)?, field(36)?);
        let power = |n: u32| n.is_power_of_two() && n >= 16;
        if !power(section_alignment) || !power(file_alignment) {
            return Err("its alignments are not powers of two");
        }
        let mut end = 0;
        for n in 0..usize::from(section_count) {
            let header = sections + n * SECTION_HEADER;
            let size = u32_at(bytes, header + 8).ok_or(CUT)?;
            let address = u32_at(bytes, header + 12).ok_or(CUT)?;
            end = end.max(
                address
                    .checked_add(size)
                    .ok_or("a section ends beyond 4 GiB")?,
            );
        }
        Ok(Self {
            coff,
            optional,
            sections,
            section_count,
            section_alignment,
            file_alignment,
            image_size: field(56)?,
            headers_size: field(60)?,
            end,
        })
    }
}

/// A PE file under construction.
struct Image {
    bytes: Vec<u8>,
    pe: Pe,
}

impl Image {
    fn append(
        &mut self,
        section: &'static str,
        content: &[u8],
        virtual_size: usize,
        flags: u32,
    ) -> Result<(), AssembleUkiError> {
        let too_large = || AssembleUkiError::TooLarge { section };
        let header = self.pe.sections + usize::from(self.pe.section_count) * SECTION_HEADER;
        let headers_end = usize::try_from(self.pe.headers_size).unwrap_or(0);
        if header + SECTION_HEADER > headers_end {
            return Err(AssembleUkiError::HeaderFull { section });
        }
        let number = |n: usize| u32::try_from(n).map_err(|_| too_large());
        let align = |n: u32, to: u32| n.checked_next_multiple_of(to).ok_or_else(too_large);
        let address = align(self.pe.end, self.pe.section_alignment)?;
        let virtual_size = number(virtual_size)?;
        let offset = align(number(self.bytes.len())?, self.pe.file_alignment)?;
        let raw_size = align(number(content.len())?, self.pe.file_alignment)?;
        let end = offset.checked_add(raw_size).ok_or_else(too_large)?;

        self.bytes
            .resize(usize::try_from(offset).map_err(|_| too_large())?, 0);
        self.bytes.extend_from_slice(content);
        self.bytes
            .resize(usize::try_from(end).map_err(|_| too_large())?, 0);

        self.put(header, &[0; SECTION_HEADER]);
        self.put(header, section.as_bytes());
        for (at, value) in [
            (8, virtual_size),
            (12, address),
            (16, raw_size),
            (20, offset),
            (36, flags),
        ] {
            self.put(header + at, &value.to_le_bytes());
        }
        if flags == INITIALIZED_DATA {
            let at = self.pe.optional + 8;
            let size = u32_at(&self.bytes, at)
                .unwrap_or(0)
                .wrapping_add(virtual_size);
            self.put(at, &size.to_le_bytes());
        }
        self.pe.section_count += 1;
        self.pe.end = address.checked_add(virtual_size).ok_or_else(too_large)?;
        // Checked here, so that finish() cannot fail.
        self.pe.image_size = align(self.pe.end, self.pe.section_alignment)?;
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        let pe = self.pe;
        self.put(pe.coff + 2, &pe.section_count.to_le_bytes());
        self.put(pe.optional + 56, &pe.image_size.to_le_bytes());
        // The checksum is optional for EFI programs; zero says that there is none.
        self.put(pe.optional + 64, &[0; 4]);
        self.bytes
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(offset).zip(bytes) {
            *to = *from;
        }
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes
        .get(offset..)?
        .first_chunk()
        .map(|b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes
        .get(offset..)?
        .first_chunk()
        .map(|b| u32::from_le_bytes(*b))
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Stub => "EFI stub",
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
