//! Every timer of this room, in seconds, beside the clause that it comes from. Clocks count whole seconds and a timer
//! never ends early: something sent during second `t` counts up to the end of second `t + timer`.

/// UDP mappings: "a default value of five minutes or more is RECOMMENDED" (RFC 4787 REQ-5).
pub const UDP: u32 = 300;

/// ICMP queries: "MUST NOT expire in less than 60 seconds" (RFC 5508 REQ-2).
pub const ECHO: u32 = 60;

/// TCP, established: "MUST NOT be less than 2 hours 4 minutes" (RFC 5382 REQ-5).
pub const TCP_ESTABLISHED: u32 = 7440;

/// TCP, partially open or closing: "MUST NOT be less than 4 minutes" (RFC 5382 REQ-5, RFC 7857 section 2.1). A closed
/// connection keeps its entry for as long (RFC 7857 section 2.2), unless a new SYN needs the port.
pub const TCP_TRANSITORY: u32 = 240;

/// How long a wire name rests after its owner changed, unless configured otherwise.
pub const QUARANTINE: u32 = 60;
