//! `[timers]`: how long what a container has sent lets answers in.

use std::ops::RangeInclusive;

use super::reader::Section;
use crate::flow::Timers;

const DAY: u32 = 86_400;
/// RFC 4787 REQ-5: "MUST NOT expire in less than two minutes".
const UDP: RangeInclusive<u32> = 120..=DAY;
/// RFC 5508 REQ-2.
const ECHO: RangeInclusive<u32> = 60..=DAY;
/// RFC 5382 REQ-5; and the five days that Linux has by default (`nf_conntrack_tcp_timeout_established`), which what is kept
/// of a connection can tell from ages to come.
const ESTABLISHED: RangeInclusive<u32> = 7440..=5 * DAY;
/// RFC 7857 section 2.1 lets it be less than four minutes. Within half a minute a SYN is sent five times (RFC 6298).
const OPENING: RangeInclusive<u32> = 30..=DAY;
/// RFC 5382 REQ-5, and RFC 7857 section 2.2 for what was reset.
const CLOSING: RangeInclusive<u32> = 240..=DAY;

pub(super) fn read(section: &mut Section<'_, '_, '_>) -> Timers {
    let mut seconds = |key, range, default| section.integer(key, range).map_or(default, |seconds| seconds.into_inner());
    let Timers { udp, echo, established, opening, closing } = Timers::DEFAULT;
    Timers {
        udp: seconds("udp_s", UDP, udp),
        echo: seconds("echo_s", ECHO, echo),
        established: seconds("tcp_established_s", ESTABLISHED, established),
        opening: seconds("tcp_opening_s", OPENING, opening),
        closing: seconds("tcp_closing_s", CLOSING, closing),
    }
}
