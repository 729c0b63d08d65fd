//! What the XDP programs claim for the engine, as the mapping has it.

use std::io;

use crate::afxdp::program::{Claims, ClaimsMap, PublicIp};
use crate::naming::{Public, View};
use crate::path::{Role, Surroundings};

/// Makes the port's program claim what [`claims_of`] says: what is new first, so that nothing goes unclaimed meanwhile.
pub(super) fn put_in_force(
    claims: &mut ClaimsMap,
    role: &Role,
    arp: bool,
    around: &Surroundings,
    names: &View<'_>,
) -> io::Result<()> {
    let wanted = claims_of(role, arp, around, names);
    claims.widen(&wanted)?;
    claims.narrow(&wanted)
}

/// The claims of a port: by ServerIP on uplinks, and by public name where clients outside arrive. `arp`: the engine
/// answers ARP and neighbour discovery for the public addresses.
fn claims_of(role: &Role, arp: bool, around: &Surroundings, names: &View<'_>) -> Claims {
    let (uplink, external) = match role {
        Role::Uplink { external } => (true, *external),
        Role::External => (false, true),
        Role::Access(_) => (false, false),
    };
    let mut claims = Claims::default();
    if uplink {
        claims.servers = around.servers.iter().map(|&ip| (ip, around.owned)).collect();
        for binding in names.local_bindings() {
            let Some(server) = names.server_of(binding) else { continue };
            let protos = binding.proto().each(server.ip).filter(|proto| !proto.has_ports());
            claims.portless.extend(protos.map(|proto| (server.ip, proto)));
        }
    }
    if external {
        for binding in names.bindings().filter(|binding| binding.is_public()) {
            for proto in binding.proto().each(binding.ip()) {
                let Some(Public(name)) = names.public_name(binding, proto) else { continue };
                claims.publics.insert(name);
                let echo = !around.servers.contains(&name.ip);
                claims.public_ips.insert(name.ip, PublicIp { echo, neighbour: arp });
            }
        }
    }
    claims
}
