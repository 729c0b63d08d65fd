//! A frame's way through servers and gateways, and what must have become of it at its end.

use sixway::engine::explain::{decode, describe};
use sixway::path::{Observer, Step, Verdict};

use super::estate::{self, Container, Estate, GATEWAYS, ISP, ROUTER, SERVERS};
use super::parcels::{Checksum, End, L4, Parcel, hex, looks_partial};
use super::talk::{Talk, Way};
use super::tally::Tally;

/// What is not as it should be.
pub struct Failure {
    pub what: String,
    /// The packet and every station that it came by.
    pub trip: Vec<String>,
}

/// Where a frame came out.
pub(super) enum Exit {
    /// At the container of this index.
    Container(usize),
    /// Towards the outside, from this world.
    Outside,
    /// Nowhere: the last verdict.
    Nowhere(String),
}

/// A frame's way.
pub(super) struct Trip {
    pub(super) exit: Exit,
    /// Servers and gateways that rewrote it.
    pub(super) stations: u8,
    /// How many they were when the packet's checksum was one that is completed.
    pub(super) completed_by: Option<u8>,
    /// Every frame that was on the wire.
    pub(super) wire: Vec<Vec<u8>>,
    pub(super) out: Vec<u8>,
    pub(super) notes: Vec<String>,
}

/// A conversation under way.
pub struct Meeting<'a> {
    pub estate: &'a mut Estate,
    pub tally: &'a mut Tally,
    /// Every step is to be told.
    pub is_noted: bool,
    last: Option<Trip>,
}

/// Takes notes of a walk.
struct Notes<'a>(&'a mut Vec<Step>);

impl Observer for Notes<'_> {
    fn step(&mut self, step: Step) {
        self.0.push(step);
    }
}

/// What went wrong is said in words.
pub(super) type Outcome<T> = Result<T, String>;

impl<'a> Meeting<'a> {
    pub fn new(estate: &'a mut Estate, tally: &'a mut Tally, is_noted: bool) -> Meeting<'a> {
        Meeting { estate, tally, is_noted, last: None }
    }

    /// Has the conversation.
    pub fn hold(&mut self, talk: &Talk) -> Result<(), Box<Failure>> {
        for world in &mut self.estate.worlds {
            world.later(talk.wait);
        }
        let done = match talk.way {
            Way::Outside => self.outwards(talk),
            Way::Inwards => self.inwards(talk),
            _ => self.inside(talk),
        };
        done.map_err(|what| {
            let trip = self.last.take().map_or(Vec::new(), |trip| trip.notes);
            Box::new(Failure { what, trip })
        })
    }

    /// Sends a frame into a port of a world, and follows it to its end.
    fn follow(&mut self, mut world: usize, port: &str, frame: Vec<u8>) {
        let (exit, wire, out, notes) = (Exit::Outside, Vec::new(), Vec::new(), Vec::new());
        let mut trip = Trip { exit, stations: 0, completed_by: None, wire, out, notes };
        let (mut frame, mut port) = (frame, port.to_owned());
        loop {
            if trip.completed_by.is_none() && looks_partial(&frame) {
                trip.completed_by = Some(trip.stations);
            }
            let at = &mut self.estate.worlds[world];
            let (outcome, steps) = if self.is_noted {
                let mut steps = Vec::new();
                let outcome = at.observe(&port, &frame, false, &mut Notes(&mut steps));
                (outcome, steps)
            } else {
                (at.receive(&port, &frame), Vec::new())
            };
            let words = at.words(outcome.verdict);
            if self.is_noted {
                trip.notes.push(format!("world {world}, port {port} receives {}", hex(&frame)));
                trip.notes.push(format!("    {}", decode(&frame)));
                let around = &at.assembly.around;
                let told = steps.iter().map(|step| describe(step, around));
                trip.notes.extend(told.map(|(stage, text)| format!("    {stage:<12} {text}")));
                trip.notes.push(format!("    sends {}", outcome.out.as_deref().map_or("nothing".to_owned(), hex)));
            }
            let (Verdict::Forward { port: by }, Some(out)) = (outcome.verdict, outcome.out) else {
                trip.exit = Exit::Nowhere(words);
                break;
            };
            trip.stations += 1;
            let by = at.port_name(by).to_owned();
            if by != "uplink" {
                let held_by = |container: &Container| container.port == by;
                trip.exit = match self.estate.containers.iter().position(held_by) {
                    Some(container) => Exit::Container(container),
                    None => Exit::Nowhere(format!("port {by} is nobody's")),
                };
                trip.out = out;
                break;
            }
            let towards = estate::station(&out[..6]);
            trip.wire.push(out.clone());
            match towards {
                // The engine claims what is for it, and leaves to the gateway's kernel what only passes.
                Some(next) if self.estate.worlds[next].claims("uplink", &out) => {
                    (world, port, frame) = (next, "uplink".to_owned(), out);
                }
                Some(next) if next < usize::from(SERVERS) => {
                    trip.exit = Exit::Nowhere(format!("server {} does not claim it", next + 1));
                    break;
                }
                Some(_) => {
                    trip.exit = Exit::Outside;
                    trip.out = out;
                    break;
                }
                None => {
                    trip.exit =
                        if out[..6] == ROUTER { Exit::Outside } else { Exit::Nowhere("to nobody's MAC".to_owned()) };
                    trip.out = out;
                    break;
                }
            }
        }
        self.last = Some(trip);
    }

    /// A container sends.
    pub(super) fn send(&mut self, container: usize, parcel: &Parcel) {
        let from = &self.estate.containers[container];
        let (world, port, frame) =
            (usize::from(from.server) - 1, from.port.clone(), parcel.frame(from.mac(), from.port_mac()));
        self.tally.feature_of(parcel);
        self.follow(world, &port, frame);
    }

    /// Somebody outside sends to a gateway or a server.
    pub(super) fn send_from_outside(&mut self, world: usize, parcel: &Parcel) {
        let numbers: Vec<u8> = (1..=SERVERS).chain(GATEWAYS).collect();
        let is_gateway = world >= usize::from(SERVERS);
        let (port, frame) = match is_gateway {
            true => ("wan", parcel.frame(ISP, estate::wan_mac(numbers[world]))),
            false => ("uplink", parcel.frame(ROUTER, estate::server_mac(numbers[world]))),
        };
        self.tally.feature_of(parcel);
        if !self.estate.worlds[world].claims(port, &frame) {
            let (wire, out, notes) = (Vec::new(), Vec::new(), vec![hex(&frame)]);
            let exit = Exit::Nowhere("it is not claimed".to_owned());
            self.last = Some(Trip { exit, stations: 0, completed_by: None, wire, out, notes });
            return;
        }
        self.follow(world, port, frame);
    }

    pub(super) fn trip(&self) -> &Trip {
        self.last.as_ref().expect("something was sent")
    }

    /// The container that has received the packet.
    pub(super) fn receiver(&self) -> Outcome<usize> {
        match &self.trip().exit {
            Exit::Container(container) => Ok(*container),
            Exit::Outside => Err("it went outside".to_owned()),
            Exit::Nowhere(words) => Err(format!("it went nowhere: {words}")),
        }
    }

    pub(super) fn is_outside(&self) -> Outcome<()> {
        match &self.trip().exit {
            Exit::Outside => Ok(()),
            Exit::Container(container) => Err(format!("it went to {}", self.estate.containers[*container].port)),
            Exit::Nowhere(words) => Err(format!("it went nowhere: {words}")),
        }
    }

    /// The packet as it must have come out: as `sent`, between these ends, with all that so many of the trip's routers
    /// change.
    fn routed(&self, sent: &Parcel, (src, dst): (End, End), mtu: u16, stations: u8) -> Parcel {
        let trip = self.trip();
        let mut parcel = sent.between(src, dst);
        parcel.ttl -= stations;
        // Whatever comes under an address that senders share has an identification of all of them; a protocol without
        // ports is one container's.
        let is_shared = !trip.wire.is_empty() || (1..=SERVERS).any(|server| estate::server_ip(server, true) == src.0);
        let is_drawn = is_shared && !matches!(sent.l4, L4::Other(_));
        if sent.is_v4() && !sent.dont_fragment && is_drawn {
            let frame = trip.wire.last().unwrap_or(&trip.out);
            parcel.id = u16::from_be_bytes([frame[18], frame[19]]);
        }
        // One wrong checksum in 65,536 looks like a partial one.
        if parcel.checksum == Checksum::Partial || trip.completed_by.is_some_and(|station| station < stations) {
            parcel.checksum = Checksum::Right;
        }
        if let L4::Tcp { mss: Some((mss, _)), .. } = &mut parcel.l4 {
            *mss = (*mss).min(mtu - if sent.is_v4() { 40 } else { 60 });
        }
        parcel
    }

    /// Holds what a container received against what it should have.
    pub(super) fn arrived(&mut self, at: usize, sent: &Parcel, ends: (End, End)) -> Outcome<Parcel> {
        let receiver = self.receiver()?;
        if receiver != at {
            let port = |at: usize| &self.estate.containers[at].port;
            return Err(format!("it came to {}, not to {}", port(receiver), port(at)));
        }
        let of = &self.estate.containers[at];
        let expected = self.routed(sent, ends, of.mtu(), self.trip().stations);
        let frame = expected.frame(of.port_mac(), of.mac());
        self.is(&frame)?;
        Ok(expected)
    }

    /// The same for what left towards the outside.
    pub(super) fn left(&mut self, from: usize, sent: &Parcel, ends: (End, End), towards: [u8; 6]) -> Outcome<Parcel> {
        self.is_outside()?;
        let expected = self.routed(sent, ends, 1500, self.trip().stations);
        let server = self.estate.containers[from].server;
        let frame = expected.frame(estate::server_mac(server), towards);
        self.is(&frame)?;
        Ok(expected)
    }

    fn is(&mut self, expected: &[u8]) -> Outcome<()> {
        self.tally.packets += 1;
        if self.trip().out == expected {
            return Ok(());
        }
        Err(format!("it came out as\n  {}\nbut should have as\n  {}", hex(&self.trip().out), hex(expected)))
    }

    /// The packet on its first wire: between servers' addresses alone, and whole in every checksum. `None` if it was on
    /// none.
    pub(super) fn on_the_wire(&mut self, sent: &Parcel, from: usize) -> Outcome<Option<Parcel>> {
        let Some(frame) = self.trip().wire.first().cloned() else { return Ok(None) };
        let (src, dst) = sent.ends_in(&frame);
        let parcel = self.routed(sent, (src, dst), 1500, 1);
        let server = estate::server_mac(self.estate.containers[from].server);
        if parcel.frame(server, frame[..6].try_into().expect("a MAC")) != frame {
            return Err(format!("on the wire it is\n  {}", hex(&frame)));
        }
        let is_server = |ip| (1..=SERVERS).any(|server| estate::server_ip(server, sent.is_v4()) == ip);
        if !is_server(src.0) || !is_server(dst.0) {
            return Err(format!("it is on the wire as {} to {}", src.0, dst.0));
        }
        Ok(Some(parcel))
    }

    /// The station that an answer to a client outside leaves by: the router, or one of the gateways.
    pub(super) fn way_out(&mut self) -> Outcome<[u8; 6]> {
        self.is_outside()?;
        let towards: [u8; 6] = self.trip().out[..6].try_into().expect("a MAC");
        let is_gateway = estate::station(&towards).is_some_and(|station| station >= usize::from(SERVERS));
        if is_gateway != self.estate.by_gateway {
            return Err("it leaves by the wrong way".to_owned());
        }
        self.tally.feature(if is_gateway { "returned by a gateway" } else { "returned directly" });
        Ok(towards)
    }
}
