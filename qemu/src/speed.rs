//! How fast this host is: the accelerator to use, and by how much deadlines must stretch.

use std::fs;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// How the guest's instructions are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceleration {
    /// QEMU translates every instruction.
    Emulation,
    /// The processor runs them.
    Kvm,
}

impl Acceleration {
    /// What this host can do.
    pub fn of_this_host() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let usable = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok();
        Self::choose(&cpuinfo, usable)
    }

    /// `/dev/kvm` alone says little: some hosts have the node and no virtualisation behind it.
    fn choose(cpuinfo: &str, kvm_opens: bool) -> Self {
        let flags = cpuinfo
            .lines()
            .find(|line| line.starts_with("flags"))
            .unwrap_or_default();
        let virtualises = flags
            .split_whitespace()
            .any(|flag| flag == "vmx" || flag == "svm");
        if virtualises && kvm_opens {
            Self::Kvm
        } else {
            Self::Emulation
        }
    }

    /// Values of `-accel` and `-cpu`.
    pub(crate) fn arguments(self) -> (&'static str, &'static str) {
        match self {
            // Without these four features a boot takes 20 instead of 25 CPU seconds and file
            // copies are 2.7 times faster: each makes the guest do what translates badly.
            Self::Emulation => ("tcg,thread=multi", "max,-erms,-fsrm,-pcid,-smap"),
            Self::Kvm => ("kvm", "host"),
        }
    }
}

/// What every worker of the measurement hashes: long enough for the scheduler to show what else
/// the host is doing.
const WORK_BYTES: usize = 256 << 20;

/// How long that takes on the idle machine the deadlines were chosen on.
const REFERENCE: Duration = Duration::from_millis(200);

/// No host is given more than this: a deadline that stretches further only hides a hang.
const MOST: f64 = 6.0;

/// By how much deadlines stretch on this host, measured once per process: 1 on the machine the
/// deadlines were chosen on and on faster ones, more where the processors are slower or busy.
pub fn slowness() -> f64 {
    static MEASURED: OnceLock<f64> = OnceLock::new();
    *MEASURED.get_or_init(|| factor(measure()))
}

/// `deadline`, stretched by [`slowness`].
pub fn scaled(deadline: Duration) -> Duration {
    Duration::try_from_secs_f64(deadline.as_secs_f64() * slowness()).unwrap_or(Duration::MAX)
}

fn factor(slowest_worker: Duration) -> f64 {
    (slowest_worker.as_secs_f64() / REFERENCE.as_secs_f64()).clamp(1.0, MOST)
}

/// Two workers, because a machine has two virtual processors: one busy core must show.
fn measure() -> Duration {
    let workers: Vec<_> = (0..2)
        .map(|_| {
            thread::spawn(|| {
                let start = Instant::now();
                let block = vec![0x5a_u8; 1 << 20];
                let mut hash = Sha256::new();
                for _ in 0..WORK_BYTES / block.len() {
                    hash.update(&block);
                }
                std::hint::black_box(hash.finalize());
                start.elapsed()
            })
        })
        .collect();
    workers
        .into_iter()
        .filter_map(|worker| worker.join().ok())
        .max()
        .unwrap_or(REFERENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_needs_the_flag_and_the_device() {
        let with = "processor\t: 0\nflags\t\t: fpu vmx sse2\n";
        let without = "processor\t: 0\nflags\t\t: fpu hypervisor sse2\nbugs\t: vmx\n";
        assert_eq!(Acceleration::choose(with, true), Acceleration::Kvm);
        assert_eq!(Acceleration::choose(with, false), Acceleration::Emulation);
        assert_eq!(Acceleration::choose(without, true), Acceleration::Emulation);
        assert_eq!(Acceleration::choose("", true), Acceleration::Emulation);
    }

    #[test]
    fn a_fast_host_keeps_the_deadlines_and_a_slow_one_stretches_them() {
        assert!((factor(REFERENCE / 10) - 1.0).abs() < f64::EPSILON);
        assert!((factor(REFERENCE * 3) - 3.0).abs() < 1e-9);
        assert!((factor(REFERENCE * 1000) - MOST).abs() < f64::EPSILON);
    }
}
