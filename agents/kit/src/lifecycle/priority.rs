//! Housekeeping that yields to everything else on the host.

use nix::libc;

/// Lowers the calling thread to the least CPU and disk priority. Between pods this does nothing (there the
/// CPU request decides); on a plain host it keeps compression out of everybody's way. Failing is harmless.
pub fn lower_this_thread() {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    #[allow(unsafe_code, reason = "nix wraps neither call")]
    // SAFETY: both calls take plain numbers and touch no memory; 0 means the calling thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE);
    }
}
