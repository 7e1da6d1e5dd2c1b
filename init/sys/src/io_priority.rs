//! Priority of a thread's reads and writes (ioprio_set(2), which neither rustix nor nix has).

use std::io;
use std::marker::PhantomData;

/// `IOPRIO_WHO_PROCESS` of `linux/ioprio.h`: a thread, in spite of its name.
const WHO_PROCESS: libc::c_int = 1;

/// `IOPRIO_CLASS_IDLE`, above `IOPRIO_CLASS_SHIFT` (13) bits of level, which this class has none of.
const IDLE: libc::c_int = 3 << 13;

/// `IOPRIO_CLASS_NONE`: as the thread's nice value says.
const NONE: libc::c_int = 0;

/// The calling thread is idle as long as this lives; it must not leave the thread.
#[derive(Debug)]
pub struct Idle(PhantomData<*const ()>);

/// The calling thread gets the disk only when nobody else wants it, as far as the kernel's
/// scheduler for that disk knows priorities.
pub fn idle() -> io::Result<Idle> {
    set(IDLE)?;
    Ok(Idle(PhantomData))
}

impl Drop for Idle {
    fn drop(&mut self) {
        // What was allowed downwards is allowed back.
        let _ = set(NONE);
    }
}

fn set(priority: libc::c_int) -> io::Result<()> {
    let calling_thread: libc::c_int = 0;
    // SAFETY: takes three numbers and touches no memory of ours.
    let result =
        unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, calling_thread, priority) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_this_thread() -> libc::c_long {
        // SAFETY: takes two numbers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0) }
    }

    #[test]
    fn one_thread_is_idle_for_a_while_and_the_others_are_not() {
        let thread = std::thread::spawn(|| {
            let before = of_this_thread();
            let held = idle().unwrap();
            assert_eq!(of_this_thread(), libc::c_long::from(IDLE));
            drop(held);
            assert_eq!(of_this_thread(), before);
        });
        thread.join().unwrap();
        assert_ne!(of_this_thread(), libc::c_long::from(IDLE));
    }
}
