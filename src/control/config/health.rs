//! `[[health]]`: services whose replicas on this server are probed.

use std::time::Duration;

use toml::Spanned;

use crate::control::health::{Check, Kind, Thresholds};
use crate::units::{Ip, Proto};

use super::mistake::Mistakes;
use super::network;
use super::reader::Section;

/// From one probe to the next, unless the file says so, in milliseconds.
const INTERVAL_MS: u32 = 1000;
/// Probes in a row that change the verdict: with a timeout of half an interval, a replica that dies is out of service
/// within two and a half intervals.
const RISE: u32 = 2;
const FALL: u32 = 2;
/// The half-life of the penalty for failing, in seconds. RFC 2439 has minutes in mind, for routes all over the world.
const HALF_LIFE_S: u32 = 15;

/// A check as far as it could be read.
pub(super) struct Draft {
    network: Option<Spanned<String>>,
    ip: Option<Spanned<Ip>>,
    port: Option<Spanned<u32>>,
    proto: Proto,
    kind: Kind,
    interval_ms: u32,
    timeout_ms: u32,
    thresholds: Thresholds,
    half_life: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Tcp,
    Http,
    Udp,
    Icmp,
}

pub(super) fn read(section: &mut Section<'_, '_, '_>) -> Draft {
    let network = section.required_text("network", "\"blue\"");
    let ip = section.required::<Ip>("ip", "\"10.0.0.10\"");
    if !section.has("port") {
        section.missing("port", "80");
    }
    let port = section.integer("port", 1..=65535);
    let proto =
        section.choice("proto", &[("tcp", Proto::TCP), ("udp", Proto::UDP)]).map_or(Proto::TCP, Spanned::into_inner);
    let (words, default): (&[(&str, Word)], Word) = if proto == Proto::TCP {
        (&[("tcp", Word::Tcp), ("http", Word::Http), ("icmp", Word::Icmp)], Word::Tcp)
    } else {
        (&[("udp", Word::Udp), ("icmp", Word::Icmp)], Word::Udp)
    };
    let kind = section.choice("kind", words).map_or(default, Spanned::into_inner);
    let path = section.text("path");
    if let Some(path) = &path {
        check_path(path, kind, section.mistakes);
    }
    let mut number = |key, range, default| section.integer(key, range).map_or(default, Spanned::into_inner);
    let interval_ms = number("interval_ms", 10..=3_600_000, INTERVAL_MS);
    let (rise, fall) = (number("rise", 1..=1000, RISE), number("fall", 1..=1000, FALL));
    let half_life_s = number("half_life_s", 1..=3600, HALF_LIFE_S);
    let timeout = section.integer("timeout_ms", 1..=3_600_000);
    if let Some(timeout) = timeout.as_ref().filter(|timeout| *timeout.get_ref() > interval_ms) {
        let message = format!("`timeout_ms` must not be longer than the interval, {interval_ms} ms");
        section.mistakes.add(&timeout.span(), message);
    }
    let damping = section.flag("damping").is_none_or(Spanned::into_inner);
    Draft {
        network,
        ip,
        port,
        proto,
        kind: match kind {
            Word::Tcp => Kind::Tcp,
            Word::Http => Kind::Http { path: path.map_or_else(|| "/".to_owned(), Spanned::into_inner) },
            Word::Udp => Kind::Udp,
            Word::Icmp => Kind::Icmp,
        },
        interval_ms,
        timeout_ms: timeout.map_or(interval_ms / 2, Spanned::into_inner),
        thresholds: Thresholds { rise, fall },
        half_life: damping.then(|| Duration::from_secs(u64::from(half_life_s))),
    }
}

/// Notes what could not be the target of a request (RFC 9112 section 3.2.1), or would not fit in one packet.
fn check_path(path: &Spanned<String>, kind: Word, mistakes: &mut Mistakes<'_>) {
    const LONGEST: usize = 256;
    let text = path.get_ref();
    if kind != Word::Http {
        mistakes.add(&path.span(), "`path` is for `kind = \"http\"`");
    } else if !text.starts_with('/') || !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.len() > LONGEST {
        mistakes
            .add(&path.span(), format!("`path` begins with `/` and has up to {LONGEST} printable ASCII characters"));
    }
}

impl Draft {
    pub(super) fn finish(self) -> Option<Check> {
        Some(Check {
            network: self.network?.into_inner(),
            ip: self.ip?.into_inner(),
            port: u16::try_from(self.port?.into_inner()).ok()?,
            proto: self.proto,
            kind: self.kind,
            interval: Duration::from_millis(u64::from(self.interval_ms)),
            timeout: Duration::from_millis(u64::from(self.timeout_ms)),
            thresholds: self.thresholds,
            half_life: self.half_life,
        })
    }
}

/// Notes checks of services that have one already, and of networks that are not there or have no address to probe from.
pub(super) fn check(checks: &[Draft], networks: &[network::Draft], mistakes: &mut Mistakes<'_>) {
    for (nth, draft) in checks.iter().enumerate() {
        let Some(name) = &draft.network else { continue };
        network::check_known(name, networks, mistakes);
        let of_it = networks.iter().find(|network| network.is_called(name.get_ref()));
        let ip = draft.ip.as_ref().map(|ip| *ip.get_ref());
        if let (Some(network), Some(ip)) = (of_it, ip)
            && !network.has_gateway_beside(ip)
        {
            let family = if ip.is_v4() { "IPv4" } else { "IPv6" };
            let called = name.get_ref();
            let message = format!("network `{called}` needs an {family} `gateway`: probes come from its address");
            mistakes.add(&name.span(), message);
        }
        let same = |other: &&Draft| {
            (other.network.as_ref(), other.ip.as_ref(), other.port.as_ref())
                == (Some(name), draft.ip.as_ref(), draft.port.as_ref())
                && other.proto == draft.proto
        };
        if let Some(other) = checks[..nth].iter().find(same)
            && let Some(first) = &other.network
        {
            let line = mistakes.line_of(&first.span());
            mistakes.add(&name.span(), format!("the service has a [[health]] already, on line {line}"));
        }
    }
}
