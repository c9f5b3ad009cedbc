//! The parts of a PE file (Microsoft PE format) that say who vouches for it: certificates and sections. For people
//! and for choosing; firmware does the verifying.

/// A PE file, as far as its headers could be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pe<'a> {
    file: &'a [u8],
    /// Where the signature `PE\0\0` stands.
    header: usize,
    optional: usize,
}

impl<'a> Pe<'a> {
    pub(super) fn read(file: &'a [u8]) -> Option<Self> {
        let header = word(file, 0x3c)?;
        if file.get(header..)?.first_chunk() != Some(b"PE\0\0") {
            return None;
        }
        let optional = header.checked_add(24)?;
        Some(Self {
            file,
            header,
            optional,
        })
    }

    /// The bytes of data directory 4, which holds a file offset rather than an address.
    pub(super) fn security_directory(&self) -> Option<&'a [u8]> {
        let magic = half(self.file, self.optional)?;
        let directories = self
            .optional
            .checked_add(if magic == 0x20b { 112 } else { 96 })?;
        let entry = directories.checked_add(4 * 8)?;
        let (start, len) = (
            word(self.file, entry)?,
            word(self.file, entry.checked_add(4)?)?,
        );
        if len == 0 {
            return None;
        }
        self.file.get(start..start.checked_add(len)?)
    }

    /// A section's bytes in the file, without the padding to the file's alignment.
    pub(super) fn section(&self, name: &[u8]) -> Option<&'a [u8]> {
        let count = half(self.file, self.header.checked_add(6)?)?;
        let table = self
            .optional
            .checked_add(half(self.file, self.header.checked_add(20)?)?)?;
        for number in 0..count.min(MAX_SECTIONS) {
            let row = self
                .file
                .get(table.checked_add(number * 40)?..)?
                .first_chunk::<40>()?;
            if self.section_name(row) != Some(name) {
                continue;
            }
            let (size, raw, start) = (word(row, 8)?, word(row, 16)?, word(row, 20)?);
            let len = if size == 0 { raw } else { size.min(raw) };
            return self.file.get(start..start.checked_add(len)?);
        }
        None
    }
}

impl<'a> Pe<'a> {
    /// A name of more than eight bytes is a slash and its place in the string table, which follows the symbols.
    fn section_name<'b>(&self, row: &'b [u8]) -> Option<&'b [u8]>
    where
        'a: 'b,
    {
        let own = until_nul(row.get(..8)?);
        let Some(place) = own.strip_prefix(b"/") else {
            return Some(own);
        };
        let place: usize = std::str::from_utf8(place).ok()?.parse().ok()?;
        let symbols = word(self.file, self.header.checked_add(12)?)?;
        let count = word(self.file, self.header.checked_add(16)?)?;
        let at = symbols
            .checked_add(count.checked_mul(18)?)?
            .checked_add(place)?;
        Some(until_nul(self.file.get(at..)?))
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let value = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    usize::try_from(value).ok()
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

/// More than any loader has.
const MAX_SECTIONS: usize = 96;
