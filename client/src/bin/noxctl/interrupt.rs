//! What Ctrl-C does, and the other ways of asking a program to end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level::pipe};

/// Exit status after an interrupt: 128 and the number of SIGINT.
pub(crate) const STATUS: u8 = 130;

/// Ends at once on an interrupt, with the status a shell would give: for what
/// leaves nothing here that is to be cleaned up.
pub(crate) fn exit_at_once() {
    // Where this fails an interrupt ends noxctl as well, by the signal itself.
    let always = Arc::new(AtomicBool::new(true));
    let _ = flag::register_conditional_shutdown(SIGINT, STATUS.into(), always);
}

/// Notices an interrupt, or another signal that asks for an end, so that what was begun can be cleaned up. A second one ends at once.
#[derive(Debug)]
pub(crate) struct Interrupt {
    came: Arc<AtomicBool>,
    wakes: UnixStream,
}

impl Interrupt {
    /// Begins to notice.
    ///
    /// # Errors
    /// Where the system refuses.
    pub(crate) fn notice() -> io::Result<Self> {
        let came = Arc::new(AtomicBool::new(false));
        let (wakes, wake) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // They act in this order: the first interrupt finds the flag unset.
            flag::register_conditional_shutdown(signal, STATUS.into(), Arc::clone(&came))?;
            flag::register(signal, Arc::clone(&came))?;
            // A flag alone would be missed by a wait that begins just after it was looked at.
            pipe::register(signal, wake.try_clone()?)?;
        }
        Ok(Self { came, wakes })
    }

    /// Whether one came.
    pub(crate) fn came(&self) -> bool {
        self.came.load(Ordering::SeqCst)
    }

    /// Something that can be read from once one came.
    ///
    /// # Errors
    /// Where there is no descriptor left.
    pub(crate) fn wakes(&self) -> io::Result<OwnedFd> {
        self.wakes.try_clone().map(OwnedFd::from)
    }
}
