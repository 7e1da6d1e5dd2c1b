//! What the machine has and what uses it.

use std::time::Duration;

use keelson_api::v1alpha1::{
    CgroupsResponse, Disk, DisksResponse, MemoryResponse, MountsResponse, ProcessesResponse,
};

use crate::output::{Body, Detail, Show};
use crate::table::{Cell, Table, Tone, fields};
use crate::units::{limit, size, span};

impl Show for ProcessesResponse {
    fn show(&self, detail: Detail) -> Body {
        let mut table = Table::new(["PID", "USER", "STATE", "CPU", "MEMORY", "NAME"]);
        table.more(
            detail.wide,
            ["PARENT", "THREADS", "SHARE", "OOM", "CGROUP", "COMMAND"],
        );
        for process in &self.processes {
            let share = match process.pss_bytes {
                0 => Cell::default(),
                bytes => size(bytes).into(),
            };
            table.row([
                process.pid.to_string().into(),
                process.user.as_str().into(),
                process.state.as_str().into(),
                span(Duration::from_millis(process.cpu_ms)).into(),
                size(process.resident_bytes).into(),
                process.name.as_str().into(),
                process.parent_pid.to_string().into(),
                process.threads.to_string().into(),
                share,
                process.oom_score_adj.to_string().into(),
                process.cgroup.as_str().into(),
                process.command_line.as_str().into(),
            ]);
        }
        Body::Table(table)
    }
}

impl Show for CgroupsResponse {
    fn show(&self, detail: Detail) -> Body {
        let mut table = Table::new(["CGROUP", "MEMORY", "HIGH", "MAX", "CPU", "PROCESSES"]);
        table.more(
            detail.wide,
            [
                "PEAK",
                "LOW",
                "OOM KILLS",
                "CPU WEIGHT",
                "MOST PROCESSES",
                "MEMORY WAIT",
            ],
        );
        for cgroup in &self.cgroups {
            let usage = cgroup.usage.unwrap_or_default();
            table.row([
                cgroup.path.as_str().into(),
                size(usage.memory_bytes).into(),
                limit(cgroup.memory_high_bytes).into(),
                limit(cgroup.memory_max_bytes).into(),
                span(Duration::from_micros(usage.cpu_us)).into(),
                usage.processes.to_string().into(),
                size(usage.memory_peak_bytes).into(),
                limit(cgroup.memory_low_bytes).into(),
                usage.oom_kills.to_string().into(),
                cgroup.cpu_weight.to_string().into(),
                count(cgroup.pids_max),
                percent(usage.memory_pressure).into(),
            ]);
        }
        Body::Table(table)
    }
}

fn count(count: u64) -> Cell {
    match count {
        0 => "none".into(),
        count => count.to_string().into(),
    }
}

fn percent(share: f64) -> String {
    format!("{share:.1} %")
}

impl Show for MountsResponse {
    fn show(&self, detail: Detail) -> Body {
        let mut table = Table::new(["TARGET", "TYPE", "SIZE", "USED", "FREE", "SOURCE"]);
        table.more(detail.wide, ["OPTIONS"]);
        for mount in &self.mounts {
            let [total, used, free] = match mount.size_bytes {
                0 => [const { String::new() }; 3],
                total => [total, mount.used_bytes, mount.available_bytes].map(size),
            };
            table.row([
                mount.target.as_str().into(),
                mount.file_system.as_str().into(),
                total.into(),
                used.into(),
                free.into(),
                mount.source.as_str().into(),
                mount.options.as_str().into(),
            ]);
        }
        Body::Table(table)
    }
}

impl Show for MemoryResponse {
    fn show(&self, detail: Detail) -> Body {
        if !detail.several {
            return Body::Text(memory_lines(self));
        }
        let mut table = Table::new(["TOTAL", "AVAILABLE", "FREE", "CACHED", "PROCESSES", "WAIT"]);
        table.row([
            size(self.total_bytes).into(),
            size(self.available_bytes).into(),
            size(self.free_bytes).into(),
            size(self.cached_bytes).into(),
            size(self.anonymous_bytes).into(),
            percent(self.pressure_some).into(),
        ]);
        Body::Table(table)
    }
}

fn memory_lines(memory: &MemoryResponse) -> String {
    let swap = match memory.swap_total_bytes {
        0 => "none".to_owned(),
        total => format!("{} free of {}", size(memory.swap_free_bytes), size(total)),
    };
    let waited = format!(
        "some processes {}, all of them {} of the last 10 s",
        percent(memory.pressure_some),
        percent(memory.pressure_full)
    );
    fields(&[
        ("total", size(memory.total_bytes)),
        ("available", size(memory.available_bytes)),
        ("free", size(memory.free_bytes)),
        ("cached", size(memory.cached_bytes)),
        ("buffers", size(memory.buffers_bytes)),
        ("processes", size(memory.anonymous_bytes)),
        ("shared", size(memory.shared_bytes)),
        ("slab", size(memory.slab_bytes)),
        ("kernel stacks", size(memory.kernel_stack_bytes)),
        ("page tables", size(memory.page_tables_bytes)),
        ("dirty", size(memory.dirty_bytes)),
        ("swap", swap),
        ("waited for", waited),
    ])
}

impl Show for DisksResponse {
    fn show(&self, detail: Detail) -> Body {
        let mut table = Table::new(["DEVICE", "SIZE", "USE", "MODEL", "BUSY", "READ", "WRITTEN"]);
        table.more(
            detail.wide,
            ["BUS", "KIND", "SECTOR", "SERIAL", "PARTITIONS"],
        );
        for disk in &self.disks {
            let partitions: Vec<String> = disk
                .partitions
                .iter()
                .map(|part| format!("{} {} {}", part.device, part.label, size(part.size_bytes)))
                .collect();
            table.row([
                disk.device.as_str().into(),
                size(disk.size_bytes).into(),
                disk_use(disk),
                disk.model.as_str().into(),
                percent(disk.busy).into(),
                size(disk.read_bytes).into(),
                size(disk.written_bytes).into(),
                disk.transport.as_str().into(),
                kind(disk).into(),
                disk.sector_bytes.to_string().into(),
                disk.serial.as_str().into(),
                partitions.join(", ").into(),
            ]);
        }
        Body::Table(table)
    }
}

fn disk_use(disk: &Disk) -> Cell {
    if disk.system {
        Cell::toned("system", Tone::Good)
    } else {
        Cell::default()
    }
}

fn kind(disk: &Disk) -> String {
    let words = [
        (disk.rotational, "rotational"),
        (disk.removable, "removable"),
        (disk.read_only, "read-only"),
    ];
    let holds: Vec<&str> = words
        .iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, word)| *word)
        .collect();
    holds.join(", ")
}
