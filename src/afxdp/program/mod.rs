//! The XDP programs: which frames reach the engine, and what happens to them where no engine runs.
//!
//! # Access ports
//! Every frame goes to the socket of the queue that it came by; without one it is dropped.
//!
//! # Uplinks and external ports
//! The program reads what it needs to decide and leaves the rest, checksums included, to whom it gives the frame. A
//! field that lies beyond the end of the frame, or beyond the end of the IP packet by its length field, cannot be read.
//! Rules, in their order; *claimed* means handed over as on an access port, *passed* is `XDP_PASS`:
//!
//! 1. **Ethernet.** Frames that do not bear the port's VLAN tags, in their order and with the Ethernet types 0x88a8 around
//!    0x8100, are passed; priorities are not looked at. What follows the tags of those that do is read as if there were
//!    none. ARP requests for a public IP with `neighbour`, on an external port: claimed. Other than IPv4 or IPv6 (further
//!    tags too): passed.
//! 2. **IPv4.** Passed if version is not 4, header length below 20 or total length below the header length.
//! 3. **IPv6.** Passed if version is not 6, or if source or destination is an IPv4-mapped address. Hop-by-hop, routing,
//!    fragment and destination options headers are skipped, 6 in all; passed if there are more, if one cannot be read,
//!    or if a routing header has segments left. Any other header, AH too, is the protocol. A fragment header with
//!    offset 0 and no more to come is skipped like the others (RFC 6946).
//! 4. **Destination.** Ours if it is a ServerIP or the IP of a public name. If not: neighbour
//!    solicitations (ICMPv6 type 135, not fragmented) whose target is a public IP with `neighbour`, on an external port,
//!    are claimed; ICMP errors as the embedded packet's destination says, see 10; all else is passed.
//! 5. **Later fragments** (offset above 0) follow their first fragment, which has the same source, destination, id and,
//!    in IPv4, protocol, and was seen less than 30 s ago. One without such a first is handed over if the engine keeps
//!    such fragments, and passed if it does not or none runs: the host's may come in any order.
//! 6. **TCP and UDP**: on an external port, claimed if (destination, protocol, destination port) is a public name. Else
//!    claimed if the destination is a ServerIP and the port in its owned range, else passed. 4 bytes are read.
//! 7. **ICMP** (1 in IPv4, 58 in IPv6; 8 bytes are read):
//!    - echo request: claimed on an external port if the destination is a public IP with `echo`, else passed;
//!    - echo reply: claimed if the destination is a ServerIP and now, in whole seconds of `CLOCK_BOOTTIME`, is before
//!      the value of its identifier in the `echo` array;
//!    - error (IPv4 types 3, 4, 11 and 12, IPv6 types 1 to 4): as the embedded packet says, see 9;
//!    - all else, redirects among it, is passed: it speaks to the host.
//! 8. **Other protocols**: on an external port, claimed if (destination, protocol, 0) is a public name; else claimed if
//!    the protocol is bound on that ServerIP.
//! 9. **Embedded packets** begin 8 bytes after the ICMP header, are read by rules 2 and 3 (their own length field counts
//!    for nothing: the error's end is theirs), and have the address family of the error. Passed if not readable. By
//!    protocol, always about the *source*:
//!    - not TCP, UDP or ICMP: claimed if the protocol is bound on that ServerIP, or (source, protocol, 0) is a public
//!      name, on either kind of port;
//!    - later fragments of the three: passed; else 8 bytes of L4 header must be readable;
//!    - TCP, UDP: claimed if the source port is in the ServerIP's owned range, or (source, protocol, port) is a public
//!      name;
//!    - ICMP: claimed if it is an echo request from a ServerIP whose identifier's replies are claimed by 7.
//!
//! 10. **Errors to clients**, by routers behind a gateway, about what had a public name as its destination: the embedded
//!    packet, read as in 9, is TCP or UDP to an owned port of a ServerIP of others, or of a protocol without ports that
//!    is published on one: claimed. Else passed. Only uplinks of gateways are told of others' ServerIPs.
//!
//! First fragments are decided like whole packets, and the decision is remembered. A tag that the driver has taken off
//! (VLAN offload) is not seen.

mod attach;
mod claims;
mod counters;
mod foreign;
mod interface;
mod kernel;
mod object;
mod pins;

use crate::units::VlanTags;

pub use attach::{AttachError, Attached, Scope, Takeover, attach, check, detach, mode, pinned};
pub use claims::{Claims, ClaimsMap, PublicIp};
pub use counters::{Counter, Counters};
pub use foreign::Foreign;
pub use object::{Action, Program};
pub use pins::Pinned;

/// Which program an interface gets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Towards the underlay: what is for a ServerIP; with `external`, what is for a public name too.
    Uplink {
        /// The NIC faces clients outside, too.
        external: bool,
    },
    /// A gateway's port towards clients outside: what is for a public name, and what is for a ServerIP, as answers to what
    /// has left by it are.
    External,
    /// Towards a container: everything.
    Access,
}

/// Who runs the program.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// The driver, on its own buffers.
    Native,
    /// The kernel's stack, on packets that it has built already: slower, and AF_XDP copies.
    Generic,
}

/// What is wanted of an attachment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Want {
    /// The VLAN tags of claimed frames; nothing on access ports.
    pub tags: VlanTags,
    /// Frames of several buffers, where the MTU needs them. In native mode only.
    pub frags: bool,
}
