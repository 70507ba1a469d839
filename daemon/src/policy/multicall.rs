//! Programs that are many: which one they are depends on the name they are called by, or on
//! their first argument. Pure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::rules::{FoldedName, Rule, base_name};

/// Their own names.
const NAMES: [&str; 7] = [
    "busybox",
    "busybox.static",
    "busybox-extras",
    "toybox",
    "coreutils",
    "gnu-coreutils",
    "uutils",
];

/// What one or another of them can be.
const APPLETS: &str = "\
[ [[ acpid adjtimex ar arch arp arping ascii ash awk b2sum base32 base64 basename basenc bc \
blkdiscard blkid blockdev brctl bunzip2 bzcat bzip2 cal cat chattr chcon chgrp chmod chown chroot \
chrt chvt cksum clear cmp comm cp cpio crc32 crond crontab csplit cut date dc dd deallocvt \
delgroup deluser depmod devmem df diff dir dircolors dirname dmesg dnsd dos2unix dpkg du echo ed \
egrep eject env expand expr factor fallocate false fdisk fgrep find findfs flock fmt fold free \
freeramdisk fsck fsck.minix fsfreeze fstrim ftpget ftpput fuser getopt getty grep groups gunzip \
gzip halt hdparm head hexdump hostid hostname httpd hush hwclock id ifconfig ifdown ifup inetd \
init inotifyd insmod install ionice iorenice ip ipcs join kill killall killall5 klogd last less \
link linuxrc ln loadkmap logger login logname losetup ls lsattr lsmod lsof lsusb lzcat lzma \
makedevs md5sum mdev mesg microcom mkdir mkdosfs mke2fs mkfifo mkfs.ext2 mkfs.minix mkfs.reiser \
mkfs.vfat mknod mkpasswd mkswap mktemp modinfo modprobe more mount mountpoint mt mv nameif nc \
netcat netstat nice nl nmeter nohup nologin nproc nsenter nslookup nuke numfmt od openvt partprobe \
passwd paste patch pathchk pgrep pidof pinky ping ping6 pivot_root pkill poweroff pr printenv \
printf ps pstree ptx pwd raidautorun rdate readlink realpath reboot renice reset resize resume \
rev rfkill rm rmdir rmmod route rpm rtcwake run-init run-parts runcon script scriptreplay sed seq \
setarch setconsole setfattr setkeycodes setpriv setserial setsid sh sha1sum sha224sum sha256sum \
sha384sum sha3sum sha512sum shred shuf shutdown sleep sort split ssl_client start-stop-daemon stat \
stdbuf strings stty su sulogin sum sv svok swapoff swapon switch_root sync sysctl syslogd tac tail \
tar taskset tcpsvd tee telinit telnet telnetd test tftp tftpd time timeout top touch tr traceroute \
true truncate tsort tty tunctl ubirename udhcpc udhcpd uevent umount uname unexpand uniq unix2dos \
unlink unlzma unshare unxz unzip uptime users usleep uudecode uuencode vconfig vdir vi vlock w \
watch watchdog wc wget which who whoami xargs xxd xz xzcat yes zcat";

/// Whether a program of this name is many.
pub fn is_one(name: &OsStr) -> bool {
    let folded = name.to_string_lossy().to_lowercase();
    NAMES.contains(&folded.as_str())
}

/// The first rule that means something which such programs can be.
pub fn can_be(rules: &[Rule]) -> Option<&Rule> {
    let applets = APPLETS.split_ascii_whitespace().map(|name| FoldedName::new(name.as_ref()));
    let applets: Vec<_> = applets.collect();
    rules.iter().find(|rule| applets.iter().any(|applet| rule.matches_any_case(applet)))
}

/// What a program that goes by these names is asked to be by its first argument, if it is many:
/// `busybox rm`, `coreutils --coreutils-prog=rm`.
pub fn asked_for<'a>(names: &[impl AsRef<OsStr>], cmd: &'a [String]) -> Option<&'a OsStr> {
    names.iter().find(|name| is_one(name.as_ref()))?;
    let argument = cmd.get(1)?;
    // GNU's takes the rest of such an option for the name (or a script's path) and its arguments.
    let long = ["--coreutils-prog=", "--coreutils-prog-shebang="];
    let name = long.iter().find_map(|option| argument.strip_prefix(option));
    let name = name.map_or(argument.as_str(), |rest| rest.split(' ').next().unwrap_or(rest));
    Some(base_name(OsStr::from_bytes(name.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(program: &str, cmd: &[&str]) -> Option<String> {
        let cmd: Vec<String> = cmd.iter().map(|&part| part.to_owned()).collect();
        asked_for(&[program], &cmd).map(|name| name.to_string_lossy().into_owned())
    }

    #[test]
    fn the_first_argument_says_what_it_is_to_be() {
        assert_eq!(asked("busybox", &["busybox", "rm", "x"]).as_deref(), Some("rm"));
        assert_eq!(asked("BusyBox", &["./b", "/bin/rm"]).as_deref(), Some("rm"));
        assert_eq!(asked("coreutils", &["c", "--coreutils-prog=rm"]).as_deref(), Some("rm"));
        let shebang = "--coreutils-prog-shebang=rm /x/rm";
        assert_eq!(asked("coreutils", &["c", shebang, "y"]).as_deref(), Some("rm"));
        assert_eq!(asked("busybox", &["busybox"]), None);
        assert_eq!(asked("git", &["git", "rm", "x"]), None);
        let names = ["x", "toybox"].map(OsStr::new);
        assert_eq!(asked_for(&names, &["x".into(), "rm".into()]), Some("rm".as_ref()));
    }

    #[test]
    fn which_lists_concern_them() {
        let rules = |names: &[&str]| -> Vec<Rule> {
            names.iter().map(|name| Rule::parse(name).unwrap()).collect()
        };
        for names in [&["rm"][..], &["curl", "DD"], &["mkfs*"], &["kill*"]] {
            assert!(can_be(&rules(names)).is_some(), "{names:?}");
        }
        for names in [&[][..], &["curl", "python3*"]] {
            assert!(can_be(&rules(names)).is_none(), "{names:?}");
        }
    }
}
