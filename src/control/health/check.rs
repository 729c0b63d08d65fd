//! What is to be probed, and how.

use std::time::Duration;

use super::judge::Thresholds;
use crate::units::{Ip, Proto};
use serde::{Deserialize, Serialize};

/// One `[[health]]`: the replicas of a service that are bound to this server, and how they are probed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    pub network: String,
    /// The inside name of the service.
    pub ip: Ip,
    pub port: u16,
    pub proto: Proto,
    pub kind: Kind,
    /// From one probe to the next.
    pub interval: Duration,
    /// A probe without an answer fails after this.
    pub timeout: Duration,
    pub thresholds: Thresholds,
    /// The half-life of the penalty for failing; none: no damping.
    pub half_life: Option<Duration>,
}

/// What became of the probes of one replica, or of all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    pub sent: u64,
    /// Ended with the right answer.
    pub good: u64,
    /// With none in time, or a wrong one.
    pub bad: u64,
    /// With a reset or unreachable, or not sent since the port was down.
    pub refused: u64,
    /// Packets of the container to others that made it be probed sooner, or would have.
    pub hints: u64,
}

/// What makes a probe good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The port accepts a TCP connection, which is closed at once.
    Tcp,
    /// The port answers GET of this path by HTTP/1.x with a status from 200 to 399.
    Http { path: String },
    /// The port answers a datagram by any other: an echo service does (RFC 862).
    Udp,
    /// The address answers ICMP echo.
    Icmp,
}

impl Kind {
    /// As the configuration writes it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Kind::Tcp => "tcp",
            Kind::Http { .. } => "http",
            Kind::Udp => "udp",
            Kind::Icmp => "icmp",
        }
    }
}
