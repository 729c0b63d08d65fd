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
        let is_gateway = around.is_gateway;
        if is_gateway {
            let others = names.servers().filter(|server| !server.local);
            servers.far_servers = others.map(|server| (server.ip, around.owned)).collect();
        }
        let mut publics = Vec::new();
        for binding in names.bindings() {
            let Some(server) = names.server_of(binding) else { continue };
            let is_published = is_gateway && binding.is_public();
            if server.local || is_published {
                let protos = binding.proto().each(server.ip).filter(|proto| !proto.has_ports());
                servers.portless.extend(protos.map(|proto| (server.ip, proto)));
            }
            if is_published {
                for proto in binding.proto().each(binding.ip()) {
                    let Some(Public(name)) = names.public_name(binding, proto) else { continue };
                    publics.push((name, !around.is_of_host(name.ip)));
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

    /// The claims of a port that leads out: by ServerIP, and on gateways by public name, as routers speak of both. Of other
    /// servers they speak where those are.
    fn of(&self, role: &Role, arp: bool) -> Claims {
        let mut claims = match role {
            Role::Uplink { .. } | Role::External => self.servers.clone(),
            Role::Access(_) => return Claims::default(),
        };
        if matches!(role, Role::External) {
            claims.far_servers.clear();
            claims.portless.retain(|(ip, _)| claims.servers.contains_key(ip));
        }
        for &(name, echo) in &self.publics {
            claims.publics.insert(name);
            claims.public_ips.insert(name.ip, PublicIp { echo, neighbour: arp });
        }
        claims
    }
}

/// What the engine does for a public address: the kernel answers echo for its own. `arp`: as above.
pub(super) fn public_ip(around: &Surroundings, ip: Ip, arp: bool) -> PublicIp {
    PublicIp { echo: !around.is_of_host(ip), neighbour: arp }
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
    servers: Vec<Ip>,
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
            let claimed = |view: &View<'_>, name| {
                view.inner(Wire(name)).is_some_and(|at| at.server.local || at.binding.is_public())
            };
            names.portless.extend(change.portless.iter().filter(|&&name| is_new(&|view| claimed(view, name))));
            names.servers.extend(change.servers.iter().filter(|&&ip| is_new(&|view| view.server(ip).is_some())));
            names
        };
        Difference { gained: only(after, before), lost: only(before, after) }
    }
}

impl Names {
    pub fn is_empty(&self) -> bool {
        self.publics.is_empty() && self.public_ips.is_empty() && self.portless.is_empty() && self.servers.is_empty()
    }

    /// Those that the program of a port decides by.
    pub fn at_port(&self, role: &Role, arp: bool, around: &Surroundings) -> Claims {
        let mut claims = Claims::default();
        let is_gateway = around.is_gateway;
        if matches!(role, Role::Access(_)) {
            return claims;
        }
        let knows_others = is_gateway && matches!(role, Role::Uplink { .. });
        let claimed = |name: &&Endpoint| knows_others || around.servers.contains(&name.ip);
        claims.portless = self.portless.iter().filter(claimed).map(|name| (name.ip, name.proto)).collect();
        if knows_others {
            let others = self.servers.iter().filter(|ip| !around.servers.contains(ip));
            claims.far_servers = others.map(|&ip| (ip, around.owned)).collect();
        }
        if is_gateway {
            claims.publics = self.publics.iter().copied().collect();
            let what = |ip| public_ip(around, ip, arp);
            claims.public_ips = self.public_ips.iter().map(|&ip| (ip, what(ip))).collect();
        }
        claims
    }
}
