//! The state that outlives the process, from outside: stories by RFC clause, a naive translator as the oracle, workers
//! that race, processes that are killed.

mod affinity;
mod filtering;
mod oracle;
mod quarantine;
mod races;
mod restart;
mod translation;

use sixway::flow::{Geometry, Holding, Pool, State};
use sixway::units::{Endpoint, Ip, PortRange, Proto, Tick};

/// Identity hash of the container that holds the pools of most stories.
const WEB: u64 = 0x77eb;

fn ip(text: &str) -> Ip {
    text.parse().expect("an address")
}

fn server() -> Ip {
    ip("192.168.50.1")
}

fn range(first: u16, last: u16) -> PortRange {
    PortRange { first, last }
}

/// A server that owns 1024 ports.
fn geometry() -> Geometry {
    Geometry { servers: vec![server()], ports: range(20480, 21503) }
}

fn state() -> State {
    State::memory(&geometry()).expect("memory")
}

fn at(seconds: u64) -> Tick {
    Tick(seconds * 1000)
}

/// A remote with a port.
fn remote(proto: Proto, text: &str, port: u16) -> Endpoint {
    Endpoint { proto, ip: ip(text), port }
}

/// Gives the block to the container, for all three protocols, and returns its pool in default mode.
fn block(state: &State, ports: PortRange, owner: u64, now: Tick) -> Pool {
    for proto in [Proto::TCP, Proto::UDP, Proto::ICMP] {
        state.assign(&Holding { server: server(), proto, ports, owner }, now);
    }
    state.pool(server(), ports, false, owner).expect("an aligned range of ours")
}
