//! The owned range against the ports that the host's own programs use.

use std::fs;

use crate::units::PortRange;

use super::finding::Finding;

const SUBJECT: &str = "server ports";

/// Looks at `ip_local_port_range`, `ip_local_reserved_ports` and who listens in the owned range.
pub(super) fn examine(owned: PortRange) -> Vec<Finding> {
    let local = sysctl("ip_local_port_range").and_then(|text| parse_local(&text));
    let reserved = sysctl("ip_local_reserved_ports").map(|text| parse_ranges(&text)).unwrap_or_default();
    let mut findings = vec![judge(owned, local, &reserved)];
    let listening = listeners().into_iter().filter(|&port| owned.contains(port));
    let listening: Vec<String> = listening.map(|port| port.to_string()).collect();
    if !listening.is_empty() {
        findings.push(Finding::warn(
            SUBJECT,
            format!("programs of this host listen on {} in the owned range", listening.join(", ")),
            "move them: the engine takes every packet to the owned range",
        ));
    }
    findings
}

/// The host picks source ports from `local`, but never a reserved one: none may be in the owned range, or the engine
/// takes the answers.
fn judge(owned: PortRange, local: Option<PortRange>, reserved: &[PortRange]) -> Finding {
    let Some(local) = local else {
        return Finding::warn(
            SUBJECT,
            "ip_local_port_range cannot be read",
            "see that it does not meet the owned range",
        );
    };
    let shared = PortRange { first: owned.first.max(local.first), last: owned.last.min(local.last) };
    let kept = |port: &u16| reserved.iter().any(|range| range.contains(*port));
    if !owned.overlaps(local) {
        return Finding::ok(SUBJECT, format!("{owned} lie outside of ip_local_port_range {local}"));
    }
    if (shared.first..=shared.last).all(|port| kept(&port)) {
        return Finding::ok(SUBJECT, format!("{owned} are in ip_local_reserved_ports"));
    }
    // The setting is replaced whole: what it holds already goes along.
    let all: Vec<String> = reserved.iter().chain([&owned]).map(ToString::to_string).collect();
    Finding::fail(
        SUBJECT,
        format!("this host takes source ports {shared} of the owned range {owned} for itself"),
        format!("sysctl -w net.ipv4.ip_local_reserved_ports={}", all.join(",")),
    )
}

fn sysctl(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()
}

fn parse_local(text: &str) -> Option<PortRange> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some(PortRange { first: numbers.next()?.ok()?, last: numbers.next()?.ok()? })
}

/// `8080,20480-59903`
fn parse_ranges(text: &str) -> Vec<PortRange> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(PortRange { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
    };
    text.split(',').filter_map(range).collect()
}

/// Ports of listening TCP sockets and of bound UDP sockets (proc_net_tcp in the kernel's documentation).
fn listeners() -> Vec<u16> {
    // TCP_LISTEN; TCP_CLOSE is the state of an unconnected UDP socket.
    let tables = [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")];
    let mut ports = Vec::new();
    for (table, state) in tables {
        let text = fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default();
        ports.extend(text.lines().skip(1).filter_map(|line| local_port(line, state)));
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The local port of a line of /proc/net/tcp, if its state is `state`.
fn local_port(line: &str, state: &str) -> Option<u16> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    (fields.nth(1)? == state).then(|| u16::from_str_radix(local.rsplit(':').next()?, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn range(text: &str) -> PortRange {
        text.parse().unwrap()
    }

    #[test]
    fn the_owned_range_must_be_the_engines_alone() {
        let owned = range("20480-59903");
        let level = |local, reserved| judge(owned, parse_local(local), &parse_ranges(reserved)).level;
        assert_eq!(level("60000\t65535\n", "\n"), Level::Ok);
        assert_eq!(level("32768\t60999\n", "20480-59903\n"), Level::Ok);
        assert_eq!(level("32768\t60999\n", "8080,20480-40000,40001-59903\n"), Level::Ok);
        assert_eq!(level("32768\t60999\n", "20480-40000,40002-59903\n"), Level::Fail);
        let finding = judge(owned, parse_local("32768 60999"), &[]);
        assert_eq!(finding.found, "this host takes source ports 32768-59903 of the owned range 20480-59903 for itself");
        assert_eq!(finding.advice.as_deref(), Some("sysctl -w net.ipv4.ip_local_reserved_ports=20480-59903"));
        let finding = judge(owned, parse_local("32768 60999"), &parse_ranges("8080\n"));
        let both = "sysctl -w net.ipv4.ip_local_reserved_ports=8080-8080,20480-59903";
        assert_eq!(finding.advice.as_deref(), Some(both));
        assert_eq!(level("?", ""), Level::Warn);
    }

    #[test]
    fn listeners_are_told_from_connections() {
        let listening = "   0: 00000000:5000 00000000:0000 0A 00000000:00000000 00:00000000";
        let connected = "   1: 0100007F:5001 0100007F:0050 01 00000000:00000000 00:00000000";
        assert_eq!(local_port(listening, "0A"), Some(0x5000));
        assert_eq!((local_port(connected, "0A"), local_port("", "0A")), (None, None));
    }
}
