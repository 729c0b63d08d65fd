//! Frames to and from the kernel.

pub mod program;
