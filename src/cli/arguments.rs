//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use super::map::Map;
use super::port::Port;
use crate::control::config::SOCKET;
use crate::control::question::{Socket, parse_proto};
use crate::units::Proto;

/// A userspace packet-forwarding appliance: containers keep their (IP, port) wherever they run.
#[derive(Parser, Debug)]
#[command(name = "sixway", version, arg_required_else_help = true)]
pub struct Arguments {
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the engine, in the foreground
    Run(Run),
    /// Validate configuration and mapping: every mistake, with file, line and column
    Check(ConfigFile),
    /// Say whether this host will do, and what to change where it will not
    Doctor(ConfigFile),
    /// Run the engine over captures
    Replay(Replay),
    /// Show what would happen to a packet, step by step
    Explain(Explain),
    /// Show a running engine's counters
    Stats(Stats),
    /// Show and change a running engine's mapping
    Map(Map),
    /// Show a running engine's ports; attach and detach access ports while packets flow
    Port(Port),
    /// Do nothing but keep descriptors for engines; `run --holder` starts it
    #[command(hide = true)]
    Holder(Holder),
    /// Remove the pinned XDP programs for good, forget ports that were attached live, and end the holder
    Detach(Detach),
}

/// The configuration that a command is about.
#[derive(Args, Debug)]
pub struct ConfigFile {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

#[derive(Args, Debug)]
pub struct Run {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Leave packet memory and sockets to a small process that outlives this one and gives them to the next engine:
    /// after a crash or an upgrade it carries on with the packets that have arrived meanwhile
    #[arg(long)]
    pub holder: bool,
    /// If an engine runs already, take its place: it goes on until this one is ready, hands over its packets, sockets and
    /// connections, and ends. Nothing is lost
    #[arg(long)]
    pub takeover: bool,
}

#[derive(Args, Debug)]
pub struct Holder {
    /// Where to listen, unless the standard input is a listening socket
    #[arg(long, value_name = "SOCKET")]
    pub socket: PathBuf,
}

#[derive(Args, Debug)]
pub struct Replay {
    #[command(flatten)]
    pub config: ConfigFile,
    /// What arrives at a port; may be given once for each port
    #[arg(long = "in", value_name = "PORT=FILE.pcap", required = true)]
    pub inputs: Vec<Capture>,
    /// Where to write PORT.pcap for every port, and host/PORT.pcap for what goes to the kernel
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// A port and the capture of what arrives there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capture {
    pub port: String,
    pub file: PathBuf,
}

#[derive(Args, Debug)]
pub struct Explain {
    /// The configuration whose engine is asked about, with empty state
    #[arg(long, value_name = "FILE", required_unless_present = "socket", conflicts_with = "socket")]
    pub config: Option<PathBuf>,
    /// The control socket of the running engine to ask
    #[arg(long, value_name = "SOCKET")]
    pub socket: Option<PathBuf>,
    /// The port at which the packet arrives
    #[arg(long, value_name = "PORT")]
    pub port: String,
    /// tcp, udp, icmp, esp, ah, gre, sctp or a protocol number
    #[arg(value_name = "PROTO", value_parser = parse_proto)]
    pub proto: Proto,
    /// Where it comes from; for icmp the port is the echo identifier
    #[arg(value_name = "SRC:PORT")]
    pub src: Socket,
    /// Where it goes
    #[arg(value_name = "DST:PORT")]
    pub dst: Socket,
}

#[derive(Args, Debug)]
pub struct Stats {
    #[command(flatten)]
    pub engine: RunningEngine,
}

/// Which engine is spoken to.
#[derive(Args, Debug)]
pub struct RunningEngine {
    /// The engine's control socket
    #[arg(long, value_name = "SOCKET", default_value = SOCKET, conflicts_with = "config", global = true)]
    pub socket: PathBuf,
    /// The configuration that names the control socket
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Detach {
    /// The configuration that names the pin directory and the control socket
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl FromStr for Capture {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Capture, &'static str> {
        let (port, file) = text.split_once('=').ok_or("expected PORT=FILE.pcap")?;
        if port.is_empty() || file.is_empty() {
            return Err("expected PORT=FILE.pcap");
        }
        Ok(Capture { port: port.to_owned(), file: file.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Result<Arguments, clap::error::ErrorKind> {
        Arguments::try_parse_from(line.split_whitespace()).map_err(|error| error.kind())
    }

    #[test]
    fn the_commands_of_the_design_are_understood() {
        for line in [
            "sixway run --config host.toml",
            "sixway run --config host.toml --holder",
            "sixway run --config host.toml --takeover",
            "sixway check --config host.toml --json",
            "sixway --json doctor --config host.toml",
            "sixway replay --config host.toml --in web1=a.pcap --in uplink=b.pcap --out dir",
            "sixway explain --config host.toml --port web1 tcp 10.1.0.2:4000 10.2.0.2:80",
            "sixway explain --socket /run/s.sock --port web1 esp 10.1.0.2 [fd00::2]",
            "sixway stats",
            "sixway stats --socket /run/s.sock --json",
            "sixway map list",
            "sixway map list --network blue --ip 10.1.0.2 --port 80 --server 192.168.50.2 --json",
            "sixway map --config host.toml add blue tcp - 192.168.50.2:20480 - 10.1.0.2:80 weight=2",
            "sixway map add --force --socket /run/s.sock blue esp - 192.168.50.2 - 10.1.0.2",
            "sixway map remove blue tcp - 10.1.0.2:80",
            "sixway map apply mapping.sixway --dry-run",
            "sixway map load mapping.sixway --if-generation 7",
            "sixway map watch --generation 7",
            "sixway port list --json",
            "sixway port attach web7 --interface veth-web7 --network blue --mac 02:42:0a:01:00:07 --id a",
            "sixway port --config host.toml detach web7",
            "sixway detach",
            "sixway holder --socket /run/s.sock.holder",
            "sixway detach --config host.toml",
        ] {
            assert!(arguments(line).is_ok(), "{line}: {:?}", arguments(line));
        }
    }

    #[test]
    fn bad_usage_is_told_from_a_no() {
        for line in [
            "sixway check",
            "sixway replay --config host.toml --out dir",
            "sixway replay --config host.toml --in web1 --out dir",
            "sixway explain --port web1 tcp 10.1.0.2:4000 10.2.0.2:80",
            "sixway explain --config c --socket s --port web1 tcp 10.1.0.2:4000 10.2.0.2:80",
            "sixway explain --config c --port web1 tpc 10.1.0.2:4000 10.2.0.2:80",
            "sixway explain --config c --port web1 tcp 10.1.0.2:400000 10.2.0.2:80",
            "sixway map",
            "sixway map add",
            "sixway map apply",
            "sixway port attach web7",
            "sixway fly",
        ] {
            assert!(arguments(line).is_err(), "{line}");
        }
    }
}
