//! What the XDP programs claim for the engine, as the mapping has it.

use std::io;

use crate::afxdp::program::{Claims, ClaimsMap, PublicIp};
use crate::naming::{Public, View};
use crate::path::{Role, Surroundings};
use crate::units::Endpoint;

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
        if around.ports.iter().any(|port| is_external(&port.role)) {
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

    /// The claims of a port: by ServerIP on uplinks, and by public name where clients outside arrive.
    fn of(&self, role: &Role, arp: bool) -> Claims {
        let mut claims = match role {
            Role::Uplink { .. } => self.servers.clone(),
            Role::External | Role::Access(_) => Claims::default(),
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

fn is_external(role: &Role) -> bool {
    matches!(role, Role::Uplink { external: true } | Role::External)
}
