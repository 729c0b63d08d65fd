//! Workers, polling, counters and ports; and the same engine over captures, and for questions.

/// What the engine would do to a packet, step by step.
pub mod explain;
/// The engine over captures.
pub mod replay;
