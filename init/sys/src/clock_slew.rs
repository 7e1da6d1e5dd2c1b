//! Lets the wall clock run a little faster or slower, and tells the kernel that it is right.

use std::io;
use std::mem::zeroed;

use libc::{ADJ_ESTERROR, ADJ_MAXERROR, ADJ_OFFSET_SINGLESHOT, ADJ_STATUS, c_long, c_uint, timex};

/// What SNTP promises: the kernel counts its own growing doubt from here.
const MAX_ERROR_MICROSECONDS: c_long = 1_000_000;

/// Moves the clock by so many microseconds without a jump, 0.5 ms per second.
pub fn slew_clock(microseconds: i64) -> io::Result<()> {
    let mut request = empty();
    request.modes = ADJ_OFFSET_SINGLESHOT;
    request.offset = c_long::try_from(microseconds).map_err(io::Error::other)?;
    adjust(request)
}

/// Says that the clock is synchronised: the kernel then keeps the clock chip right as well.
pub fn mark_synchronised() -> io::Result<()> {
    let mut request = empty();
    request.modes = ADJ_STATUS | ADJ_MAXERROR | ADJ_ESTERROR;
    request.maxerror = MAX_ERROR_MICROSECONDS;
    request.esterror = MAX_ERROR_MICROSECONDS;
    adjust(request)
}

fn empty() -> timex {
    // SAFETY: timex holds only numbers, for which all bits zero is a value; `modes` zero asks for
    // nothing to be changed. The structure has no constructor in the libc crate.
    let mut request: timex = unsafe { zeroed() };
    request.modes = c_uint::MIN;
    request
}

fn adjust(mut request: timex) -> io::Result<()> {
    // SAFETY: the pointer is to a live timex that the kernel reads and writes during the call.
    // rustix has no wrapper for this call.
    match unsafe { libc::adjtimex(&raw mut request) } {
        -1 => Err(io::Error::last_os_error()),
        // Anything else is the clock's state (leap seconds, not synchronised...).
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_without_changing_works_for_everyone() {
        adjust(empty()).unwrap();
    }

    #[test]
    fn an_offset_that_is_no_change_is_accepted_or_refused_with_a_reason() {
        // Root may set it; others get the reason. Zero ends a slew, so nothing moves.
        if let Err(error) = slew_clock(0) {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
    }
}
