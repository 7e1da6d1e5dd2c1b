//! Acts when the kernel says that everything waits for memory: ends the pod that is chosen.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use keelson_control::{Event, Level};
use keelson_sys::boot_clock::since_boot;
use keelson_sys::epoll::Interest;

use crate::memory_guard::{PAUSE, TRIGGER, choose, is_short, memory, pods};
use crate::node::{Node, Source};
use crate::{cgroup, pressure};

/// Kubelet's cgroup below the root.
const KUBEPODS: &str = "kubepods";

impl Node {
    /// Asks the kernel for a notice. Without PSI kubelet and the kernel's own killer remain.
    pub(crate) fn watch_memory(&mut self) {
        if self.tree.is_none() {
            return;
        }
        let watched = trigger(&Path::new(pressure::FOLDER).join("memory"))
            .and_then(|file| self.watch(Source::MemoryPressure(file), Interest::Notice));
        if let Err(error) = watched {
            let text = format!("memory pressure is not watched: {error}");
            self.say(Level::Warn, &text);
        }
    }

    /// The notice came.
    pub(crate) fn memory_stalled(&mut self) {
        let now = since_boot();
        if now < self.memory_quiet_until {
            return;
        }
        let pressure = pressure::read(&Path::new(pressure::FOLDER).join("memory"));
        let (Ok(pressure), Ok(memory)) = (pressure, memory()) else {
            return;
        };
        if is_short(pressure, memory) {
            self.memory_quiet_until = now + PAUSE;
            self.end_a_pod(memory.available, now);
        }
    }

    fn end_a_pod(&mut self, available: u64, now: Duration) {
        let Some(root) = self.tree.as_ref().map(|tree| tree.below("")) else {
            return;
        };
        let pods = pods(&root.join(KUBEPODS));
        let left = available >> 20;
        let Some(pod) = choose(&pods) else {
            // Whose turn it is now is for the kernel to say, by `oom_score_adj`.
            self.memory_quiet_until = now + PAUSE * 6;
            let text = format!("memory is short ({left} MiB left) and no pod is left to end");
            self.say(Level::Error, &text);
            return;
        };
        let group = pod.group.strip_prefix(&root).unwrap_or(&pod.group);
        let name = group.display().to_string();
        if let Err(error) = cgroup::kill(&pod.group) {
            let text = format!("memory is short and pod {name} cannot be ended: {error}");
            self.say(Level::Error, &text);
            return;
        }
        let text = format!(
            "memory is short ({left} MiB left): ended pod {name}, which used {} MiB",
            pod.bytes >> 20
        );
        self.say(Level::Error, &text);
        self.publish(&Event::MemoryShort {
            available_bytes: available,
            ended: name,
            used_bytes: pod.bytes,
        });
    }
}

fn trigger(path: &Path) -> io::Result<File> {
    let mut file = File::options().read(true).write(true).open(path)?;
    // The kernel replaces the last byte.
    file.write_all(format!("{TRIGGER}\0").as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use keelson_sys::epoll::Epoll;

    use super::*;

    #[test]
    fn the_kernel_takes_the_trigger() {
        let path = Path::new(pressure::FOLDER).join("memory");
        if !rustix::process::getuid().is_root() || !path.exists() {
            eprintln!("skipped: needs root and a kernel with PSI");
            return;
        }
        let trigger = trigger(&path).unwrap();
        let epoll = Epoll::open().unwrap();
        epoll.add(&trigger, 1, Interest::Notice).unwrap();
        // A machine that runs this test has memory: no notice, and no error either.
        assert_eq!(epoll.wait(Some(Duration::ZERO)).unwrap(), []);
    }
}
