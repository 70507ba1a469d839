//! From what libFuzzer makes up to archives that get past the first checksum.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BLOCK: usize = 512;

/// An archive. The first byte of the input says how the rest becomes one: as it is, with the
/// checksums of its headers set right, the same and compressed, or as a list of members.
pub(crate) fn archive(input: &[u8], base: &Path) -> Vec<u8> {
    let Some((how, rest)) = input.split_first() else { return Vec::new() };
    match how % 4 {
        0 => rest.to_vec(),
        1 => repaired(rest.to_vec()),
        2 => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(&repaired(rest.to_vec())).expect("memory");
            out.finish().expect("memory")
        }
        _ => members(rest, base),
    }
}

/// Whether it is one whose headers are all in order, not compressed.
pub(crate) fn is_plain(input: &[u8]) -> bool {
    input.first().is_some_and(|how| how % 4 == 3)
}

/// Sets the checksums of what looks like a header right.
fn repaired(mut archive: Vec<u8>) -> Vec<u8> {
    for block in archive.chunks_exact_mut(BLOCK) {
        if block.get(257..262) == Some(b"ustar") {
            set_checksum(block);
        }
    }
    archive
}

fn set_checksum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Members one after the other, each in a few bytes: what is special about it, its type, its
/// mode, the size of its data, and two strings with their lengths before them.
fn members(mut input: &[u8], base: &Path) -> Vec<u8> {
    const TYPES: &[u8; 16] = b"0000512xgLKS347D";
    let mut archive = Vec::new();
    while let [special, kind, mode, size, rest @ ..] = input {
        let (name, rest) = string(rest);
        let (link, rest) = string(rest);
        input = rest;
        let absolute = |flag: u8, text: &[u8]| {
            if special & flag == 0 {
                return text.to_vec();
            }
            [base.as_os_str().as_bytes(), b"/", text].concat()
        };
        let (name, link) = (absolute(1, name), absolute(2, link));
        let kind = TYPES[usize::from(*kind) % TYPES.len()];
        let data = match kind {
            b'x' | b'g' => record(&name, &link),
            b'L' | b'K' => name.clone(),
            b'0' | b'S' | b'7' | b'D' => {
                vec![b'x'; usize::from(*size) * if special & 4 == 0 { 1 } else { 100 }]
            }
            _ => Vec::new(),
        };
        let mut header = [0; BLOCK];
        put(&mut header[..100], &name);
        put(&mut header[157..257], &link);
        header[100..108]
            .copy_from_slice(format!("{:07o}\0", u32::from(*mode) << 4 | 0o7).as_bytes());
        let told = if special & 8 == 0 { data.len() } else { usize::from(*size) };
        header[124..136].copy_from_slice(format!("{told:011o}\0").as_bytes());
        header[136..148].copy_from_slice(b"00000001750\0");
        header[156] = kind;
        header[257..265].copy_from_slice(if special & 16 == 0 {
            b"ustar  \0"
        } else {
            b"ustar\x0000"
        });
        set_checksum(&mut header);
        archive.extend_from_slice(&header);
        archive.extend_from_slice(&data);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

/// A string after its length, shorter where the input ends.
fn string(input: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = input.split_first() else { return (&[], &[]) };
    rest.split_at(usize::from(*length).min(rest.len()))
}

/// A record of pax with its length before it.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = (1..).find(|digits| (rest + digits).to_string().len() == *digits);
    let length = rest + digits.unwrap_or_default();
    [format!("{length} ").as_bytes(), key, b"=", value, b"\n"].concat()
}

fn put(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}
