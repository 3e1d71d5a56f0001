//! Secrets of a process stay out of what the system writes of it.

use std::io;

/// Turns core dumps of this process off, for good: its memory holds tokens and secrets. Children begin anew, but with no core either.
///
/// The limit alone does not keep the memory from a program that the kernel pipes cores into (`core_pattern`), so on Linux the process is not dumpable besides.
/// With that no other process of the same user may read its memory or trace it either, unless it has `CAP_SYS_PTRACE`.
///
/// # Errors
/// The system does not allow it.
pub fn leave_no_core() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}
