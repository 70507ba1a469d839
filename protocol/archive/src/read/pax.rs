//! Extension records of pax (POSIX.1-2017, pax, "pax Extended Header").

use super::number::{decimal, time};
use super::sparse::{Extent, MAX_EXTENTS};
use crate::StageError;

/// What records say of a member, as far as it is used here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) sparse: Option<SparseRecords>,
}

/// What GNU tar says of a sparse file (its manual, "Storing Sparse Files").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SparseRecords {
    pub(super) name: Option<Vec<u8>>,
    /// `GNU.sparse.size`, or `realsize` of version 1.0.
    pub(super) real_size: Option<u64>,
    pub(super) major: u64,
    pub(super) minor: u64,
    /// The map of versions 0.0 and 0.1.
    pub(super) map: Vec<Extent>,
    /// How many extents that map is said to have.
    pub(super) blocks: Option<u64>,
    /// An offset of version 0.0 whose length is still to come.
    offset: Option<u64>,
}

/// Which members records are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The next one.
    Local,
    /// All that follow.
    Global,
}

fn invalid(what: &str, key: &[u8]) -> StageError {
    let key = String::from_utf8_lossy(key.get(..key.len().min(64)).unwrap_or_default());
    StageError::Damaged(format!("a pax record {key:?} {what}"))
}

impl Records {
    /// Adds the records of a block; a later one of a key counts, an empty one takes the key
    /// back. Unknown keys are not looked at.
    pub(super) fn add(&mut self, mut block: &[u8], scope: Scope) -> Result<(), StageError> {
        while !block.is_empty() {
            let (key, value, rest) = next(block)
                .ok_or_else(|| StageError::Damaged("it has a malformed pax record".to_owned()))?;
            self.add_one(key, value, scope)?;
            block = rest;
        }
        Ok(())
    }

    fn add_one(&mut self, key: &[u8], value: &[u8], scope: Scope) -> Result<(), StageError> {
        let given = !value.is_empty();
        let bad = || invalid("has no such value", key);
        match key {
            b"path" => self.path = given.then(|| value.to_vec()),
            b"linkpath" => self.linkpath = given.then(|| value.to_vec()),
            b"size" => {
                self.size = if given { Some(decimal(value).ok_or_else(bad)?) } else { None };
            }
            b"mtime" => {
                self.mtime = if given { Some(time(value).ok_or_else(bad)?) } else { None };
            }
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    if scope == Scope::Global {
                        return Err(invalid("cannot be about all members", key));
                    }
                    let sparse = self.sparse.get_or_insert_default();
                    sparse.add_one(key, value).ok_or_else(bad)?;
                }
            }
        }
        Ok(())
    }
}

impl SparseRecords {
    /// Nothing where the value is not what the key stands for.
    fn add_one(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"name" => self.name = (!value.is_empty()).then(|| value.to_vec()),
            b"size" | b"realsize" => self.real_size = Some(decimal(value)?),
            b"major" => self.major = decimal(value)?,
            b"minor" => self.minor = decimal(value)?,
            b"numblocks" => self.blocks = Some(decimal(value)?),
            b"offset" => {
                let unused = self.offset.replace(decimal(value)?);
                return unused.is_none().then_some(());
            }
            b"numbytes" => self.push(self.offset?, decimal(value)?)?,
            b"map" => {
                let mut numbers = value.split(|byte| *byte == b',');
                self.map.clear();
                while !value.is_empty()
                    && let Some(offset) = numbers.next()
                {
                    self.push(decimal(offset)?, decimal(numbers.next()?)?)?;
                }
            }
            _ => {}
        }
        Some(())
    }

    fn push(&mut self, offset: u64, length: u64) -> Option<()> {
        self.offset = None;
        self.map.push(Extent { offset, length });
        (self.map.len() <= MAX_EXTENTS).then_some(())
    }
}

/// The first record, `length key=value\n` with the length that of all of it, and what follows.
/// A value may hold any byte, newlines too; so lines say nothing.
fn next(block: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = block.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(block.get(..space)?)?).ok()?;
    let (record, rest) = block.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(block: &[u8]) -> Result<Records, StageError> {
        let mut records = Records::default();
        records.add(block, Scope::Local).map(|()| records)
    }

    #[test]
    fn a_value_may_hold_newlines_and_a_later_record_counts() {
        let records = read(b"12 path=a\nb\n8 path=\n17 path=2 path=c\n19 mtime=-1.500000\n");
        let records = records.unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"2 path=c"[..]));
        assert_eq!(records.mtime, Some((-2, 500_000_000)));
        assert_eq!(read(b"10 path=a\n8 path=\n").unwrap(), Records::default());
    }

    #[test]
    fn malformed_records_are_damage() {
        for bad in [
            "path=a\n",
            "10 path=ab\n",
            "9 path=ab\n",
            "99 path=a\n",
            "5 =a\n",
            "0 path=a\n",
            "8 path\n\n",
            "-1 path=a\n",
            "1",
            "11 size=-1\n",
            "10 size=x\n",
            "99999999999999999999 path=a\n",
            "23 GNU.sparse.map=1,2,\n",
            "21 GNU.sparse.map=12\n",
            "25 GNU.sparse.numbytes=1\n",
        ] {
            assert!(matches!(read(bad.as_bytes()), Err(StageError::Damaged(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_map_cannot_be_about_all_members() {
        let mut records = Records::default();
        let block = b"22 GNU.sparse.major=1\n";
        assert!(records.add(block, Scope::Global).is_err());
        assert!(records.add(block, Scope::Local).is_ok());
    }

    proptest! {
        #[test]
        fn no_block_is_too_much(block in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&block);
        }
    }
}
