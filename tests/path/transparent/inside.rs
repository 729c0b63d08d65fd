//! Conversations of two containers.

use super::estate::{self, Container, Service};
use super::journey::{Meeting, Outcome};
use super::parcels::{End, L4, Parcel};
use super::talk::{Talk, Way};
use crate::packet::{ACK, SYN};

impl Meeting<'_> {
    /// Two containers.
    pub(super) fn inside(&mut self, talk: &Talk) -> Outcome<()> {
        let client = self.estate.containers[talk.client].clone();
        let service = self.estate.services[talk.service].clone();
        let called = if talk.way == Way::Published { service.public.expect("it is published") } else { service.name };
        let port = match talk.way {
            Way::FromService => {
                if service.proto == 6 {
                    80
                } else {
                    53
                }
            }
            Way::Portless => 0,
            _ => talk.port,
        };
        let own = (client.ip(talk.v4), port);
        let kind = self.tally.kind(talk.way, talk.v4, service.proto);

        let call = |nth: usize, flags| talk.shapes[nth].parcel((own, called), service.proto, (flags, false), true);
        let first = call(0, SYN);
        self.send(talk.client, &first);
        let server = self.receiver()?;
        if !service.replicas.contains(&server) {
            return Err(format!("{} is no replica", self.estate.containers[server].port));
        }
        let (seen, _) = first.ends_in(&self.trip().out.clone());
        self.is_presented(talk, &client, server, &service, own, seen)?;
        let as_seen = self.arrived(server, &first, (seen, service.name))?;
        let wire = self.on_the_wire(&first, talk.client)?;
        self.tally.count(kind);
        self.tally.feature(if wire.is_some() { "to another server" } else { "to the same server" });
        if seen.1 != own.1 {
            self.tally.feature("from a translated port");
        }

        if talk.packets < 2 {
            return Ok(());
        }
        let reply = talk.shapes[1].parcel((service.name, seen), service.proto, (SYN | ACK, true), true);
        self.send(server, &reply);
        let as_heard = self.arrived(talk.client, &reply, (called, own))?;
        let reply_wire = self.on_the_wire(&reply, server)?;
        self.tally.count(kind);

        if talk.packets < 3 {
            return Ok(());
        }
        // The one that the first reached has its say about that, then the client about the answer.
        let told = talk.shapes[2].error((service.name, seen), &as_seen);
        self.send(server, &told);
        let teller = self.teller(&told, server, called);
        let expected = Parcel { l4: requoted(&told, own, called), ..told.clone() };
        self.arrived(talk.client, &expected, ((teller, 0), (own.0, 0)))?;
        self.tally.count_error(kind);

        if talk.packets < 4 {
            return Ok(());
        }
        let told = talk.shapes[3].error((own, called), &as_heard);
        self.send(talk.client, &told);
        let teller = self.teller(&told, talk.client, seen);
        let expected = Parcel { l4: requoted(&told, service.name, seen), ..told.clone() };
        self.arrived(server, &expected, ((teller, 0), (service.name.0, 0)))?;
        self.tally.count_error(kind);

        // A router on the wire, or a server's kernel, speaks of both.
        for (nth, wire, of, ends, other) in
            [(4, wire, talk.client, (own, called), server), (5, reply_wire, server, (service.name, seen), talk.client)]
        {
            if talk.packets <= nth {
                return Ok(());
            }
            let Some(mut wire) = wire else { continue };
            wire.ttl = wire.ttl.min(nth as u8);
            let speaker = match talk.told_by_server {
                true => estate::server_ip(self.estate.containers[other].server, talk.v4),
                false => estate::way_station(talk.v4),
            };
            let told = talk.shapes[nth].error(((speaker, 0), wire.src), &wire);
            self.send_from_outside(usize::from(self.estate.containers[of].server) - 1, &told);
            let speaks_for = talk.told_by_server && speaks_for_container(&told);
            let teller = if speaks_for { ends.1.0 } else { speaker };
            let expected = Parcel { l4: requoted(&told, ends.0, ends.1), ..told.clone() };
            self.arrived(of, &expected, ((teller, 0), (ends.0.0, 0)))?;
            self.tally.count_error(kind);
        }

        if talk.packets < 7 {
            return Ok(());
        }
        let again = call(6, talk.later);
        self.send(talk.client, &again);
        self.arrived(server, &again, (seen, service.name))?;
        self.tally.count(kind);
        Ok(())
    }

    /// Whether the receiver sees the client as the design says.
    fn is_presented(
        &mut self,
        talk: &Talk,
        client: &Container,
        server: usize,
        service: &Service,
        own: End,
        seen: End,
    ) -> Outcome<()> {
        let wrong = || Err(format!("{}:{} is shown as {}:{}", own.0, own.1, seen.0, seen.1));
        if matches!(talk.way, Way::FromService | Way::Portless) {
            return if seen == own { Ok(()) } else { wrong() };
        }
        let is_hairpin = talk.client == server;
        let by_wire_name = is_hairpin || client.network != service.network;
        if is_hairpin {
            self.tally.feature("back to its sender");
        }
        let ip = if by_wire_name { estate::server_ip(client.server, talk.v4) } else { own.0 };
        let port = |wire: u16| if by_wire_name { wire } else { client.inside_of(wire) };
        // Whoever holds a public name as its own is called by that within its network.
        let by_inside_name = service.public == Some(service.name) && client.network == service.network;
        let by_public_name = talk.way == Way::Published && !by_inside_name;
        let passes = client.passing().is_some_and(|passing| passing.contains(own.1)) && !by_public_name;
        let is_right_port = match passes {
            true => seen.1 == port(own.1 - client.inside.first + client.wire.first),
            false => (client.pool().first..=client.pool().last).any(|wire| port(wire) == seen.1),
        };
        if seen.0 == ip && is_right_port { Ok(()) } else { wrong() }
    }

    /// Where an error that a container tells appears to come from.
    fn teller(&self, told: &Parcel, from: usize, called: End) -> std::net::IpAddr {
        let server = self.estate.containers[from].server;
        if speaks_for_container(told) { called.0 } else { estate::server_ip(server, told.is_v4()) }
    }
}

/// The quote of an error in the words of the one who sent the quoted packet.
pub(super) fn requoted(told: &Parcel, src: End, dst: End) -> L4 {
    let L4::Error { kind, code, rest, quoted } = &told.l4 else { panic!("no error: {told:?}") };
    let mut own = quoted.between(src, dst);
    // Of an echo, one end alone has the identifier.
    if let L4::Echo { is_reply, .. } = own.l4 {
        if is_reply {
            own.src.1 = 0
        } else {
            own.dst.1 = 0
        };
    }
    L4::Error { kind: *kind, code: *code, rest: *rest, quoted: Box::new(own) }
}

/// True for unreachable of the codes that only the addressed host sends: protocol and port.
fn speaks_for_container(told: &Parcel) -> bool {
    let L4::Error { kind, code, .. } = told.l4 else { return false };
    if told.is_v4() { kind == 3 && matches!(code, 2 | 3) } else { (kind, code) == (1, 4) }
}
