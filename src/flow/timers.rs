//! Every timer of this room, in seconds, beside the clause that it comes from. Clocks count whole seconds and a timer
//! never ends early: something sent during second `t` counts up to the end of second `t + timer`.

/// How long what an inside port has sent lets answers in, and keeps its entry, after it has sent last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timers {
    /// UDP mappings: "a default value of five minutes or more is RECOMMENDED" (RFC 4787 REQ-5c).
    pub udp: u32,
    /// ICMP queries: "MUST NOT expire in less than 60 seconds" (RFC 5508 REQ-2).
    pub echo: u32,
    /// TCP, established, one side's FIN perhaps seen: "MUST NOT be less than 2 hours 4 minutes" (RFC 5382 REQ-5).
    pub established: u32,
    /// TCP, partially open: four minutes by default (RFC 7857 section 2.1).
    pub opening: u32,
    /// TCP, closing: "MUST NOT be less than 4 minutes" (RFC 5382 REQ-5). A connection that is closed or was reset keeps
    /// its entry for as long (RFC 7857 section 2.2), unless a new SYN needs the port.
    pub closing: u32,
}

impl Timers {
    pub const DEFAULT: Timers = Timers { udp: 300, echo: 60, established: 7440, opening: 240, closing: 240 };
}

impl Default for Timers {
    fn default() -> Timers {
        Timers::DEFAULT
    }
}

/// How long a wire name rests after its owner changed, unless configured otherwise.
pub const QUARANTINE: u32 = 60;
