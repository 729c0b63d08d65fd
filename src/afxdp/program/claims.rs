//! The tables that the uplink program decides by.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData, MapError};

use crate::units::{Endpoint, Ip, PortRange, Proto};

type Address = [u8; 16];
type PortlessKey = [u8; 20];
type PublicKey = [u8; 20];

const PUBLIC_ECHO: u32 = 1;
const PUBLIC_NEIGHBOUR: u32 = 2;

/// What the engine does for a public IP besides carrying its names.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PublicIp {
    /// Echo requests are the engine's: the host does not own the address.
    pub echo: bool,
    /// ARP requests and neighbour solicitations for it are the engine's (`arp = true`).
    pub neighbour: bool,
}

/// Everything that an interface's program shall claim.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Claims {
    /// Our ServerIPs, with their owned ports.
    pub servers: BTreeMap<Ip, PortRange>,
    /// ServerIPs of others, with their owned ports, on a gateway's uplink: clients are told of what they sent there.
    pub far_servers: BTreeMap<Ip, PortRange>,
    /// Portless protocols that are bound on a ServerIP of ours, or published on that of another.
    pub portless: BTreeSet<(Ip, Proto)>,
    /// Public names; the port is 0 for a portless protocol. Their IPs must also be in `public_ips`.
    pub publics: BTreeSet<Endpoint>,
    /// The IPs of the public names.
    pub public_ips: BTreeMap<Ip, PublicIp>,
}

/// The claims of one interface as the kernel holds them. One writer, the control plane; the program reads. Each call is
/// one or a few system calls; errors are those of `bpf(2)`, and `ArgumentListTooLong` where a table is full.
pub struct ClaimsMap {
    servers: HashMap<MapData, Address, [u16; 2]>,
    far_servers: HashMap<MapData, Address, [u16; 2]>,
    portless: HashMap<MapData, PortlessKey, u32>,
    publics: HashMap<MapData, PublicKey, u32>,
    public_ips: HashMap<MapData, Address, u32>,
    echo: Array<MapData, u32>,
    echo_fd: OwnedFd,
}

impl ClaimsMap {
    /// Takes the maps by their names in uplink.bpf.c.
    pub(super) fn take(mut map: impl FnMut(&str) -> Option<Map>) -> Result<ClaimsMap, MapError> {
        let mut named = |name: &str| map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() });
        let echo = named("echo")?;
        let Map::Array(echo_data) = &echo else { return Err(MapError::InvalidName { name: "echo".to_owned() }) };
        let echo_fd = echo_data.fd().as_fd().try_clone_to_owned().map_err(MapError::IoError)?;
        Ok(ClaimsMap {
            servers: named("servers")?.try_into()?,
            far_servers: named("far_servers")?.try_into()?,
            portless: named("portless")?.try_into()?,
            publics: named("publics")?.try_into()?,
            public_ips: named("public_ips")?.try_into()?,
            echo: echo.try_into()?,
            echo_fd,
        })
    }

    /// Claims the owned ports of a ServerIP.
    pub fn set_server(&mut self, ip: Ip, ports: PortRange) -> io::Result<()> {
        self.servers.insert(address(ip), [ports.first, ports.last], 0).map_err(|error| full_of("ServerIPs", error))
    }

    /// Claims nothing more for a ServerIP. One that is absent is no error, here and below.
    pub fn remove_server(&mut self, ip: Ip) -> io::Result<()> {
        removed(self.servers.remove(&address(ip)))
    }

    /// Claims errors about packets to the owned ports of another server.
    pub fn set_far_server(&mut self, ip: Ip, ports: PortRange) -> io::Result<()> {
        self.far_servers
            .insert(address(ip), [ports.first, ports.last], 0)
            .map_err(|error| full_of("ServerIPs of others", error))
    }

    /// Claims them no longer.
    pub fn remove_far_server(&mut self, ip: Ip) -> io::Result<()> {
        removed(self.far_servers.remove(&address(ip)))
    }

    /// Claims a portless protocol on a ServerIP.
    pub fn add_portless(&mut self, ip: Ip, proto: Proto) -> io::Result<()> {
        self.portless.insert(portless_key(ip, proto), 1, 0).map_err(|error| full_of("portless names", error))
    }

    /// Claims it no longer.
    pub fn remove_portless(&mut self, ip: Ip, proto: Proto) -> io::Result<()> {
        removed(self.portless.remove(&portless_key(ip, proto)))
    }

    /// Claims a public name. Its IP must be set, too.
    pub fn add_public(&mut self, name: Endpoint) -> io::Result<()> {
        self.publics.insert(public_key(name), 1, 0).map_err(|error| full_of("public names", error))
    }

    /// Claims it no longer.
    pub fn remove_public(&mut self, name: Endpoint) -> io::Result<()> {
        removed(self.publics.remove(&public_key(name)))
    }

    /// Says what the engine does for the IP of public names.
    pub fn set_public_ip(&mut self, ip: Ip, what: PublicIp) -> io::Result<()> {
        let flags = if what.echo { PUBLIC_ECHO } else { 0 } | if what.neighbour { PUBLIC_NEIGHBOUR } else { 0 };
        self.public_ips.insert(address(ip), flags, 0).map_err(|error| full_of("public addresses", error))
    }

    /// The IP is public no longer.
    pub fn remove_public_ip(&mut self, ip: Ip) -> io::Result<()> {
        removed(self.public_ips.remove(&address(ip)))
    }

    /// Claims all of this too, without a look at what is claimed already.
    pub fn add(&mut self, gained: &Claims) -> io::Result<()> {
        gained.servers.iter().try_for_each(|(&ip, &ports)| self.set_server(ip, ports))?;
        gained.far_servers.iter().try_for_each(|(&ip, &ports)| self.set_far_server(ip, ports))?;
        gained.portless.iter().try_for_each(|&(ip, proto)| self.add_portless(ip, proto))?;
        gained.public_ips.iter().try_for_each(|(&ip, &what)| self.set_public_ip(ip, what))?;
        gained.publics.iter().try_for_each(|&name| self.add_public(name))
    }

    /// Claims none of this any longer.
    pub fn remove(&mut self, lost: &Claims) -> io::Result<()> {
        lost.publics.iter().try_for_each(|&name| self.remove_public(name))?;
        lost.public_ips.keys().try_for_each(|&ip| self.remove_public_ip(ip))?;
        lost.portless.iter().try_for_each(|&(ip, proto)| self.remove_portless(ip, proto))?;
        lost.far_servers.keys().try_for_each(|&ip| self.remove_far_server(ip))?;
        lost.servers.keys().try_for_each(|&ip| self.remove_server(ip))
    }

    /// Claims all of `wanted`, besides what is claimed already: before a change is published.
    pub fn widen(&mut self, wanted: &Claims) -> io::Result<()> {
        let held = self.read()?;
        for (&ip, &ports) in wanted.servers.iter().filter(|&(ip, ports)| held.servers.get(ip) != Some(ports)) {
            self.set_server(ip, ports)?;
        }
        let is_new = |&(ip, ports): &(&Ip, &PortRange)| held.far_servers.get(ip) != Some(ports);
        for (&ip, &ports) in wanted.far_servers.iter().filter(is_new) {
            self.set_far_server(ip, ports)?;
        }
        for &(ip, proto) in wanted.portless.difference(&held.portless) {
            self.add_portless(ip, proto)?;
        }
        for (&ip, &what) in wanted.public_ips.iter().filter(|&(ip, what)| held.public_ips.get(ip) != Some(what)) {
            self.set_public_ip(ip, what)?;
        }
        for &name in wanted.publics.difference(&held.publics) {
            self.add_public(name)?;
        }
        Ok(())
    }

    /// Claims nothing but `wanted`: after a change was published, and of what a former engine left.
    pub fn narrow(&mut self, wanted: &Claims) -> io::Result<()> {
        let held = self.read()?;
        for &name in held.publics.difference(&wanted.publics) {
            self.remove_public(name)?;
        }
        for &ip in held.public_ips.keys().filter(|ip| !wanted.public_ips.contains_key(ip)) {
            self.remove_public_ip(ip)?;
        }
        for &(ip, proto) in held.portless.difference(&wanted.portless) {
            self.remove_portless(ip, proto)?;
        }
        for &ip in held.far_servers.keys().filter(|ip| !wanted.far_servers.contains_key(ip)) {
            self.remove_far_server(ip)?;
        }
        for &ip in held.servers.keys().filter(|ip| !wanted.servers.contains_key(ip)) {
            self.remove_server(ip)?;
        }
        Ok(())
    }

    /// What is claimed now.
    pub fn read(&self) -> io::Result<Claims> {
        let mut claims = Claims::default();
        for (key, [first, last]) in entries(&self.servers)? {
            claims.servers.insert(from_address(&key), PortRange { first, last });
        }
        for (key, [first, last]) in entries(&self.far_servers)? {
            claims.far_servers.insert(from_address(&key), PortRange { first, last });
        }
        for (key, _) in entries(&self.portless)? {
            claims.portless.insert((from_address(&key), Proto(key[16])));
        }
        for (key, _) in entries(&self.publics)? {
            let port = u16::from_ne_bytes([key[16], key[17]]);
            claims.publics.insert(Endpoint { ip: from_address(&key), port, proto: Proto(key[18]) });
        }
        for (key, flags) in entries(&self.public_ips)? {
            let what = PublicIp { echo: flags & PUBLIC_ECHO != 0, neighbour: flags & PUBLIC_NEIGHBOUR != 0 };
            claims.public_ips.insert(from_address(&key), what);
        }
        Ok(claims)
    }

    /// The array of 65536 `u32`s, one an echo identifier: the second of `CLOCK_BOOTTIME` from which its replies are no
    /// longer ours. It can be mapped (`MAP_SHARED`, read and write).
    #[must_use]
    pub fn echo(&self) -> BorrowedFd<'_> {
        self.echo_fd.as_fd()
    }

    /// Claims the replies to an echo identifier until that second of `CLOCK_BOOTTIME`, by system call.
    pub fn set_echo(&mut self, id: u16, until_seconds: u32) -> io::Result<()> {
        self.echo.set(u32::from(id), until_seconds, 0).map_err(io_error)
    }
}

fn address(ip: Ip) -> Address {
    ip.bits().to_be_bytes()
}

/// The address that a key starts with.
fn from_address(key: &[u8]) -> Ip {
    key.first_chunk().map_or(Ip::UNSPECIFIED_V4, |octets| Ip::from_v6_octets(*octets))
}

/// `struct portless_key`
fn portless_key(ip: Ip, proto: Proto) -> PortlessKey {
    let mut key = [0; 20];
    key[..16].copy_from_slice(&address(ip));
    key[16] = proto.0;
    key
}

/// `struct public_key`
fn public_key(name: Endpoint) -> PublicKey {
    let mut key = [0; 20];
    key[..16].copy_from_slice(&address(name.ip));
    key[16..18].copy_from_slice(&name.port.to_ne_bytes());
    key[18] = name.proto.0;
    key
}

fn entries<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>) -> io::Result<Vec<(K, V)>> {
    map.iter().collect::<Result<_, _>>().map_err(io_error)
}

fn removed(result: Result<(), MapError>) -> io::Result<()> {
    match result.map_err(io_error) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Says what there is no room for, where that is why.
fn full_of(what: &str, error: MapError) -> io::Error {
    match io_error(error) {
        full if full.kind() == io::ErrorKind::ArgumentListTooLong => {
            io::Error::new(full.kind(), format!("its table has no room for more {what}"))
        }
        other => other,
    }
}

pub(super) fn io_error(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}
