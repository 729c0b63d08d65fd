//! The `sixway` command as people and programs use it: what it prints, and how it exits.

mod check;
mod engine;
mod explain;
mod map;
mod replay;
mod stats;
mod support;
