//! Stepping back behind everything else on the machine. Between pods only a small CPU request does that;
//! within one, and without pods, these do.

use nix::errno::Errno;
use nix::libc;

const NICE: libc::c_int = 10;
const IOPRIO_WHO_PROCESS: libc::c_long = 1;
/// Class idle, in the bits above the level.
const IOPRIO_IDLE: libc::c_long = 3 << 13;

/// Lowers the priority of this thread and of those that it starts later. A refusal costs nothing but speed
/// of others, so it is only told.
#[allow(unsafe_code, reason = "nix has neither call")]
pub fn lower() {
    // SAFETY: plain numbers go in and come out; 0 is the calling thread.
    let nice = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    // SAFETY: as above.
    let io = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE) };
    for (what, result) in [("nice", Errno::result(libc::c_long::from(nice))), ("idle I/O", Errno::result(io))]
    {
        if let Err(error) = result {
            tracing::debug!(what, %error, "the priority stays as it is");
        }
    }
}
