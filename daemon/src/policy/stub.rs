//! The programs that stand in for blocked ones: each says why it does nothing and exits 126.
//!
//! They are static and need no interpreter, so they run however bare a sandbox's surroundings
//! are, and the loader (ld.so) finds nothing in them to load.

use std::env::consts::ARCH;

/// What a stub exits with: found, but not to be run, as shells say it.
pub const EXIT_STATUS: u8 = 126;

/// A program that writes a line on its standard error and exits with [`EXIT_STATUS`].
pub fn program(line: &str) -> Vec<u8> {
    let text = format!("{line}\n").into_bytes();
    elf_for(ARCH, &text).unwrap_or_else(|| script(line))
}

/// Machine numbers of elf(5).
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

/// Sizes of the two headers of a 64-bit file, elf(5).
const FILE_HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;

/// Where the file is mapped: a multiple of every page size of these machines.
const BASE: u64 = 0x40_0000;
const ALIGNMENT: u64 = 0x1_0000;

/// The program for a machine whose instructions are known here, and a text short enough for them.
fn elf_for(arch: &str, text: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(text.len()).ok()?;
    match arch {
        "x86_64" => Some(elf(EM_X86_64, &x86_64(length), text)),
        "aarch64" => Some(elf(EM_AARCH64, &aarch64(length), text)),
        _ => None,
    }
}

/// One segment that is read and executed: the headers, the code, and the text behind it.
fn elf(machine: u16, code: &[u8], text: &[u8]) -> Vec<u8> {
    let start = u64::from(FILE_HEADER + PROGRAM_HEADER);
    let size = start + (code.len() + text.len()) as u64;
    let mut file = Vec::new();
    // 64-bit, little-endian, version 1, System V.
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // An executable (ET_EXEC) of this machine, version 1.
    file.extend(2_u16.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    // Entry, program headers, no section headers, no flags.
    file.extend((BASE + start).to_le_bytes());
    file.extend(u64::from(FILE_HEADER).to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    for count in [FILE_HEADER, PROGRAM_HEADER, 1, 0, 0, 0] {
        file.extend(count.to_le_bytes());
    }
    // PT_LOAD, to be read and executed.
    file.extend(1_u32.to_le_bytes());
    file.extend(5_u32.to_le_bytes());
    for word in [0, BASE, BASE, size, size, ALIGNMENT] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file.extend(text);
    file
}

/// write(2, text, length), then exit_group(126), as syscall(2) has it.
fn x86_64(length: u16) -> Vec<u8> {
    let mut code = Vec::new();
    // mov edi, 2
    code.extend([0xbf, 2, 0, 0, 0]);
    // lea rsi, [rip + what is left of the code]
    code.extend([0x48, 0x8d, 0x35]);
    code.extend(26_u32.to_le_bytes());
    // mov edx, length
    code.push(0xba);
    code.extend(u32::from(length).to_le_bytes());
    // mov eax, 1 (write); syscall
    code.extend([0xb8, 1, 0, 0, 0, 0x0f, 0x05]);
    // mov edi, 126
    code.extend([0xbf, EXIT_STATUS, 0, 0, 0]);
    // mov eax, 231 (exit_group); syscall; never reached
    code.extend([0xb8, 231, 0, 0, 0, 0x0f, 0x05, 0x0f, 0x0b]);
    code
}

/// The same for the other machine.
fn aarch64(length: u16) -> Vec<u8> {
    let movz = |register: u32, value: u16| 0xd280_0000 | u32::from(value) << 5 | register;
    const SVC: u32 = 0xd400_0001;
    // x1 = the address of this instruction and so many bytes, a multiple of 4.
    let adr_x1 = |bytes: u32| 0x1000_0000 | (bytes >> 2) << 5 | 1;
    let code = [
        movz(0, 2),
        adr_x1(32),
        movz(2, length),
        movz(8, 64), // write
        SVC,
        movz(0, u16::from(EXIT_STATUS)),
        movz(8, 94), // exit_group
        SVC,
        0, // Never reached: an undefined instruction.
    ];
    code.iter().flat_map(|instruction| instruction.to_le_bytes()).collect()
}

/// For machines whose instructions are not known here.
fn script(line: &str) -> Vec<u8> {
    let quoted = line.replace('\'', r"'\''");
    format!("#!/bin/sh\nprintf '%s\\n' '{quoted}' >&2\nexit {EXIT_STATUS}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;

    const LINE: &str = "Command not allowed: it's";

    fn write(dir: &Path, bytes: &[u8]) -> std::path::PathBuf {
        let path = dir.join("stub");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn says_so(command: &mut Command) {
        let output = command.env_clear().output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), format!("{LINE}\n"));
        assert_eq!((output.status.code(), output.stdout), (Some(126), Vec::new()));
    }

    #[test]
    fn a_stub_says_its_line_and_exits_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        for bytes in [program(LINE), script(LINE)] {
            let path = write(dir.path(), &bytes);
            says_so(&mut Command::new(&path));
            says_so(Command::new(&path).arg0("ls").args(["-rf", "/"]));
            let closed = Command::new(&path).stderr(Stdio::null()).status().unwrap();
            assert_eq!(closed.code(), Some(126));
        }
    }

    #[test]
    fn the_machines_that_are_known_need_no_shell() {
        let text = format!("{LINE}\n");
        for (arch, number) in [("x86_64", 62), ("aarch64", 183)] {
            let file = elf_for(arch, text.as_bytes()).unwrap();
            assert!(file.len() < 256, "{}", file.len());
            assert_eq!((&file[..4], file[18]), (&b"\x7fELF"[..], number));
            assert!(file.ends_with(text.as_bytes()));
        }
        assert_eq!(elf_for("riscv64", b"x"), None);
        assert_eq!(elf_for("x86_64", &[b'x'; 70_000]), None, "too long for its instructions");
    }

    /// As an assembler writes them for these mnemonics.
    #[test]
    fn the_instructions_of_the_other_machine() {
        let code = aarch64(5);
        let words: Vec<u32> = code
            .chunks_exact(4)
            .map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        let want = [
            0xd280_0040, // mov x0, #2
            0x1000_0101, // adr x1, . + 32
            0xd280_00a2, // mov x2, #5
            0xd280_0808, // mov x8, #64
            0xd400_0001, // svc #0
            0xd280_0fc0, // mov x0, #126
            0xd280_0bc8, // mov x8, #94
            0xd400_0001,
            0,
        ];
        assert_eq!(words, want);
    }
}
