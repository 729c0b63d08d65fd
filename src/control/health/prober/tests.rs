//! Whom the prober probes, and when. The containers answer echo, or do not.

use super::*;
use crate::control::health::{Kind, Tally, Thresholds};
use crate::frame::ETHERNET_LEN;
use crate::naming::parse_key;
use crate::units::Proto;

const PORT: PortId = PortId(3);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 10]);
const HERE: Option<Place> = Some(Place { port: PORT, mac: MAC });
const INTERVAL: u64 = 100;

fn check() -> Check {
    Check {
        network: "blue".to_owned(),
        ip: "10.0.0.10".parse().unwrap(),
        port: 80,
        proto: Proto::TCP,
        kind: Kind::Icmp,
        interval: Duration::from_millis(INTERVAL),
        timeout: Duration::from_millis(INTERVAL),
        thresholds: Thresholds { rise: 2, fall: 2 },
        half_life: None,
    }
}

/// A service with one replica, seen through a whole server.
struct Server {
    prober: Prober,
    place: Option<Place>,
    /// Whether the container answers.
    answers: bool,
    health: Health,
    now: u64,
    probes: Vec<u64>,
}

impl Server {
    fn new(place: Option<Place>) -> Server {
        let prober = Prober::new(vec![check()], 1);
        Server { prober, place, answers: true, health: Health::Unknown, now: 1000, probes: Vec::new() }
    }

    fn turn(&mut self) {
        let binding = parse_key("blue tcp 02:00:00:00:00:0a 10.0.0.10:80").unwrap();
        let subject = Subject { identity: 7, binding, place: self.place, health: self.health };
        self.prober.look(0, [subject].into_iter(), self.now);
        let gateway = |_: &Check| Some(IpAddr::from([169, 254, 1, 1]));
        let (outgoing, reports) = self.prober.poll(self.now, gateway);
        for Outgoing { to, packet } in outgoing {
            assert_eq!(Some(to), HERE);
            self.probes.push(self.now);
            if self.answers {
                self.prober.receive(PORT, &mut reply(&packet));
            }
        }
        reports.into_iter().for_each(|report| self.health = report.state);
    }

    /// Runs until the health is this; how many milliseconds it took.
    fn until(&mut self, health: Health) -> u64 {
        let began = self.now;
        while self.health != health {
            assert!(self.now < began + 100 * INTERVAL, "{health} never comes");
            let next = self.prober.next_at(self.now).unwrap().max(self.now + 1);
            self.now = if self.prober.ports.is_empty() { next } else { self.now + 1 };
            self.turn();
        }
        self.now - began
    }
}

/// The Ethernet frame of the reply to an echo request.
fn reply(request: &[u8]) -> Vec<u8> {
    let mut frame = [&[2; 6][..], &MAC.0, &[0x08, 0x00], request].concat();
    let ip = &mut frame[ETHERNET_LEN..];
    let (src, dst) = ip[12..20].split_at_mut(4);
    src.swap_with_slice(dst);
    // From type 8 to 0: the checksum grows by as much.
    let sum = u16::from_be_bytes([ip[22], ip[23]]);
    let (sum, carry) = sum.overflowing_add(0x0800);
    ip[20] = 0;
    ip[22..24].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
    frame
}

#[test]
fn a_replica_is_healthy_after_two_answers_and_unhealthy_after_two_silences() {
    let mut server = Server::new(HERE);
    server.turn();
    assert!(server.until(Health::Healthy) <= INTERVAL + 1, "it is probed as soon as it is there");
    server.answers = false;
    assert!(server.until(Health::Unhealthy) <= 3 * INTERVAL);
    server.answers = true;
    assert!(server.until(Health::Healthy) <= 3 * INTERVAL, "the probe that is under way is lost, the next two are not");
    let gaps: Vec<u64> = server.probes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|&gap| gap == INTERVAL), "{gaps:?}");
}

#[test]
fn a_container_whose_port_goes_down_is_given_up_without_waiting() {
    let mut server = Server::new(HERE);
    server.turn();
    server.until(Health::Healthy);
    server.place = None;
    server.turn();
    assert!(server.until(Health::Unhealthy) <= INTERVAL / HURRY + 1);
    server.place = HERE;
    server.until(Health::Healthy);
}

#[test]
fn a_container_that_no_port_has_held_yet_is_given_time() {
    let mut server = Server::new(None);
    server.turn();
    assert!(server.until(Health::Unhealthy) >= 2 * INTERVAL);
}

#[test]
fn what_the_mapping_forgets_is_said_again() {
    let mut server = Server::new(HERE);
    server.answers = false;
    server.turn();
    server.until(Health::Unhealthy);
    server.health = Health::Unknown;
    server.turn();
    assert_eq!(server.health, Health::Unhealthy, "without another probe");
}

#[test]
fn a_binding_that_two_checks_are_about_is_healthy_when_both_say_so() {
    let silent = Check { kind: Kind::Udp, proto: Proto::UDP, ..check() };
    let mut prober = Prober::new(vec![check(), silent], 1);
    let gateway = |_: &Check| Some(IpAddr::from([169, 254, 1, 1]));
    let mut said = Vec::new();
    let mut health = Health::Unknown;
    for now in (0..20 * INTERVAL).step_by(5) {
        for nth in 0..2 {
            let binding = parse_key("blue any 02:00:00:00:00:0a 10.0.0.10:80").unwrap();
            let subject = Subject { identity: 7, binding, place: HERE, health };
            prober.look(nth, [subject].into_iter(), now);
        }
        let (outgoing, reports) = prober.poll(now, gateway);
        // Echo is answered, datagrams are not.
        for mut answer in outgoing.iter().filter(|it| it.packet[9] == 1).map(|it| reply(&it.packet)) {
            prober.receive(PORT, &mut answer);
        }
        for report in reports {
            health = report.state;
            said.push(report.state);
        }
    }
    assert_eq!(said, [Health::Unhealthy], "once, and never otherwise");
}

/// Whether the container is behind the port, it has ended and says so to somebody else.
#[test]
fn a_hint_brings_the_next_probe_forward_and_those_after_it() {
    let timeout = Duration::from_millis(INTERVAL / 2);
    let mut server = Server::new(HERE);
    server.prober = Prober::new(vec![Check { timeout, ..check() }], 1);
    server.turn();
    server.until(Health::Healthy);
    server.answers = false;
    server.now += INTERVAL / 2;
    let died = server.now;
    server.prober.hint(0, HERE.unwrap(), server.now);
    server.turn();
    assert_eq!(server.probes.last(), Some(&died), "at once");
    // Silence takes until the timeout, and then the next one does not wait for the interval to be over.
    let began = server.now;
    server.prober.hint(0, Place { port: PortId(4), mac: MAC }, server.now);
    server.prober.hint(1, HERE.unwrap(), server.now);
    assert_eq!(server.until(Health::Unhealthy), INTERVAL + INTERVAL / HURRY, "since {began}");
    let (_, _, tally) = server.prober.tallies().next().unwrap();
    assert_eq!((tally.hints, tally.bad), (1, 2), "others' hints are none of its business");
    assert_eq!(tally, Tally { hints: 1, bad: 2, sent: server.probes.len() as u64, good: tally.good, refused: 0 });
    assert_eq!(server.prober.totals(), tally);
}

#[test]
fn hints_without_end_cause_four_more_probes_an_interval_and_no_verdict() {
    let mut server = Server::new(HERE);
    server.turn();
    server.until(Health::Healthy);
    let (began, probes) = (server.now, server.probes.len());
    while server.now < began + 10 * INTERVAL {
        server.prober.hint(0, HERE.unwrap(), server.now);
        server.turn();
        server.turn();
        server.now += 1;
    }
    assert_eq!(server.health, Health::Healthy);
    let more = server.probes.len() - probes;
    assert!((30..=51).contains(&more), "{more} probes in ten intervals");
    let (_, _, tally) = server.prober.tallies().next().unwrap();
    assert_eq!((tally.hints, tally.bad, tally.refused), (10 * INTERVAL, 0, 0));
}

#[test]
fn who_leaves_the_mapping_is_forgotten() {
    let mut server = Server::new(HERE);
    server.turn();
    server.prober.look(0, [].into_iter(), server.now);
    assert!(server.prober.targets.is_empty() && server.prober.ports.is_empty());
    assert_eq!(server.prober.next_at(server.now), None);
}

#[test]
fn frames_of_strangers_change_nothing() {
    let mut server = Server::new(HERE);
    server.answers = false;
    server.turn();
    let gateway = |_: &Check| Some(IpAddr::from([169, 254, 1, 1]));
    let request = {
        server.now += INTERVAL;
        server.prober.poll(server.now, gateway).0.pop().unwrap().packet
    };
    let good = reply(&request);
    server.prober.receive(PortId(4), &mut good.clone());
    for cut in 0..good.len() {
        server.prober.receive(PORT, &mut good[..cut].to_vec());
    }
    for at in 0..good.len() {
        // A wrong address, port, length or checksum.
        let mut wrong = good.clone();
        wrong[at] ^= 0x11;
        if !(ETHERNET_LEN..ETHERNET_LEN + 20).contains(&at) {
            continue;
        }
        server.prober.receive(PORT, &mut wrong);
    }
    server.prober.poll(server.now, gateway);
    assert_eq!(server.prober.targets.values().next().unwrap().judge.verdict(), Health::Unknown);
}
