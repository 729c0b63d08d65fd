//! What must hold for every frame of a replay, whatever was sent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::estate::{Estate, NETWORKS, OWN, server_ip};
use crate::parcels::hex;
use crate::reader::{self, Seen, Sum};
use crate::traffic::Sent;
use crate::{Out, Replayed};

/// Judges a replay, and counts its verdicts.
pub fn judge(
    estate: &Estate,
    frames: &[(u64, Sent)],
    replayed: &Replayed,
    counts: &mut BTreeMap<String, u64>,
) -> Result<(), String> {
    if replayed.fates.len() != frames.len() {
        return Err(format!("{} verdicts on {} frames", replayed.fates.len(), frames.len()));
    }
    let of_a_frame = |stamp: &u64| frames.iter().any(|(known, _)| known == stamp);
    if let Some(stamp) = replayed.out.keys().chain(replayed.host.keys()).find(|stamp| !of_a_frame(stamp)) {
        return Err(format!("what came out at {stamp} ms has no cause"));
    }
    for ((stamp, sent), (port, verdict)) in frames.iter().zip(&replayed.fates) {
        let none = Vec::new();
        let out = replayed.out.get(stamp).unwrap_or(&none);
        let host = replayed.host.get(stamp).copied().unwrap_or(0);
        let due = match verdict.as_str() {
            "forwarded" | "answered" => (1, 0),
            "dropped" | "consumed" => (0, 0),
            "host" => (0, 1),
            other => return Err(format!("a verdict called {other}")),
        };
        let come = estate.ports[sent.port].name.as_str();
        let wrong = if port != come {
            Some(format!("its verdict is one of {port}"))
        } else if (out.len(), host) != due {
            Some(format!("{} frames came out, and {host} for the kernel", out.len()))
        } else {
            out.first().and_then(|out| judge_one(estate, sent, out, verdict == "answered"))
        };
        if let Some(wrong) = wrong {
            let shown = out.iter().map(|out| format!("\n  {} {}", estate.ports[out.port].name, hex(&out.bytes)));
            return Err(format!(
                "at {stamp} ms, {verdict}: {wrong}\n  {come} {} in{} out",
                hex(&sent.bytes),
                shown.collect::<String>()
            ));
        }
        *counts.entry(verdict.clone()).or_default() += 1;
    }
    Ok(())
}

/// What is wrong about a frame that came out.
fn judge_one(estate: &Estate, sent: &Sent, out: &Out, is_answer: bool) -> Option<String> {
    let (come, gone) = (&estate.ports[sent.port], &estate.ports[out.port]);
    if out.bytes.get(6..12) != Some(&gone.mac) {
        return Some("it does not come from its port's own MAC".to_owned());
    }
    if is_answer {
        let seen = reader::read(&out.bytes);
        // An echo brings back what it was sent, a wrong checksum included.
        let was_wrong = reader::read(&sent.bytes).is_some_and(|before| before.sum == Sum::Wrong);
        let is_wrong =
            |seen: &Seen| !seen.has_right_header || !(was_wrong || matches!(seen.sum, Sum::Right | Sum::None));
        return match seen {
            _ if sent.port != out.port => Some("an answer leaves by another port".to_owned()),
            Some(seen) if is_wrong(&seen) => Some(format!("an answer is wrong: {seen:?}")),
            _ => None,
        };
    }
    // What etherparse does not take for whole IP is no packet.
    let Some(after) = reader::read(&out.bytes) else { return Some("what came out is no packet".to_owned()) };
    let before = reader::read(&sent.bytes)?;
    if !after.has_right_header {
        return Some("its IPv4 header has a wrong checksum".to_owned());
    }
    let was_right = before.sum == Sum::Right || (before.sum == Sum::Partial && come.network.is_some());
    if was_right && after.sum != Sum::Right {
        return Some(format!("its checksum was {:?} and is {:?}", before.sum, after.sum));
    }
    if before.sum == Sum::None && after.sum != Sum::None {
        return Some(format!("it had no checksum that counts, and is {:?}", after.sum));
    }
    if after.ttl + 1 != before.ttl {
        return Some(format!("its TTL was {} and is {}", before.ttl, after.ttl));
    }
    if after.proto != before.proto {
        return Some("it has changed its protocol".to_owned());
    }
    match (come.network, gone.network) {
        (_, None) => on_the_wire(estate, come.network, &after),
        (Some(from), Some(to)) => meet(estate, from, to),
        (None, Some(to)) => {
            // Errors come from anywhere about the networks' packets; all else bears its sender's wire name.
            let from = estate.network_of_wire(before.proto, before.src);
            from.and_then(|from| meet(estate, from, to))
        }
    }
}

/// Packets of networks that are kept apart do not meet.
fn meet(estate: &Estate, from: usize, to: usize) -> Option<String> {
    let is_wrong = from != to && estate.is_apart;
    is_wrong.then(|| format!("a packet of {} came out at a port of {}", NETWORKS[from], NETWORKS[to]))
}

fn on_the_wire(estate: &Estate, from: Option<usize>, after: &Seen) -> Option<String> {
    let v4 = after.src.0.is_ipv4();
    if is_inside(after.dst.0) || (is_inside(after.src.0) && from.is_some()) {
        return Some(format!("{} -> {} are on the wire", after.src.0, after.dst.0));
    }
    let from = from?;
    let is_public = |ip| estate.services.iter().any(|service| service.public.is_some_and(|public| public.0 == ip));
    if after.src.0 != server_ip(OWN, v4) && !is_public(after.src.0) {
        return Some(format!("{} is no name of this server", after.src.0));
    }
    let to = estate.network_of_wire(after.proto, after.dst);
    to.and_then(|to| meet(estate, from, to))
}

/// In the prefixes that both networks have.
fn is_inside(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 10,
        IpAddr::V6(ip) => ip.segments()[0] == 0xfd00,
    }
}
