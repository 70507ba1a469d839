//! Links `noxctl` statically where the C library is there to do it: it lives for a millisecond,
//! and a quarter of that would go into loading two shared libraries.
//!
//! rustc decides for a whole build whether it is static (`-C target-feature=+crt-static`), which is not
//! what the daemon and the tests want. So the linker of this one program is told, and finds archives
//! under the names of all libraries that rustc asks for: a single shared one would make it another program.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CC");
    println!("cargo::rerun-if-env-changed=NOXCTL_LINK");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let asked_for = env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|f| f.contains("crt-static"));
    if asked_for || !is("CARGO_CFG_TARGET_OS", "linux") || !is("CARGO_CFG_TARGET_ENV", "gnu") {
        return;
    }
    // Another machine's archives are another compiler's to find; and who wants none of this says so.
    if env::var("HOST") != env::var("TARGET") || is("NOXCTL_LINK", "dynamic") {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("static");
    match archives(&out) {
        Some(()) => {
            println!("cargo::rustc-link-arg-bin=noxctl=-L{}", out.display());
            println!("cargo::rustc-link-arg-bin=noxctl=-static-pie");
        }
        None => println!("cargo::warning=no static C library here: noxctl is linked dynamically"),
    }
}

/// Puts the archives where the linker looks first.
fn archives(out: &Path) -> Option<()> {
    let _ = fs::remove_dir_all(out);
    fs::create_dir_all(out).ok()?;
    for library in ["libc.a", "libm.a", "libdl.a", "libpthread.a", "librt.a", "libutil.a"] {
        symlink(find(library)?, out.join(library)).ok()?;
    }
    // The shared library has two archives in its place.
    symlink(find("libgcc_eh.a")?, out.join("libgcc_s.a")).ok()?;
    // Startup code of a static program that is loaded anywhere.
    find("rcrt1.o").map(drop)
}

/// Where the C compiler has a file; it repeats the name of one that it has not.
fn find(name: &str) -> Option<PathBuf> {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let found = Command::new(compiler).arg(format!("-print-file-name={name}")).output().ok()?;
    let path = PathBuf::from(String::from_utf8(found.stdout).ok()?.trim());
    path.is_absolute().then_some(path)
}
