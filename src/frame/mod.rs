//! Views over packet bytes, checksums, rewrites and answers. No tables, no I/O, no allocation, and no panic on any bytes.
//!
//! A [`Frame`] is the bytes, [`parse`] reads them once into a small [`Packet`], and everything else ([`rewrite`],
//! [`rewrite_error`] and the answers) writes where the `Packet` says. A `Packet` keeps positions, so it still serves a
//! frame that was rewritten; addresses and ports are then read from the bytes, as they stand.

mod answer;
mod arp;
mod buffer;
pub mod checksum;
mod echo_reply;
mod embedded;
mod fragment;
mod icmp_error;
mod ipv4;
mod ipv6;
mod malformed;
mod mss;
mod ndp;
mod packet;
mod parse;
mod problem;
mod rewrite;
mod rewrite_error;
mod sctp;
mod tcp_reset;
mod transport;
mod vlan;

pub use answer::may_answer_with_error;
pub use arp::{ARP_FRAME_LEN, Arp, ArpOperation, arp_reply, arp_request};
pub use buffer::Frame;
pub use echo_reply::echo_reply;
pub use fragment::{Cut, FragmentField, Piece, cut, fragment_field, set_fragment_id};
pub use icmp_error::{IcmpError, icmp_error};
pub use malformed::Malformed;
pub use mss::clamp_mss;
pub use ndp::{
    ADVERTISEMENT_FRAME_LEN, Ndp, Router, SOLICITATION_FRAME_LEN, is_ndp, neighbour_advertisement,
    neighbour_solicitation, parse_ndp, router_advertisement, unsolicited_advertisement,
};
pub use packet::{Embedded, EmbeddedL4, Fragment, L4, Packet, TcpFlags};
pub use parse::{ETHERNET_LEN, Parsed, parse, parse_into};
pub use problem::header_problem;
pub use rewrite::{ChecksumWork, Rewrite, rewrite, set_macs};
pub use rewrite_error::rewrite_error;
pub use tcp_reset::tcp_reset;
pub use vlan::{bears_tags, pop_tags, push_tags};
