//! The host as a whole: kernel, limits, the pin directory, cores.

use std::fs;
use std::io;
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::control::config::{Config, Poll, Role};

use super::finding::Finding;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut findings = vec![kernel(release.trim()), af_xdp(), locked_memory()];
    findings.extend(pin_directory(&config.engine.pin_dir));
    findings.extend(cores(config));
    findings.push(huge_pages());
    findings.extend(forwarding(config));
    findings
}

/// Oldest kernel that works, and the oldest that has all: AF_XDP over several buffers came with 6.6, links of XDP
/// programs that can be pinned with 5.9.
const OLDEST: (u32, u32) = (5, 9);
const WHOLE: (u32, u32) = (6, 6);

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    match numbers.next().zip(numbers.next()) {
        Some(version) if version >= WHOLE => Finding::ok("kernel", release),
        Some(version) if version >= OLDEST => {
            let found = format!("{release} has no AF_XDP over several buffers: frames end at 3.5 KB");
            Finding::warn("kernel", found, "use 6.6 or later for jumbo frames")
        }
        Some(_) => Finding::fail("kernel", format!("{release} cannot pin XDP programs"), "use 5.9 or later, best 6.6"),
        None => Finding::warn("kernel", format!("version \"{release}\" is not understood"), "use 6.6 or later"),
    }
}

fn af_xdp() -> Finding {
    match socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None) {
        Ok(_) => Finding::ok("AF_XDP", "sockets can be opened"),
        Err(rustix::io::Errno::AFNOSUPPORT) => {
            Finding::fail("AF_XDP", "the kernel has none", "use a kernel with CONFIG_XDP_SOCKETS")
        }
        Err(error) => {
            let found = format!("no socket: {error}");
            Finding::fail("AF_XDP", found, "run as root, or with CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF")
        }
    }
}

/// Bit of CapEff in /proc/PID/status (linux/capability.h).
const CAP_IPC_LOCK: u64 = 1 << 14;
/// What one worker's packet memory takes, at least.
const WORKER_MEMORY: u64 = 64 << 20;

fn locked_memory() -> Finding {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let subject = "locked memory";
    match limit {
        _ if capabilities & CAP_IPC_LOCK != 0 => Finding::ok(subject, "unlimited by CAP_IPC_LOCK"),
        None => Finding::ok(subject, "unlimited"),
        Some(limit) if limit >= WORKER_MEMORY => Finding::ok(subject, format!("{} MB", limit >> 20)),
        Some(limit) => {
            let found = format!("RLIMIT_MEMLOCK is {} KB", limit >> 10);
            Finding::fail(subject, found, "LimitMEMLOCK=infinity in the unit, or `ulimit -l unlimited`")
        }
    }
}

/// statfs(2)'s f_type of a bpffs (linux/magic.h).
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;

fn pin_directory(path: &Path) -> Vec<Finding> {
    let subject = format!("pin directory {}", path.display());
    // It may be made yet: then its nearest directory that is there counts.
    let there = path.ancestors().find(|directory| directory.exists()).unwrap_or(Path::new("/"));
    let is_bpffs = match rustix::fs::statfs(there) {
        // The type is signed on some machines.
        Ok(found) => found.f_type as u32 == BPF_FS_MAGIC,
        Err(_) => false,
    };
    let mut findings = vec![if is_bpffs {
        Finding::ok(&subject, "on a bpffs")
    } else {
        let advice = "mount -t bpf bpf /sys/fs/bpf, or set [engine] pin_dir; until then owned traffic is not dropped \
                      but answered with resets whenever the engine is gone";
        Finding::fail(&subject, format!("{} is no bpffs", there.display()), advice)
    }];
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt"));
    match (namespace("self"), namespace("1")) {
        (Ok(own), Ok(first)) if own != first => findings.push(Finding::warn(
            &subject,
            "in a private mount namespace: pins may die with it",
            "enter with `nsenter --net=/run/netns/NAME`, which keeps the host's mounts, not `ip netns exec`",
        )),
        _ => {}
    }
    findings
}

fn cores(config: &Config) -> Vec<Finding> {
    let subject = "cores";
    let wanted = &config.engine.cores;
    if wanted.is_empty() {
        let found = "one worker, pinned to no core";
        return vec![Finding::warn(subject, found, "give `[engine] cores` to pin workers")];
    }
    let list = |name: &str| fs::read_to_string(format!("/sys/devices/system/cpu/{name}")).map(|t| parse_list(&t));
    let online = list("online").unwrap_or_default();
    let isolated = list("isolated").unwrap_or_default();
    let mut findings = Vec::new();
    for core in wanted {
        findings.push(if !online.is_empty() && !online.contains(core) {
            Finding::fail(subject, format!("core {core} is not online"), format!("online are {}", show_list(&online)))
        } else if isolated.contains(core) {
            Finding::ok(subject, format!("core {core} is isolated"))
        } else {
            let advice = format!("boot with isolcpus={core} nohz_full={core}, where latency matters");
            Finding::warn(subject, format!("core {core} is shared with other programs"), advice)
        });
    }
    let all = !online.is_empty() && online.iter().all(|core| wanted.contains(core));
    if all && config.engine.poll == Poll::Busy {
        let found = "busy polling takes every core of this host";
        findings.push(Finding::warn(subject, found, "leave a core to the host, or use `poll = \"adaptive\"`"));
    }
    findings
}

/// `0-3,8` (Documentation/admin-guide/cputopology.rst).
fn parse_list(text: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

fn show_list(cores: &[u32]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn huge_pages() -> Finding {
    let free = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("HugePages_Free:"))?;
        line.trim().parse::<u64>().ok()
    });
    match free {
        Some(free) if free > 0 => Finding::ok("huge pages", format!("{free} free")),
        _ => Finding::warn("huge pages", "none free: packet memory takes small pages", "sysctl -w vm.nr_hugepages=64"),
    }
}

/// Transit through a gateway is the kernel's.
fn forwarding(config: &Config) -> Option<Finding> {
    let is_external = |role: &Role| matches!(role, Role::External { .. } | Role::Uplink { external: true, .. });
    if !config.ports.iter().any(|port| is_external(&port.role)) {
        return None;
    }
    let read = |path: &str| -> io::Result<bool> { Ok(fs::read_to_string(path)?.trim() == "1") };
    Some(match read("/proc/sys/net/ipv4/ip_forward") {
        Ok(true) => Finding::ok("forwarding", "ip_forward is on"),
        _ => Finding::warn(
            "forwarding",
            "ip_forward is off: containers do not reach the outside through this gateway",
            "sysctl -w net.ipv4.ip_forward=1",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn kernels_are_judged_by_their_version() {
        assert_eq!(kernel("6.18.44-fc-v657").level, Level::Ok);
        assert_eq!(kernel("6.6.0").level, Level::Ok);
        assert_eq!(kernel("6.1.0-37-amd64").level, Level::Warn);
        assert_eq!(kernel("5.4.0").level, Level::Fail);
        assert_eq!(kernel("").level, Level::Warn);
    }

    #[test]
    fn lists_of_cores_have_ranges() {
        assert_eq!(parse_list("0-2,8\n"), [0, 1, 2, 8]);
        assert!(parse_list("\n").is_empty());
    }

    #[test]
    fn a_pin_directory_must_be_a_bpffs() {
        let finding = &pin_directory(Path::new("/proc/sixway"))[0];
        assert_eq!((finding.level, finding.found.as_str()), (Level::Fail, "/proc is no bpffs"));
    }
}
