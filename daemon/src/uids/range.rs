//! Which host user ids sandboxes may have.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use super::UidError;

/// Ids that are nobody's to give: root; what stands for ids that are not mapped;
/// the ends of the 16-bit and the 32-bit numbers, which mean "no id" (chown(2)).
const NEVER: [u32; 4] = [0, 65_534, 65_535, u32::MAX];

/// A range of ids, both ends in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UidRange {
    first: u32,
    last: u32,
}

/// Why a text is no range of ids for sandboxes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRange {
    /// It is not two numbers.
    #[error("write the first and the last user id, as in 1879048192-2147352575")]
    Malformed,
    /// It has no number in it.
    #[error("the first user id, {0}, is above the last, {1}")]
    Backwards(u32, u32),
    /// It has a number in it that no sandbox may have.
    #[error("the user id {0} has a meaning of its own and cannot be among them")]
    Reserved(u32),
}

impl FromStr for UidRange {
    type Err = BadRange;

    fn from_str(text: &str) -> Result<Self, BadRange> {
        // Digits only: the standard library takes a sign too.
        let number = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<u32>().ok()).flatten().ok_or(BadRange::Malformed)
        };
        let (first, last) = text.split_once('-').ok_or(BadRange::Malformed)?;
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(BadRange::Backwards(first, last));
        }
        let range = Self { first, last };
        match NEVER.into_iter().find(|uid| range.contains(*uid)) {
            Some(reserved) => Err(BadRange::Reserved(reserved)),
            None => Ok(range),
        }
    }
}

impl fmt::Display for UidRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl UidRange {
    /// The first number.
    pub fn first(self) -> u32 {
        self.first
    }

    /// Whether a number is in it.
    pub fn contains(self, uid: u32) -> bool {
        (self.first..=self.last).contains(&uid)
    }

    /// How many numbers it has. All of them never are in one: 0 is in none.
    pub(super) fn len(self) -> u32 {
        self.last - self.first + 1
    }

    /// The number after one of it; the first after the last.
    pub(super) fn after(self, uid: u32) -> u32 {
        if uid >= self.last { self.first } else { uid + 1 }
    }

    /// Checks that this machine, or the user namespace the daemon is in, has
    /// users and groups of these numbers (`user_namespaces(7)`).
    ///
    /// # Errors
    /// [`UidError::Unmapped`], or where /proc cannot be read.
    pub fn check_mapped(self) -> Result<(), UidError> {
        for (kind, path) in [("user", "/proc/self/uid_map"), ("group", "/proc/self/gid_map")] {
            let map = match std::fs::read_to_string(path) {
                Ok(map) => map,
                // A kernel without user namespaces has every number.
                Err(e)
                    if e.kind() == io::ErrorKind::NotFound && Path::new("/proc/self").exists() =>
                {
                    continue;
                }
                Err(e) => return Err(UidError::Io(path.into(), e)),
            };
            self.check_map(kind, &map)?;
        }
        Ok(())
    }

    fn check_map(self, kind: &'static str, map: &str) -> Result<(), UidError> {
        // Each line: the first number inside, the first outside, how many.
        let extent = |line: &str| {
            let mut numbers = line.split_whitespace().map(|n| n.parse::<u64>().ok());
            let (first, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
            (count > 0).then_some((first, first + count - 1))
        };
        let mut extents: Vec<(u64, u64)> = map.lines().filter_map(extent).collect();
        extents.sort_unstable();
        let mut next = u64::from(self.first);
        for (first, last) in &extents {
            if (*first..=*last).contains(&next) {
                next = last + 1;
            }
        }
        if next > u64::from(self.last) {
            return Ok(());
        }
        let shown: Vec<String> = extents.iter().map(|(a, b)| format!("{a}-{b}")).collect();
        let mapped = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
        Err(UidError::Unmapped { kind, range: self, mapped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_make_sense() {
        for text in ["1879048192-2147352575", "1000-1000", "1-65533", "65536-4294967294"] {
            assert_eq!(text.parse::<UidRange>().unwrap().to_string(), text);
        }
        for (text, error) in [
            ("", BadRange::Malformed),
            ("-", BadRange::Malformed),
            ("1000", BadRange::Malformed),
            ("1000-", BadRange::Malformed),
            ("+1000-2000", BadRange::Malformed),
            ("1000-2000-3000", BadRange::Malformed),
            ("1000-4294967296", BadRange::Malformed),
            ("a-b", BadRange::Malformed),
            ("2000-1000", BadRange::Backwards(2000, 1000)),
            ("0-1000", BadRange::Reserved(0)),
            ("1000-100000", BadRange::Reserved(65_534)),
            ("65535-65535", BadRange::Reserved(65_535)),
            ("100000-4294967295", BadRange::Reserved(u32::MAX)),
        ] {
            assert_eq!(text.parse::<UidRange>(), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_not_mapped_is_named() {
        let range: UidRange = "1000-1999".parse().unwrap();
        for enough in [
            "         0          0 4294967295\n",
            "0 100000 65536\n",
            "1000 5 1000",
            "1500 7 1000\n0 1000 1\n1 100000 1499\n",
        ] {
            assert!(range.check_map("user", enough).is_ok(), "{enough}");
        }
        for (less, mapped) in [
            ("0 1000 1\n", "0-0"),
            ("0 1000 1000\n1001 5000 5000\n", "0-999, 1001-6000"),
            ("0 100000 1999", "0-1998"),
            ("", "none"),
        ] {
            let error = range.check_map("group", less).unwrap_err().to_string();
            for part in ["group", "1000-1999", mapped, "--sandbox-uids"] {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }

    #[test]
    fn this_process_has_the_numbers_that_proc_says() {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
        let range: UidRange = "1879048192-2147352575".parse().unwrap();
        assert_eq!(range.check_mapped().is_ok(), range.check_map("user", &map).is_ok());
    }
}
