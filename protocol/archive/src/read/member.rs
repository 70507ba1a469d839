//! The members of an archive.

use tar::Header;

use super::BLOCK;
use super::number::{count, field};
use super::pax::{Records, Scope};
use super::sparse::{self, Extent};
use super::stream::Stream;
use crate::StageError;

/// Most bytes of a long name: as deep as a tree may be, with names as long as they may be.
const MAX_NAME: u64 = 64 * 1024;

/// Most bytes of the pax records before one member. Extended attributes are in them, each of
/// up to 64 KiB (xattr(7)), though they are not used here.
const MAX_RECORDS: u64 = 1024 * 1024;

/// What a member is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// The parts of it that are in the archive, in order; the rest is holes.
        extents: Vec<Extent>,
    },
    /// A directory.
    Directory,
    /// Another name of an earlier member, which this is.
    HardLink(Vec<u8>),
    /// A symbolic link with this target.
    Symlink(Vec<u8>),
    /// A device, a named pipe, or something unknown.
    Special,
}

/// A member. Its data, which only files have, is still to be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name as the archive has it.
    pub(crate) name: Vec<u8>,
    /// What it is.
    pub(crate) kind: Kind,
    /// Its permission bits, with set-id and sticky bits (07777).
    pub(crate) mode: u32,
    /// When it was last modified: seconds since 1970, and nanoseconds after that second.
    pub(crate) mtime: (i64, u32),
}

/// What is known of the next member before its own header.
#[derive(Default)]
struct Ahead {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    records: Option<Records>,
    any: bool,
}

/// Reads an archive, member by member.
pub(crate) struct Reader<'a> {
    stream: Stream<'a>,
    /// Bytes of the current member's data, and of the padding after it, that were not read.
    left: u64,
    padding: u64,
    global: Records,
    members: u64,
    limit: u64,
    ended: bool,
}

const IN_HEADER: &str = "in a member's header";
const IN_DATA: &str = "in a member's data";
const NO_END: &str = "it has no end marker";

fn damaged(what: &str) -> StageError {
    StageError::Damaged(what.to_owned())
}

/// Whether a block is a header, by its checksum.
pub(super) fn adds_up(block: &[u8; BLOCK]) -> bool {
    let stated = field(&Header::from_byte_slice(block).as_old().cksum);
    // The field itself counts as spaces. Some old programs added signed bytes.
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    stated == Some(unsigned) || stated == Some(signed)
}

impl<'a> Reader<'a> {
    /// One of an archive with at most `limit` members.
    pub(crate) fn new(stream: Stream<'a>, limit: u64) -> Self {
        let global = Records::default();
        Self { stream, left: 0, padding: 0, global, members: 0, limit, ended: false }
    }

    /// The next member, or nothing after the last one; the stream then was read to its end.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, StageError> {
        if self.ended {
            return Ok(None);
        }
        let mut ahead = Ahead::default();
        loop {
            self.stream.skip(self.left, IN_DATA)?;
            self.stream.skip(self.padding, IN_DATA)?;
            (self.left, self.padding) = (0, 0);
            let mut block = [0; BLOCK];
            self.stream.block(&mut block, IN_HEADER)?.ok_or(StageError::Truncated(NO_END))?;
            if block.iter().all(|byte| *byte == 0) {
                if ahead.any {
                    return Err(damaged("it ends after an extension of a member that is missing"));
                }
                // One is enough: some programs write only one, or not the whole of the second.
                self.stream.drain()?;
                self.ended = true;
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            self.check(header)?;
            let flag = header.as_old().linkflag.first().copied().unwrap_or(0);
            match flag {
                b'L' => ahead.long_name = Some(self.long_name(header)?),
                b'K' => ahead.long_link = Some(self.long_name(header)?),
                b'x' => {
                    let block = self.extension(header, MAX_RECORDS)?;
                    let records = ahead.records.get_or_insert_with(|| self.global.clone());
                    records.add(&block, Scope::Local)?;
                }
                b'g' => {
                    let block = self.extension(header, MAX_RECORDS)?;
                    self.global.add(&block, Scope::Global)?;
                    continue;
                }
                _ => {
                    self.members += 1;
                    if self.members > self.limit {
                        return Err(StageError::TooManyMembers { limit: self.limit });
                    }
                    return self.member(header, flag, ahead).map(Some);
                }
            }
            ahead.any = true;
        }
    }

    /// The next bytes of the current file's data, which are to be at `offset` in it; no more
    /// than `most`, and none only if `most` is 0.
    pub(crate) fn data(&mut self, most: u64, offset: u64) -> Result<&[u8], StageError> {
        let most = most.min(self.left);
        if most == 0 {
            return Ok(&[]);
        }
        let data = self.stream.take(most, offset, IN_DATA)?;
        self.left -= data.len() as u64;
        Ok(data)
    }

    fn check(&self, header: &Header) -> Result<(), StageError> {
        let block = header.as_bytes();
        if adds_up(block) {
            return Ok(());
        }
        if self.members > 0 {
            return Err(damaged("a header has the wrong checksum"));
        }
        let other = [
            (&b"\xfd7zXZ\0"[..], "xz"),
            (b"\x28\xb5\x2f\xfd", "zstd"),
            (b"BZh", "bzip2"),
            (b"PK\x03\x04", "zip"),
        ];
        let other = other.iter().find(|(magic, _)| block.starts_with(magic));
        Err(other.map_or_else(
            || damaged("its first header has the wrong checksum"),
            |(_, name)| damaged(&format!("it looks like {name}, only gzip is unpacked")),
        ))
    }

    /// The data of an extension header.
    fn extension(&mut self, header: &Header, most: u64) -> Result<Vec<u8>, StageError> {
        let size = count(&header.as_old().size)
            .ok_or_else(|| damaged("an extension header has an invalid size"))?;
        if size > most {
            let what = format!("an extension header of {size} bytes, more than {most}");
            return Err(StageError::Damaged(what));
        }
        let mut data = Vec::new();
        let mut left = size;
        while left > 0 {
            let part = self.stream.take(left, 0, "in an extension header")?;
            left -= part.len() as u64;
            data.extend_from_slice(part);
        }
        self.stream.skip(padding(size), "in an extension header")?;
        Ok(data)
    }

    fn long_name(&mut self, header: &Header) -> Result<Vec<u8>, StageError> {
        let mut name = self.extension(header, MAX_NAME)?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn member(&mut self, header: &Header, flag: u8, ahead: Ahead) -> Result<Member, StageError> {
        let old = header.as_old();
        let records = ahead.records.unwrap_or_else(|| self.global.clone());
        let sparse = records.sparse.unwrap_or_default();
        let is_sparse = sparse != Default::default();
        let name = sparse
            .name
            .clone()
            .or(records.path)
            .or(ahead.long_name)
            .unwrap_or_else(|| path(header));
        let shown = || String::from_utf8_lossy(&name).into_owned();
        let bad = |what: &str| StageError::Damaged(format!("{:?} has an invalid {what}", shown()));
        let mode = field(&old.mode).ok_or_else(|| bad("mode"))?;
        let mode = u32::try_from(mode & 0o7777).unwrap_or(0);
        let mtime = match records.mtime {
            Some(mtime) => mtime,
            None => (field(&old.mtime).ok_or_else(|| bad("time"))?, 0),
        };
        let link = || {
            records
                .linkpath
                .clone()
                .or(ahead.long_link.clone())
                .unwrap_or_else(|| until_nul(&old.linkname).to_vec())
        };
        let kind = match flag {
            // Links, devices, directories and pipes have no data, whatever their size says
            // (POSIX.1-2017, pax, "ustar Interchange Format").
            b'1' => Kind::HardLink(link()),
            b'2' => Kind::Symlink(link()),
            b'3' | b'4' | b'6' => Kind::Special,
            b'5' => Kind::Directory,
            _ => {
                let size = match records.size {
                    Some(size) => size,
                    None => count(&old.size).ok_or_else(|| bad("size"))?,
                };
                if i64::try_from(size).is_err() {
                    return Err(bad("size"));
                }
                (self.left, self.padding) = (size, padding(size));
                match flag {
                    b'S' => {
                        let gnu = header.as_gnu().ok_or_else(|| bad("sparse header"))?;
                        let real = count(&gnu.realsize).ok_or_else(|| bad("size"))?;
                        let map = sparse::old_gnu(gnu, &mut self.stream)?;
                        self.sparse_file(map, real)?
                    }
                    b'0' | 0 | b'7' if name.ends_with(b"/") => Kind::Directory,
                    b'0' | 0 | b'7' if is_sparse => {
                        let (map, real) =
                            sparse::pax(sparse.clone(), &mut self.stream, &mut self.left)?;
                        self.sparse_file(map, real)?
                    }
                    b'0' | 0 | b'7' => {
                        Kind::File { size, extents: vec![Extent { offset: 0, length: size }] }
                    }
                    // A directory of GNU tar's incremental archives, with a list of names.
                    b'D' => Kind::Directory,
                    _ => Kind::Special,
                }
            }
        };
        Ok(Member { name, kind, mode, mtime })
    }

    fn sparse_file(&self, map: Vec<Extent>, size: u64) -> Result<Kind, StageError> {
        if i64::try_from(size).is_err() {
            return Err(damaged("a sparse file has an invalid size"));
        }
        sparse::check(&map, size, self.left)?;
        Ok(Kind::File { size, extents: map })
    }
}

/// The bytes between the end of data and the next block.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The name in a header itself; POSIX has two fields for it.
fn path(header: &Header) -> Vec<u8> {
    let prefix = header.as_ustar().map_or(&[][..], |ustar| until_nul(&ustar.prefix));
    let name = until_nul(&header.as_old().name);
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}
