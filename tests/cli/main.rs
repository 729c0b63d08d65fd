//! The `sixway` command as people and programs use it: what it prints, and how it exits.

mod check;
mod engine;
mod explain;
mod map;
#[allow(dead_code)]
#[path = "../support/fragments.rs"]
mod parts;
mod replay;
mod stats;
mod support;
