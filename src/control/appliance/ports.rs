//! Ports that are attached and detached while packets flow.

use std::io;
use std::sync::Arc;
use std::thread;

use serde_json::{Map, Value};

use super::preparation::port_config;
use super::programs::{needs_frags, report_attached};
use super::remembered::{self, Remembered};
use super::{Appliance, PortOnHost};
use crate::afxdp::program::{self, Kind, Want};
use crate::control::assemble::{Interface, mtu_in_buffers, port_of};
use crate::control::config::{Port, Role, read_live_port};
use crate::control::kernel::{Link, links};
use crate::control::server::{Attaching, PortReport, Ports, Problem};
use crate::engine::{AttachError, Engine, PortConfig};
use crate::naming::NamesWriter;
use crate::path::hold_pinned_among;
use crate::table;
use crate::units::{Mac, PortId};

impl Ports for Appliance {
    fn attach(self: Arc<Self>, form: Map<String, Value>) -> Attaching {
        Box::pin(async move {
            let writer = Arc::clone(&self.writer).lock_owned().await;
            let attached = self.attach_now(&form, &writer);
            drop(writer);
            self.probe();
            attached
        })
    }

    fn detach(&self, name: &str) -> Result<(), Problem> {
        let found =
            self.on_host().iter().find(|(_, port)| port.configured.name == name).map(|(id, port)| (*id, port.live));
        let Some((id, live)) = found else { return Err(Problem::not_found(format!("there is no port `{name}`"))) };
        if !live {
            let file = self.config.file.display();
            return Err(Problem::conflict(format!(
                "port `{name}` is of the configuration, and would be back at the next start: take it out of {file} and run \
                 `sixway run --takeover`"
            )));
        }
        self.take_down(id).map_err(|why| Problem::internal(format!("port `{name}`: {why}")))?;
        tracing::info!(port = name, "detached");
        Ok(())
    }
}

impl Appliance {
    /// Attaches a port; nobody changes the mapping meanwhile, so that it has what it is to hold from the beginning.
    fn attach_now(&self, form: &Map<String, Value>, writer: &NamesWriter) -> Result<PortReport, Problem> {
        let port = read_live_port(form).map_err(|mistakes| Problem::of_port(mistakes, true))?;
        // Whoever asks has just made the interface: the news of it may be on their way still.
        let all = thread::scope(|scope| scope.spawn(links).join()).unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        let all = all.map_err(|error| Problem::internal(format!("netlink: {error}")))?;
        let gone = self.lose_what_is_gone(&all);
        let (link, config) = self.examine(&port, &all, &gone).map_err(|mistakes| Problem::of_port(mistakes, false))?;
        for id in gone.into_iter().filter(|id| self.is_in_the_way(*id, &port)) {
            self.take_down(id).map_err(Problem::internal)?;
        }
        let (name, id) = (port.name.clone(), config.id);
        self.put_up(port, link, config, writer).map_err(|why| Problem::internal(format!("port `{name}`: {why}")))?;
        if let Err(error) = self.remember() {
            let _ = self.take_down(id);
            let why = format!("port `{name}` was detached again: it could not be remembered: {error}");
            return Err(Problem::busy(why));
        }
        tracing::info!(port = name, "attached");
        self.report_of(id).ok_or_else(|| Problem::internal(format!("port `{name}` is gone again")))
    }

    /// Everything that speaks against a port, or else its interface and how it is to be served. What is `gone` does not.
    fn examine(&self, port: &Port, all: &[Link], gone: &[PortId]) -> Result<(Link, PortConfig), Vec<String>> {
        let mut mistakes = Vec::new();
        let link = all.iter().find(|link| Some(&link.name) == port.interface.as_ref());
        self.check_others(port, link, gone, &mut mistakes);
        self.check_network(port, &mut mistakes);
        let Some(link) = link else {
            let interface = port.interface.as_deref().unwrap_or_default();
            mistakes
                .push(format!("there is no interface {interface} in the engine's network namespace: make it first"));
            return Err(mistakes);
        };
        if link.mac.is_none_or(|mac| mac == Mac::ZERO) {
            mistakes.push(format!("interface {} has no Ethernet address: only such can be ports", link.name));
        }
        if let Err(error) = program::check(&link.name, &self.config.engine.pin_dir) {
            mistakes.push(format!("{error}: take it off first"));
        }
        let config = match port_config(PortId(0), link, true) {
            Ok(config) => {
                let placed = self.engine.load().place(config, |id| self.on_host().contains_key(&id));
                placed.inspect_err(|why| mistakes.push(more_queues(why, &config))).ok()
            }
            Err(error) => {
                mistakes.push(format!("interface {}: {error}", link.name));
                None
            }
        };
        config.filter(|_| mistakes.is_empty()).map(|config| (link.clone(), config)).ok_or(mistakes)
    }

    /// Notes what other ports have already.
    fn check_others(&self, port: &Port, link: Option<&Link>, gone: &[PortId], mistakes: &mut Vec<String>) {
        for (_, other) in self.on_host().iter().filter(|(id, _)| !gone.contains(id)) {
            let (name, interface) = (&other.configured.name, &other.link.name);
            if *name == port.name {
                mistakes.push(format!("there is a port `{name}` already, on {interface}: detach it first"));
            }
            if link.map_or(port.interface.as_ref() == Some(interface), |link| link.index == other.link.index) {
                mistakes.push(format!("interface {interface} is port `{name}` already: detach that first"));
            }
            match (&other.configured.role, &port.role) {
                (Role::Access { mac: Some(mac), .. }, wanted) if other.configured.role == *wanted => {
                    mistakes.push(format!("{mac} is pinned to port `{name}` already; `id` tells such containers apart"))
                }
                _ => {}
            }
        }
    }

    fn check_network(&self, port: &Port, mistakes: &mut Vec<String>) {
        let Role::Access { network, .. } = &port.role else { return };
        if self.config.network(network).is_none() {
            let known: Vec<&str> = self.config.networks.iter().map(|network| network.name.as_str()).collect();
            mistakes.push(format!("there is no network `{network}`, only {}", known.join(", ")));
        }
    }

    /// Attaches the program, has the workers serve the port, tells packets of it and lets them come.
    fn put_up(&self, port: Port, link: Link, mut config: PortConfig, writer: &NamesWriter) -> Result<(), String> {
        let want = Want { frags: needs_frags(&link), ..Want::default() };
        let attached = program::attach(&link.name, Kind::Access, &self.config.engine.pin_dir, want);
        let program = attached.map_err(|error| error.to_string())?;
        report_attached(&port.name, &program);
        config.multi_buffer = program.frags();
        let engine = self.engine.load_full();
        if let Err(error) = engine.attach(&config) {
            let _ = program.detach();
            return Err(match &error {
                AttachError::NoMemory { .. } => more_queues(&error, &config),
                _ => error.to_string(),
            });
        }
        let id = config.id;
        let mtu = mtu_in_buffers(link.mtu, config.multi_buffer);
        let found = link.mac.map(|mac| Interface { mac, mtu });
        let walked = port_of(&port, &self.tables.names, found);
        {
            let mut ports = self.on_host();
            let around = self.tables.around.load(&table::pin()).with_port(id, Some(walked));
            self.tables.around.store(around);
            self.tables.around.reclaim();
            let guard = table::pin();
            let (names, around) = (self.tables.names.view(&guard), self.tables.around.load(&guard));
            hold_pinned_among(&names, around, writer.containers_here());
            ports.insert(id, PortOnHost { configured: port, live: true, link, program });
        }
        self.workers().ports.push(config);
        if let Err(error) = self.let_packets_come(&engine, id) {
            let _ = self.take_down(id);
            return Err(format!("its XDP program: {error}"));
        }
        self.succession().provide(&engine);
        Ok(())
    }

    fn let_packets_come(&self, engine: &Engine, id: PortId) -> io::Result<()> {
        let mut ports = self.on_host();
        let Some(on_host) = ports.get_mut(&id) else { return Ok(()) };
        let queues = engine.queues();
        queues
            .iter()
            .filter(|queue| queue.port == id)
            .try_for_each(|queue| on_host.program.set_socket(queue.queue, &queue.fd))
    }

    /// Takes a live port away: no packet comes by it, then none goes to it, then the workers let go of it. It is forgotten
    /// first, so that an engine that follows upon a crash in between does not have it either.
    fn take_down(&self, id: PortId) -> Result<(), String> {
        let Some(on_host) = self.on_host().remove(&id) else { return Ok(()) };
        if let Err(error) = self.remember() {
            tracing::error!("a port that is detached is still remembered: {error}");
        }
        self.workers().ports.retain(|port| port.id != id);
        let engine = self.engine.load_full();
        let PortOnHost { configured, mut program, .. } = on_host;
        let own = engine.queues();
        let mut own = own.iter().filter(|queue| queue.port == id);
        let silenced = own.try_for_each(|queue| program.unset_socket(queue.queue));
        if let Err(error) = silenced.and(program.detach()) {
            tracing::warn!(port = configured.name, "its XDP program: {error}");
        }
        {
            let _nobody_else = self.on_host();
            let around = self.tables.around.load(&table::pin()).with_port(id, None);
            self.tables.around.store(around);
        }
        self.release(id);
        let withdrawn = engine.withdraw(id);
        // Whoever keeps sockets for the next engine closes this port's: until then the kernel does not let go.
        self.succession().provide(&engine);
        let detached = engine.detach(withdrawn, self.succession().is_slow());
        self.tables.around.reclaim();
        detached.map_err(|error| error.to_string())
    }

    /// The interface of a port is gone.
    pub(super) fn lose(&self, id: PortId) {
        let Some((name, interface, live)) = self.on_host().get_mut(&id).map(|port| {
            (port.link.up, port.link.running) = (false, false);
            (port.configured.name.clone(), port.link.name.clone(), port.live)
        }) else {
            return;
        };
        if !live {
            tracing::warn!(port = name, interface, "the interface is gone: attach another, or start again");
            return self.release(id);
        }
        tracing::warn!(port = name, interface, "the interface is gone: the port is detached");
        if let Err(why) = self.take_down(id) {
            tracing::error!(port = name, "{why}");
        }
    }

    /// Remembers all live ports for the next engine.
    pub(super) fn remember(&self) -> io::Result<()> {
        let ports = self.on_host();
        let live = ports.iter().filter(|(_, port)| port.live);
        let remembered =
            live.map(|(&id, port)| Remembered { id, ifindex: port.link.index, port: port.configured.clone() });
        remembered::write(&self.ports_file, remembered)
    }

    /// Takes note of ports whose interface is not among `all`: whoever made another one in its place may be here before
    /// the kernel's news of that. Those of the configuration are returned: they stay, without an interface.
    fn lose_what_is_gone(&self, all: &[Link]) -> Vec<PortId> {
        let is_gone = |port: &PortOnHost| all.iter().all(|link| link.index != port.link.index);
        let gone: Vec<PortId> = self.on_host().iter().filter(|(_, port)| is_gone(port)).map(|(&id, _)| id).collect();
        gone.iter().for_each(|&id| self.lose(id));
        gone.into_iter().filter(|id| self.on_host().contains_key(id)).collect()
    }

    /// True if this port has the name or the interface's name that another wants.
    fn is_in_the_way(&self, id: PortId, wanted: &Port) -> bool {
        let ports = self.on_host();
        let same =
            |port: &PortOnHost| port.configured.name == wanted.name || port.configured.interface == wanted.interface;
        ports.get(&id).is_some_and(same)
    }
}

fn more_queues(why: &AttachError, port: &PortConfig) -> String {
    let fewer = match port.queues {
        1 => String::new(),
        several => format!("; the interface has {several} queues, and one will do (ethtool -L)"),
    };
    format!("{why}{fewer}: raise `spare_queues` of [engine] and start again, or detach others")
}
