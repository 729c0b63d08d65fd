//! `sixway detach`: takes the XDP programs off this network namespace's interfaces for good, removes the pairs of
//! interfaces by which engines give back what is the kernel's, forgets ports that were attached live, and ends the holder.

use serde_json::json;

use crate::afxdp::program::{Scope, detach};
use crate::control::appliance::forget_live_ports;
use crate::control::config::{Config, Control, Engine};
use crate::control::holder;
use crate::control::kernel::remove_pairs;

use super::Exit;
use super::arguments::Detach;
use super::check::show_mistakes;
use super::output::{Output, complain};

pub(super) fn run(arguments: &Detach, output: &mut Output) -> Exit {
    let config = match arguments.config.as_deref().map(Config::load).transpose() {
        Ok(config) => config,
        Err(mistakes) => {
            show_mistakes(&mistakes, output);
            return Exit::No;
        }
    };
    // First, lest an engine that comes up meanwhile attaches them again.
    if let Err(error) = forget_live_ports(config.as_ref()) {
        complain(format_args!("ports that were attached live are still remembered: {error}"));
        return Exit::No;
    }
    let (pin_dir, socket) = match config {
        None => (Engine::default().pin_dir, Control::default().socket),
        Some(config) => (config.engine.pin_dir, config.control.socket),
    };
    let detached = match detach(&pin_dir, &Scope::Namespace) {
        Ok(detached) => detached,
        Err(error) => {
            complain(format_args!("{}: {error}", pin_dir.display()));
            return Exit::No;
        }
    };
    if let Err(error) = remove_pairs() {
        complain(format_args!("the interfaces by which engines give back what is the kernel's: {error}"));
        return Exit::No;
    }
    let holder = holder::socket_beside(&socket);
    let ended = match holder::end(&holder) {
        Ok(ended) => ended,
        Err(error) => {
            complain(format_args!("the holder at {}: {error}", holder.display()));
            return Exit::No;
        }
    };
    if output.is_json() {
        let interfaces: Vec<&str> = detached.iter().map(|pinned| pinned.interface.as_str()).collect();
        output.json(&json!({"detached": interfaces, "holder_ended": ended}));
        return Exit::Done;
    }
    if detached.is_empty() {
        output.line(format_args!("nothing is pinned under {}", pin_dir.display()));
    }
    for pinned in detached {
        output.line(format_args!("detached from {}", pinned.interface));
    }
    if ended {
        output.line(format_args!("ended the holder at {}", holder.display()));
    }
    Exit::Done
}
