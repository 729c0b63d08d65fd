//! What the XDP programs claim for the engine, as the mapping has it.

use std::io;

use crate::afxdp::program::{Claims, ClaimsMap, PublicIp};
use crate::naming::{Change, Public, View, Wire};
use crate::path::{Role, Surroundings};
use crate::units::{Endpoint, Ip};

/// What the mapping says to claim, gathered from all bindings at once; each port then claims its part.
pub(super) struct Wanted {
    servers: Claims,
    /// Each with whether the host does not own its IP.
    publics: Vec<(Endpoint, bool)>,
}

impl Wanted {
    pub fn gather(around: &Surroundings, names: &View<'_>) -> Wanted {
        let mut servers =
            Claims { servers: around.servers.iter().map(|&ip| (ip, around.owned)).collect(), ..Claims::default() };
        for binding in names.local_bindings() {
            let Some(server) = names.server_of(binding) else { continue };
            let protos = binding.proto().each(server.ip).filter(|proto| !proto.has_ports());
            servers.portless.extend(protos.map(|proto| (server.ip, proto)));
        }
        let mut publics = Vec::new();
        if around.all_ports().any(|(_, port)| is_external(&port.role)) {
            for binding in names.bindings().filter(|binding| binding.is_public()) {
                for proto in binding.proto().each(binding.ip()) {
                    let Some(Public(name)) = names.public_name(binding, proto) else { continue };
                    publics.push((name, !around.servers.contains(&name.ip)));
                }
            }
        }
        Wanted { servers, publics }
    }

    /// Has the port's program claim what is new for it: before the mapping is in force. `arp`: the engine answers ARP
    /// and neighbour discovery for the public addresses.
    pub fn widen(&self, claims: &mut ClaimsMap, role: &Role, arp: bool) -> io::Result<()> {
        claims.widen(&self.of(role, arp))
    }

    /// Has it claim nothing else: after the mapping is in force.
    pub fn narrow(&self, claims: &mut ClaimsMap, role: &Role, arp: bool) -> io::Result<()> {
        claims.narrow(&self.of(role, arp))
    }

    /// The claims of a port: by ServerIP, and by public name where clients outside arrive.
    fn of(&self, role: &Role, arp: bool) -> Claims {
        let mut claims = match role {
            Role::Uplink { .. } | Role::External => self.servers.clone(),
            Role::Access(_) => Claims::default(),
        };
        if is_external(role) {
            for &(name, echo) in &self.publics {
                claims.publics.insert(name);
                claims.public_ips.insert(name.ip, PublicIp { echo, neighbour: arp });
            }
        }
        claims
    }
}

/// What a change set adds to the names that are claimed, and takes from them.
pub(super) struct Difference {
    pub gained: Names,
    pub lost: Names,
}

/// Names that outside clients or other servers address, in order.
#[derive(Default)]
pub(super) struct Names {
    publics: Vec<Endpoint>,
    public_ips: Vec<Ip>,
    portless: Vec<Endpoint>,
}

impl Difference {
    /// Compares only what the change set touched.
    pub fn between(before: &View<'_>, after: &View<'_>, change: &Change) -> Difference {
        let only = |in_this: &View<'_>, not_in: &View<'_>| {
            let is_new = |has: &dyn Fn(&View<'_>) -> bool| has(in_this) && !has(not_in);
            let mut names = Names::default();
            for &name in &change.published {
                if is_new(&|view| view.public(Public(name)).is_some()) {
                    names.publics.push(name);
                }
                if is_new(&|view| view.is_public_ip(name.ip)) {
                    names.public_ips.push(name.ip);
                }
            }
            let portless = change.portless.iter().filter(|&&name| is_new(&|view| view.inner(Wire(name)).is_some()));
            names.portless.extend(portless);
            names
        };
        Difference { gained: only(after, before), lost: only(before, after) }
    }
}

impl Names {
    pub fn is_empty(&self) -> bool {
        self.publics.is_empty() && self.public_ips.is_empty() && self.portless.is_empty()
    }

    /// Those that the program of a port decides by.
    pub fn at_port(&self, role: &Role, arp: bool, around: &Surroundings) -> Claims {
        let mut claims = Claims::default();
        if matches!(role, Role::Uplink { .. } | Role::External) {
            claims.portless = self.portless.iter().map(|name| (name.ip, name.proto)).collect();
        }
        if is_external(role) {
            claims.publics = self.publics.iter().copied().collect();
            let what = |ip| PublicIp { echo: !around.servers.contains(&ip), neighbour: arp };
            claims.public_ips = self.public_ips.iter().map(|&ip| (ip, what(ip))).collect();
        }
        claims
    }
}

fn is_external(role: &Role) -> bool {
    matches!(role, Role::Uplink { external: true } | Role::External)
}
