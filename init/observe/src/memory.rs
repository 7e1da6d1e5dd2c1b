//! Memory and load.

use keelson_api::v1alpha1::MemoryResponse;

use crate::pressure::pressure;
use crate::root::{ReadError, Root};

/// /proc/meminfo and the pressure on memory.
///
/// # Errors
/// /proc/meminfo cannot be read.
pub fn memory(root: &Root) -> Result<MemoryResponse, ReadError> {
    let memory = parse(&root.text("/proc/meminfo")?);
    let stall = pressure(root).memory;
    Ok(MemoryResponse {
        pressure_some: stall.some.percent,
        pressure_full: stall.full.percent,
        ..memory
    })
}

/// Processes that ran or waited for a disk, averaged over the last minute.
///
/// # Errors
/// /proc/loadavg cannot be read.
pub fn load1(root: &Root) -> Result<f64, ReadError> {
    let text = root.text("/proc/loadavg")?;
    let first = text.split_ascii_whitespace().next();
    Ok(first.and_then(|word| word.parse().ok()).unwrap_or(0.0))
}

fn parse(text: &str) -> MemoryResponse {
    let mut memory = MemoryResponse::default();
    for (name, rest) in text.lines().filter_map(|line| line.split_once(':')) {
        let field = match name {
            "MemTotal" => &mut memory.total_bytes,
            "MemAvailable" => &mut memory.available_bytes,
            "MemFree" => &mut memory.free_bytes,
            "Cached" => &mut memory.cached_bytes,
            "Buffers" => &mut memory.buffers_bytes,
            "AnonPages" => &mut memory.anonymous_bytes,
            "Shmem" => &mut memory.shared_bytes,
            "Slab" => &mut memory.slab_bytes,
            "KernelStack" => &mut memory.kernel_stack_bytes,
            "PageTables" => &mut memory.page_tables_bytes,
            "Dirty" => &mut memory.dirty_bytes,
            "SwapTotal" => &mut memory.swap_total_bytes,
            "SwapFree" => &mut memory.swap_free_bytes,
            _ => continue,
        };
        let kib = rest.split_ascii_whitespace().next();
        *field = kib
            .and_then(|kib| kib.parse::<u64>().ok())
            .unwrap_or(0)
            .saturating_mul(1024);
    }
    memory
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       24684096 kB\nMemFree:        19863344 kB\nMemAvailable:   23504716 kB\nBuffers:          191324 kB\nCached:          3377780 kB\nSwapCached:            0 kB\nActive(anon):     400000 kB\nAnonPages:        403116 kB\nShmem:              1044 kB\nSlab:             170980 kB\nKernelStack:        2544 kB\nPageTables:         6908 kB\nDirty:               172 kB\nSwapTotal:          1024 kB\nSwapFree:            512 kB\nHugePages_Total:       0\n";

    #[test]
    fn every_field_has_its_line() {
        let expected = MemoryResponse {
            total_bytes: 24_684_096 * 1024,
            available_bytes: 23_504_716 * 1024,
            free_bytes: 19_863_344 * 1024,
            cached_bytes: 3_377_780 * 1024,
            buffers_bytes: 191_324 * 1024,
            anonymous_bytes: 403_116 * 1024,
            shared_bytes: 1044 * 1024,
            slab_bytes: 170_980 * 1024,
            kernel_stack_bytes: 2544 * 1024,
            page_tables_bytes: 6908 * 1024,
            dirty_bytes: 172 * 1024,
            swap_total_bytes: 1024 * 1024,
            swap_free_bytes: 512 * 1024,
            ..MemoryResponse::default()
        };
        assert_eq!(parse(MEMINFO), expected);
    }

    #[test]
    fn this_machine_has_memory() {
        let memory = memory(&Root::machine()).unwrap();
        assert!(memory.total_bytes >= memory.available_bytes && memory.available_bytes > 0);
        assert!(load1(&Root::machine()).unwrap() >= 0.0);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = parse(&text);
            let _ = parse(&format!("MemTotal:{text}"));
        }
    }
}
