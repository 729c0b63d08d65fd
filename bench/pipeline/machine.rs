//! The machine that the figures are of.

use rustix::thread::{CpuSet, sched_setaffinity};

/// The last core that this thread may use, where there are several: the first takes most interrupts. To be asked for before
/// it is kept on one.
pub fn last_core() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) - 1
}

/// Keeps this thread on a core.
pub fn pin_to(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    if let Err(err) = sched_setaffinity(None, &set) {
        println!("not pinned to a core: {err}");
    }
}

/// Processor, caches, kernel and what else runs.
pub fn describe() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let cache = |index: usize| read(&format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size")).trim().to_owned();
    format!(
        "{}, family {} model {}, {} cores, caches {} {} {}, kernel {}, load {}",
        field("model name").unwrap_or_default(),
        field("cpu family").unwrap_or_default(),
        field("model").unwrap_or_default(),
        std::thread::available_parallelism().map_or(1, usize::from),
        cache(0),
        cache(2),
        cache(3),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or_default(),
    )
}
