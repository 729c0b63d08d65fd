//! Stories on live traffic: engines, real kernels' TCP/IP, real programs, all in network namespaces.
//!
//! Every story builds its own [`lab::Lab`]: two servers on an underlay, containers behind them, a router and a host
//! outside. Nothing can reach the machine's own network: the lab lives in namespaces of its own, and the story's own
//! thread enters one before it does anything. Root is needed. Each story prints the figures that it measured:
//! `cargo test --test net -- --nocapture` shows them.

mod lab;
#[allow(dead_code)]
#[path = "../support/fragments.rs"]
mod parts;

mod churn;
mod clients;
mod crash;
mod echo;
mod failover;
mod fragments;
mod garbage;
mod gateway;
mod ground;
mod health;
mod holder;
mod hops;
mod ipsec;
mod journal;
mod live;
mod load;
mod malformed;
mod moves;
mod neighbours;
mod outside;
mod path_mtu;
mod policy;
mod portless;
mod ports;
mod programs;
mod refusals;
mod reload;
mod replays;
mod replicas;
mod resets;
mod six;
mod tenants;
mod uplinks;
mod wire;
