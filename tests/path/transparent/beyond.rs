//! Conversations with somebody outside.

use super::estate::{self, GATEWAYS, ROUTER, SERVERS};
use super::inside::requoted;
use super::journey::{Meeting, Outcome};
use super::parcels::Parcel;
use super::talk::Talk;
use crate::packet::{ACK, SYN};

impl Meeting<'_> {
    /// A container calls somebody outside.
    pub(super) fn outwards(&mut self, talk: &Talk) -> Outcome<()> {
        let client = self.estate.containers[talk.client].clone();
        let own = (client.ip(talk.v4), talk.port);
        let is_echo = matches!(talk.proto, 1 | 58);
        let host = (estate::host(talk.host, talk.v4), if is_echo { 0 } else { 53 });
        let kind = self.tally.kind(talk.way, talk.v4, talk.proto);
        let server = usize::from(client.server) - 1;

        let first = talk.shapes[0].parcel((own, host), talk.proto, (SYN, false), true);
        self.send(talk.client, &first);
        self.is_outside()?;
        let (seen, _) = first.ends_in(&self.trip().out.clone());
        let passes = client.passing().is_some_and(|passing| passing.contains(own.1));
        let is_right_port = match passes {
            true => seen.1 == own.1 - client.inside.first + client.wire.first,
            false => client.pool().contains(seen.1),
        };
        if seen.0 != estate::server_ip(client.server, talk.v4) || !is_right_port {
            return Err(format!("{}:{} leaves as {}:{}", own.0, own.1, seen.0, seen.1));
        }
        let as_seen = self.left(talk.client, &first, (seen, host), ROUTER)?;
        self.tally.count(kind);

        if talk.packets < 2 {
            return Ok(());
        }
        let reply = talk.shapes[1].parcel((host, seen), talk.proto, (SYN | ACK, true), false);
        self.send_from_outside(server, &reply);
        let as_heard = self.arrived(talk.client, &reply, (host, own))?;
        self.tally.count(kind);

        for (nth, speaker) in [(2, host.0), (3, estate::way_station(talk.v4))] {
            if talk.packets <= nth {
                return Ok(());
            }
            let told = talk.shapes[nth].error(((speaker, 0), seen), &as_seen);
            self.send_from_outside(server, &told);
            let expected = Parcel { l4: requoted(&told, own, host), ..told.clone() };
            self.arrived(talk.client, &expected, ((speaker, 0), (own.0, 0)))?;
            self.tally.count_error(kind);
        }

        if talk.packets < 5 {
            return Ok(());
        }
        let told = talk.shapes[4].error((own, host), &as_heard);
        self.send(talk.client, &told);
        let expected = Parcel { l4: requoted(&told, host, seen), ..told.clone() };
        self.left(talk.client, &expected, ((seen.0, 0), (host.0, 0)), ROUTER)?;
        self.tally.count_error(kind);

        if talk.packets < 6 {
            return Ok(());
        }
        let again = talk.shapes[5].parcel((own, host), talk.proto, (talk.later, false), true);
        self.send(talk.client, &again);
        self.left(talk.client, &again, (seen, host), ROUTER)?;
        self.tally.count(kind);
        Ok(())
    }

    /// Somebody outside calls a public name.
    pub(super) fn inwards(&mut self, talk: &Talk) -> Outcome<()> {
        let service = self.estate.services[talk.service].clone();
        let public = service.public.expect("it is published");
        let host = (estate::host(talk.host, talk.v4), if public.1 == 0 { 0 } else { talk.port });
        let kind = self.tally.kind(talk.way, talk.v4, service.proto);
        let gateway = |nth: usize| usize::from(SERVERS) + (talk.gateway + nth) % GATEWAYS.len();

        let first = talk.shapes[0].parcel((host, public), service.proto, (SYN, false), false);
        self.send_from_outside(gateway(0), &first);
        let server = self.receiver()?;
        if !service.replicas.contains(&server) {
            return Err(format!("{} is no replica", self.estate.containers[server].port));
        }
        let as_seen = self.arrived(server, &first, (host, service.name))?;
        self.tally.count(kind);

        if talk.packets < 2 {
            return Ok(());
        }
        let reply = talk.shapes[1].parcel((service.name, host), service.proto, (SYN | ACK, true), true);
        self.send(server, &reply);
        let towards = self.way_out()?;
        let as_heard = self.left(server, &reply, (public, host), towards)?;
        self.tally.count(kind);

        if talk.packets < 3 {
            return Ok(());
        }
        let told = talk.shapes[2].error((service.name, host), &as_seen);
        self.send(server, &told);
        if self.way_out()? != towards {
            return Err("it leaves by another gateway than the flow".to_owned());
        }
        let expected = Parcel { l4: requoted(&told, host, public), ..told.clone() };
        self.left(server, &expected, ((public.0, 0), (host.0, 0)), towards)?;
        self.tally.count_error(kind);

        // Either gateway knows whom the rest is for.
        for (nth, speaker) in [(3, host.0), (4, estate::way_station(talk.v4))] {
            if talk.packets <= nth {
                return Ok(());
            }
            let told = talk.shapes[nth].error(((speaker, 0), public), &as_heard);
            self.send_from_outside(gateway(nth), &told);
            let expected = Parcel { l4: requoted(&told, service.name, host), ..told.clone() };
            self.arrived(server, &expected, ((speaker, 0), (service.name.0, 0)))?;
            self.tally.count_error(kind);
        }

        if talk.packets < 6 {
            return Ok(());
        }
        let again = talk.shapes[5].parcel((host, public), service.proto, (talk.later, false), false);
        self.send_from_outside(gateway(1), &again);
        self.arrived(server, &again, (host, service.name))?;
        self.tally.count(kind);
        Ok(())
    }
}
