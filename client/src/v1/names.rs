//! Addresses of hosts. The C library's own lookup loads shared objects (nsswitch.conf(5)), which
//! a statically linked program must not do: so getent(1), which comes with it, is asked.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::Problem;

/// How long a lookup may take.
const LOOKUP_TIME: Duration = Duration::from_secs(10);

/// Most bytes of an answer that are read.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Every address of a host, best first: what it says where it is one, those of the loopback
/// for `localhost`, otherwise what getent says.
pub(crate) fn addresses(host: &str) -> Result<Vec<IpAddr>, Problem> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    ask("getent", host, LOOKUP_TIME)
}

fn ask(program: &str, host: &str, time: Duration) -> Result<Vec<IpAddr>, Problem> {
    let failed = |source| Problem::NoLookup { host: host.to_owned(), source };
    let mut command = Command::new(program);
    command.args(["ahosts", host]).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let answer = answer(&mut child, Instant::now() + time);
    if answer.is_err() {
        // It may have ended by itself.
        let _ = child.kill();
    }
    let ended = child.wait().map_err(failed)?;
    let addresses = match answer {
        Err(e) if e.kind() == io::ErrorKind::TimedOut => {
            return Err(Problem::SlowLookup { host: host.to_owned(), seconds: time.as_secs() });
        }
        other => read(&other.map_err(failed)?),
    };
    if !ended.success() || addresses.is_empty() {
        return Err(Problem::UnknownName { host: host.to_owned() });
    }
    Ok(addresses)
}

/// All that it says until the deadline.
fn answer(child: &mut Child, deadline: Instant) -> io::Result<String> {
    let mut bytes = Vec::new();
    let Some(mut stdout) = child.stdout.take() else { return Ok(String::new()) };
    let mut piece = [0; 4096];
    while (bytes.len() as u64) < MAX_ANSWER_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)], left) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
        }
        match stdout.read(&mut piece)? {
            0 => break,
            read => bytes.extend_from_slice(piece.get(..read).unwrap_or_default()),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The addresses in an answer, which has each once a kind of socket.
fn read(answer: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for line in answer.lines() {
        if let Some(Ok(address)) = line.split_whitespace().next().map(str::parse)
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_need_nobody() {
        assert_eq!(addresses("::1").unwrap(), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
        assert_eq!(addresses("10.1.2.3").unwrap(), ["10.1.2.3".parse::<IpAddr>().unwrap()]);
        assert_eq!(addresses("LOCALHOST").unwrap().len(), 2);
    }

    #[test]
    fn an_answer_has_each_address_once() {
        let answer = "::1 STREAM h\n::1 DGRAM \n10.0.0.1 STREAM h\nfe80::1%eth0 STREAM\nx\n\n";
        assert_eq!(read(answer), ["::1", "10.0.0.1"].map(|a| a.parse::<IpAddr>().unwrap()));
    }

    #[test]
    fn getent_is_understood() {
        let found = ask("getent", "localhost", LOOKUP_TIME).unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
    }

    #[test]
    fn every_way_of_getting_no_address_is_told_apart() {
        let time = Duration::from_millis(50);
        let error = ask("/nonexistent/getent", "h", time).unwrap_err();
        assert!(matches!(error, Problem::NoLookup { .. }), "{error}");
        let error = ask("false", "h", time * 100).unwrap_err();
        assert!(matches!(error, Problem::UnknownName { .. }), "{error}");
        // Ends only when it is killed: `yes` writes for ever, `tail -f` nothing.
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("silent");
        std::fs::write(&script, "#!/bin/sh\nexec tail -f /dev/null\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).unwrap();
        let error = ask(script.to_str().unwrap(), "h", time).unwrap_err();
        assert!(matches!(error, Problem::SlowLookup { .. }), "{error}");
    }
}
