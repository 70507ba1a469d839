//! Headers and PAX records, as POSIX.1-2017 has them (pax, "ustar Interchange Format" and
//! "pax Extended Header"), and GNU tar's sparse format 1.0.

use tar::{EntryType, Header, UstarHeader};

/// A tar archive is made of these.
pub(super) const BLOCK: u64 = 512;

/// The largest number in the twelve octal digits (less one) of a size or a time.
const OCTAL_MAX: u64 = 0o777_7777_7777;

/// What is known of a member before its contents.
pub(super) struct Member<'a> {
    /// Its name, of a directory without the slash at its end.
    pub(super) name: &'a [u8],
    pub(super) kind: Kind<'a>,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub(super) mode: u32,
    /// When it was modified: seconds from 1970, and nanoseconds after that second.
    pub(super) mtime: (i64, i64),
}

pub(super) enum Kind<'a> {
    /// A file, with its size.
    File(u64),
    /// A file with holes: bytes in the archive (map and data), and its real size.
    Sparse {
        stored: u64,
        real: u64,
    },
    Directory,
    /// With its target.
    Symlink(&'a [u8]),
    /// With the name of another member.
    HardLink(&'a [u8]),
}

impl Member<'_> {
    /// The blocks before its contents.
    pub(super) fn blocks(&self) -> Vec<u8> {
        let mut name = self.name.to_vec();
        let mut records = Records::default();
        let mut header = Header::new_ustar();
        let (kind, size, target) = match self.kind {
            Kind::File(size) => (EntryType::Regular, size, None),
            Kind::Sparse { stored, .. } => (EntryType::Regular, stored, None),
            Kind::Directory => {
                name.push(b'/');
                (EntryType::Directory, 0, None)
            }
            Kind::Symlink(target) => (EntryType::Symlink, 0, Some(target)),
            Kind::HardLink(target) => (EntryType::Link, 0, Some(target)),
        };
        header.set_entry_type(kind);
        header.set_mode(self.mode);
        header.set_uid(0);
        header.set_gid(0);
        if size > OCTAL_MAX {
            records.add("size", size.to_string().as_bytes());
        }
        header.set_size(if size > OCTAL_MAX { 0 } else { size });
        let (seconds, nanos) = self.mtime;
        let whole = u64::try_from(seconds).ok().filter(|&whole| whole <= OCTAL_MAX);
        if nanos != 0 || whole.is_none() {
            records.add("mtime", decimal(seconds, nanos).as_bytes());
        }
        header.set_mtime(whole.unwrap_or(0));
        if let Some(fields) = header.as_ustar_mut() {
            self.set_names(fields, &name, target, &mut records);
        }
        header.set_cksum();
        let mut blocks = records.member();
        blocks.extend_from_slice(header.as_bytes());
        blocks
    }

    fn set_names(
        &self,
        fields: &mut UstarHeader,
        name: &[u8],
        target: Option<&[u8]>,
        records: &mut Records,
    ) {
        if let Kind::Sparse { real, .. } = self.kind {
            records.add("GNU.sparse.major", b"1");
            records.add("GNU.sparse.minor", b"0");
            records.add_name("GNU.sparse.name", name);
            records.add("GNU.sparse.realsize", real.to_string().as_bytes());
            // What a reader that does not know the format makes of it, as GNU tar has it.
            let at = name.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
            let (directory, last) = name.split_at(at);
            let instead = [directory, b"GNUSparseFile.0/", last].concat();
            if !set_split(fields, &instead) {
                set_cut(&mut fields.name, &instead);
            }
        } else if !set_split(fields, name) {
            set_cut(&mut fields.name, name);
            records.add_name("path", name);
        }
        if let Some(target) = target {
            set_cut(&mut fields.linkname, target);
            if target.len() > fields.linkname.len() {
                records.add_name("linkpath", target);
            }
        }
    }
}

/// Puts a name in the two fields that ustar has for it, if it fits: whole, or divided at a slash.
fn set_split(fields: &mut UstarHeader, name: &[u8]) -> bool {
    let (longest, longest_prefix) = (fields.name.len(), fields.prefix.len());
    if name.len() <= longest {
        set_cut(&mut fields.name, name);
        return true;
    }
    // The first slash after which the rest fits; a later one would leave a longer prefix.
    let earliest = name.len() - longest - 1;
    let slash = name[earliest..name.len() - 1].iter().position(|&b| b == b'/');
    match slash.map(|slash| slash + earliest) {
        Some(slash) if (1..=longest_prefix).contains(&slash) => {
            set_cut(&mut fields.prefix, &name[..slash]);
            set_cut(&mut fields.name, &name[slash + 1..]);
            true
        }
        Some(_) | None => false,
    }
}

fn set_cut(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

/// Seconds from 1970 as a decimal number. Before 1970 the kernel counts nanoseconds up from
/// the second before, a decimal fraction goes down.
fn decimal(seconds: i64, nanos: i64) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let sign = if total < 0 { "-" } else { "" };
    let (whole, fraction) =
        (total.unsigned_abs() / 1_000_000_000, total.unsigned_abs() % 1_000_000_000);
    if fraction == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction:09}") }
}

/// PAX records: `length keyword=value\n`, where the length counts itself.
#[derive(Default)]
struct Records {
    text: Vec<u8>,
    /// Whether a name is not UTF-8, which records are unless they say otherwise.
    binary: bool,
}

impl Records {
    fn add(&mut self, keyword: &str, value: &[u8]) {
        self.text.extend_from_slice(&record(keyword, value));
    }

    fn add_name(&mut self, keyword: &str, name: &[u8]) {
        self.binary |= std::str::from_utf8(name).is_err();
        self.add(keyword, name);
    }

    /// The member of type `x` that they make; nothing if there are none.
    fn member(self) -> Vec<u8> {
        if self.text.is_empty() {
            return Vec::new();
        }
        let mut text = if self.binary { record("hdrcharset", b"BINARY") } else { Vec::new() };
        text.extend_from_slice(&self.text);
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(text.len() as u64);
        if let Some(fields) = header.as_ustar_mut() {
            set_cut(&mut fields.name, b"PaxHeaders/records");
        }
        header.set_cksum();
        let padding = padding(text.len() as u64) as usize;
        let mut member = header.as_bytes().to_vec();
        member.extend_from_slice(&text);
        member.resize(member.len() + padding, 0);
        member
    }
}

fn record(keyword: &str, value: &[u8]) -> Vec<u8> {
    let rest = keyword.len() + value.len() + " =\n".len();
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    let mut record = format!("{length} {keyword}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

/// Bytes from the end of contents to the end of their last block.
pub(super) fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for length in 0..1200 {
            let record = record("path", &vec![b'n'; length]);
            let digits: usize = record.iter().take_while(|b| b.is_ascii_digit()).count();
            let said: usize = std::str::from_utf8(&record[..digits]).unwrap().parse().unwrap();
            assert_eq!(said, record.len());
        }
    }

    #[test]
    fn times_before_1970_go_down_from_it() {
        assert_eq!(decimal(-2, 500_000_000), "-1.500000000");
        assert_eq!(decimal(-1, 999_999_999), "-0.000000001");
        assert_eq!(decimal(-3, 0), "-3");
        assert_eq!(decimal(3, 1), "3.000000001");
        assert_eq!(decimal(i64::MAX, 0), i64::MAX.to_string());
    }

    #[test]
    fn a_name_is_divided_where_both_parts_fit_and_at_no_other_slash() {
        let split = |name: &[u8]| {
            let mut header = Header::new_ustar();
            let fields = header.as_ustar_mut().unwrap();
            let fits = set_split(fields, name);
            let field = |f: &[u8]| f.iter().copied().take_while(|&b| b != 0).collect::<Vec<_>>();
            fits.then(|| (field(&fields.prefix).len(), field(&fields.name).len()))
        };
        let of = |parts: &[usize]| {
            parts.iter().map(|&n| "n".repeat(n)).collect::<Vec<_>>().join("/").into_bytes()
        };
        assert_eq!(split(&of(&[100])), Some((0, 100)));
        assert_eq!(split(&of(&[101])), None);
        assert_eq!(split(&of(&[155, 100])), Some((155, 100)));
        assert_eq!(split(&of(&[156, 100])), None);
        assert_eq!(split(&of(&[155, 101])), None);
        assert_eq!(split(&of(&[50, 60, 70])), Some((111, 70)));
        assert_eq!(split(&of(&[100, 0])), None, "the slash at a directory's end divides nothing");
        assert_eq!(split(&of(&[99, 0])), Some((0, 100)));
    }
}
