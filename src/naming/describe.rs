//! Bindings of the live tables, written out again for people and the API.

use std::sync::Arc;

use crate::units::Ip;

use super::live::Names;
use super::record::{Binding, Container, Flags, Server};
use super::spec::{BindingSpec, Ports, Protocol, Published};
use super::view::View;

impl View<'_> {
    /// The name of a binding's network.
    #[must_use]
    pub fn network_name(&self, binding: &Binding) -> Arc<str> {
        self.names().network_name(binding.network)
    }

    /// The binding as its line says. For the control plane: it allocates.
    #[must_use]
    pub fn spec(&self, binding: &Binding) -> Option<BindingSpec> {
        let (server, container) = (self.server_of(binding)?, self.container_of(binding)?);
        let public = self.public_address(binding);
        Some(spec_of(self.names(), binding, server, container, public))
    }
}

pub(super) fn spec_of(
    names: &Names,
    binding: &Binding,
    server: &Server,
    container: &Container,
    public: Option<Ip>,
) -> BindingSpec {
    let has_ports = match binding.proto {
        Protocol::Any => true,
        Protocol::One(proto) => proto.has_ports(),
    };
    let ports = |range, first| match (has_ports, binding.is_block()) {
        (false, _) => Ports::None,
        (true, true) => Ports::Block(range),
        (true, false) => Ports::One(first),
    };
    BindingSpec {
        network: names.network_name(binding.network),
        proto: binding.proto,
        server_mac: server.mac,
        server_ip: server.ip,
        wire: ports(binding.wire_ports(), binding.wire_base),
        mac: container.mac(),
        ip: binding.ip,
        inside: ports(binding.inside_ports(), binding.inside_base),
        weight: binding.weight,
        standby: binding.flags.has(Flags::STANDBY),
        drain: binding.flags.has(Flags::DRAIN),
        native: binding.flags.has(Flags::NATIVE),
        id: container.id.and_then(|id| names.id_text(id)),
        public: public.map(|ip| Published { ip, port: has_ports.then_some(binding.public_port) }),
    }
}
