//! What must hold for every frame of a replay, whatever was sent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::estate::{Estate, NETWORKS, OWN, server_ip};
use crate::parcels::hex;
use crate::reader::{self, Seen, Sum};
use crate::traffic::Sent;
use crate::{Fate, Out};

/// Judges a replay, and counts its verdicts.
pub fn judge(
    estate: &Estate,
    frames: &[(u64, Sent)],
    fates: &[Fate],
    counts: &mut BTreeMap<String, u64>,
) -> Result<(), String> {
    let mut fate_of = vec![0; frames.len()];
    fates.iter().for_each(|fate| fate_of[fate.frame] += 1);
    if let Some(at) = fate_of.iter().position(|&count| count != 1) {
        return Err(format!("frame {} has {} verdicts", at + 1, fate_of[at]));
    }
    for fate in fates {
        let sent = &frames[fate.frame].1;
        let come = estate.ports[sent.port].name.as_str();
        let is_due = match fate.verdict.as_str() {
            "answered" => fate.out.len() == 1,
            "forwarded" => !fate.out.is_empty(),
            "dropped" | "consumed" | "host" => fate.out.is_empty(),
            other => return Err(format!("a verdict called {other}")),
        };
        let wrong = if fate.port != come {
            Some(format!("its verdict is one of {}", fate.port))
        } else if !is_due {
            Some(format!("{} frames came out", fate.out.len()))
        } else {
            fate.out.iter().find_map(|out| judge_one(estate, sent, out, fate.verdict == "answered"))
        };
        if let Some(wrong) = wrong {
            let shown = fate.out.iter().map(|out| format!("\n  {} {}", estate.ports[out.port].name, hex(&out.bytes)));
            return Err(format!(
                "frame {}, {}: {wrong}\n  {come} {} in{} out",
                fate.frame + 1,
                fate.verdict,
                hex(&sent.bytes),
                shown.collect::<String>()
            ));
        }
        let is_cut = fate.out.len() > 1;
        let seen = reader::read(&sent.bytes);
        let is_part = fate.verdict == "forwarded" && seen.is_some_and(|seen| seen.is_fragment);
        for name in [(true, ""), (is_cut, ", cut"), (is_part, ", a fragment")] {
            if name.0 {
                *counts.entry(format!("{}{}", fate.verdict, name.1)).or_default() += 1;
            }
        }
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
        // A client outside is told under the public name that it called, by the way of answers.
        let is_public = |seen: &Seen| {
            let names = estate.services.iter().filter_map(|service| service.public);
            come.network.is_none() && gone.network.is_none() && names.map(|(ip, _)| ip).any(|ip| ip == seen.src.0)
        };
        return match seen {
            Some(seen) if sent.port != out.port && !is_public(&seen) => {
                Some("an answer leaves by another port".to_owned())
            }
            Some(seen) if seen.src.0 == seen.dst.0 => Some("an answer goes to where it comes from".to_owned()),
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
    // Of a packet that was cut no piece has a checksum of its own.
    if was_right && after.sum != Sum::Right && !after.is_fragment {
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
