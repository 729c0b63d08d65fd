//! The live tables against a naive mapping: a list of bindings that is searched from end to end.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use sixway::naming::{
    BindingKey, BindingSpec, Inside, KeyPorts, Lead, Located, Names, NamesWriter, Network, Networks, Outer,
    OwnerChange, Ports, Protocol, Public, Published, Replica, ReplicaId, View, Wire, flow_hash,
};
use sixway::table;
use sixway::units::{Endpoint, Ip, Mac, NetworkId, PortRange, Proto};

const OWNED: PortRange = PortRange { first: 20480, last: 20543 };
const OURS: Ip = Ip::from_v4_octets([192, 168, 50, 1]);
const THEIRS: Ip = Ip::from_v4_octets([192, 168, 50, 2]);

fn networks() -> Arc<Networks> {
    let named = |name: &str| Network { name: name.to_owned(), ..Network::default() };
    Arc::new(Networks::new(vec![named("blue"), named("red")], &[]).unwrap())
}

fn tables() -> (Arc<Names>, NamesWriter) {
    Names::new(networks(), &[OURS], OWNED)
}

fn located<T: Clone>(values: &[T]) -> Vec<Located<T>> {
    values.iter().enumerate().map(|(at, value)| Located { line: at as u32 + 1, value: value.clone() }).collect()
}

/// What a binding is known by: the inside range in numbers.
fn identity(spec: &BindingSpec) -> (String, Protocol, Option<Mac>, Ip, Ports, Option<String>) {
    let id = spec.id.as_ref().map(ToString::to_string);
    (spec.network.to_string(), spec.proto, spec.mac.filter(|_| id.is_none()), spec.ip, spec.inside, id)
}

fn same_container(a: &BindingSpec, b: &BindingSpec) -> bool {
    (&a.network, a.ip, &a.id) == (&b.network, b.ip, &b.id) && (a.id.is_some() || a.mac == b.mac)
}

fn range(ports: Ports) -> PortRange {
    match ports {
        Ports::None => PortRange { first: 0, last: 0 },
        Ports::One(port) => PortRange { first: port, last: port },
        Ports::Block(range) => range,
    }
}

fn public_of(spec: &BindingSpec) -> Option<(Ip, u16)> {
    spec.public.map(|public| (public.ip, public.port.unwrap_or(range(spec.inside).first)))
}

/// The rules of the design, pair by pair.
fn clash(a: &BindingSpec, b: &BindingSpec) -> bool {
    if identity(a) == identity(b) {
        return true;
    }
    if !a.proto.overlaps(b.proto) {
        return false;
    }
    if a.server_ip == b.server_ip && range(a.wire).overlaps(range(b.wire)) {
        return true;
    }
    if public_of(a).is_some() && public_of(a) == public_of(b) && a.network != b.network {
        return true;
    }
    let same_address = a.network == b.network && a.ip == b.ip;
    let overlap = range(a.inside).overlaps(range(b.inside));
    match (a.is_block(), b.is_block()) {
        (true, true) => same_address && overlap,
        (false, false) => false,
        (true, false) => same_address && overlap && (a.native || !same_container(a, b)),
        (false, true) => same_address && overlap && (b.native || !same_container(a, b)),
    }
}

#[derive(Clone, Default)]
struct Naive(Vec<BindingSpec>);

impl Naive {
    fn apply(&self, puts: &[BindingSpec], deletes: &[BindingKey]) -> Option<Naive> {
        let mut all = self.0.clone();
        for key in deletes {
            let fits = |spec: &BindingSpec| {
                let ports = match key.ports {
                    KeyPorts::SameNumbers => spec.is_same_numbers(),
                    KeyPorts::Exactly(ports) => spec.inside == ports,
                };
                ports
                    && (&spec.network, spec.proto, spec.ip, &spec.id) == (&key.network, key.proto, key.ip, &key.id)
                    && (spec.id.is_some() || spec.mac == key.mac)
            };
            let at: Vec<usize> = (0..all.len()).filter(|&at| fits(&all[at])).collect();
            let [at] = at[..] else { return None };
            all.remove(at);
        }
        let mut kept: Vec<BindingSpec> = Vec::new();
        for put in puts {
            if let Some(at) = all.iter().position(|spec| identity(spec) == identity(put)) {
                all.remove(at);
            } else if put.is_same_numbers() && !kept.iter().any(|spec| identity(spec) == identity(put)) {
                let stars =
                    |spec: &BindingSpec| spec.is_same_numbers() && same_container(spec, put) && spec.proto == put.proto;
                // Puts that are there already, unchanged, count too.
                let mut at: Vec<usize> = (0..all.len()).filter(|&at| stars(&all[at])).collect();
                let unchanged = kept.iter().filter(|spec| stars(spec) && self.0.contains(spec)).count();
                if unchanged == 0 && at.len() == 1 {
                    all.remove(at.remove(0));
                } else if unchanged == 1 && at.is_empty() {
                    return None;
                }
            }
            kept.push(put.clone());
        }
        all.extend(kept);
        Naive::check(all)
    }

    fn check(all: Vec<BindingSpec>) -> Option<Naive> {
        let owned = |ports: Ports| {
            ports == Ports::None || OWNED.contains(range(ports).first) && OWNED.contains(range(ports).last)
        };
        let good = all.iter().all(|spec| spec.check().is_ok() && owned(spec.wire));
        let apart = all.iter().enumerate().all(|(at, a)| all[..at].iter().all(|b| !clash(a, b)));
        (good && apart).then_some(Naive(all))
    }

    fn inner(&self, proto: Proto, ip: Ip, port: u16) -> Option<(&BindingSpec, u16)> {
        let spec = self
            .0
            .iter()
            .find(|spec| spec.proto.serves(proto) && spec.server_ip == ip && range(spec.wire).contains(port))?;
        Some((spec, range(spec.inside).first + (port - range(spec.wire).first)))
    }

    fn services(&self, network: &str, proto: Proto, ip: Ip, port: u16) -> Vec<&BindingSpec> {
        let holds = |spec: &&BindingSpec| {
            &*spec.network == network
                && spec.proto.serves(proto)
                && spec.ip == ip
                && range(spec.inside).first == port
                && !spec.is_block()
        };
        self.0.iter().filter(holds).collect()
    }
}

/// Which of them may take a new flow.
fn eligible<'a>(services: &[&'a BindingSpec]) -> Vec<&'a BindingSpec> {
    let active: Vec<_> = services.iter().filter(|s| !s.standby && !s.drain).copied().collect();
    if active.is_empty() { services.iter().filter(|s| !s.drain).copied().collect() } else { active }
}

fn ports_of_interest() -> impl Iterator<Item = u16> {
    [0, 79, 80, 81].into_iter().chain(OWNED.first - 2..=OWNED.last + 2)
}

/// Every lookup of a small world gives what the list gives.
fn agrees(view: &View<'_>, naive: &Naive, nets: &Networks) {
    let spec_of = |binding| view.spec(binding).unwrap();
    let mut listed: Vec<String> = view.bindings().map(|binding| plain(&spec_of(binding)).to_string()).collect();
    let mut expected: Vec<String> = naive.0.iter().map(|spec| plain(spec).to_string()).collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    for proto in [Proto::TCP, Proto::UDP, Proto::ICMP, Proto::ESP] {
        for port in ports_of_interest() {
            if !proto.has_ports() && port != 0 {
                continue;
            }
            for ip in [OURS, THEIRS] {
                let name = Wire(Endpoint { proto, ip, port });
                let found = view
                    .inner(name)
                    .map(|at| (plain(&spec_of(at.binding)), at.inside_of(proto, port).0))
                    .map(|(spec, inside)| (spec, inside.ip, inside.port));
                let expected = naive.inner(proto, ip, port).map(|(spec, port)| (plain(spec), spec.ip, port));
                assert_eq!(found, expected, "{name}");
            }
            for (ip, name) in ips().flat_map(|ip| ["blue", "red"].map(|name| (ip, name))) {
                check_outer(view, naive, (nets.id(name).unwrap(), name), Endpoint { proto, ip, port });
            }
            for ip in publics() {
                let expected: Vec<BindingSpec> = naive
                    .0
                    .iter()
                    .filter(|spec| spec.proto.serves(proto) && public_of(spec) == Some((ip, port)))
                    .map(plain)
                    .collect();
                let found = view.public(Public(Endpoint { proto, ip, port }));
                let found: Vec<BindingSpec> =
                    found.iter().flat_map(|s| s.members()).map(|b| plain(&spec_of(b))).collect();
                same_set(&found, &expected);
            }
        }
    }
    for ip in publics() {
        assert_eq!(
            view.is_public_ip(ip),
            naive.0.iter().any(|spec| public_of(spec).is_some_and(|public| public.0 == ip))
        );
    }
}

fn check_outer(view: &View<'_>, naive: &Naive, (network, name): (NetworkId, &str), end: Endpoint) {
    let Endpoint { proto, ip, port } = end;
    let services = naive.services(name, proto, ip, port);
    let block = naive.0.iter().find(|spec| {
        &*spec.network == name
            && spec.proto.serves(proto)
            && spec.ip == ip
            && spec.is_block()
            && range(spec.inside).contains(port)
    });
    let bound: Vec<&BindingSpec> = naive.0.iter().filter(|spec| &*spec.network == name && spec.ip == ip).collect();
    let address = view.address(network, ip);
    assert_eq!(
        address.map(|a| a.has_active),
        (!bound.is_empty()).then(|| bound.iter().any(|s| !s.standby && !s.drain))
    );
    for flow in 0..8 {
        let hash = flow_hash(Endpoint { port: flow, ..end }, end);
        let outer = match view.outer(network, Inside(end)) {
            Outer::Choice(choice) => match view.service_of(choice).choose(hash) {
                Some(Replica { binding, .. }) => Outer::Found(view.placed(binding).unwrap()),
                None => {
                    assert!(!services.is_empty() && eligible(&services).is_empty(), "{name} {end}");
                    continue;
                }
            },
            outer => outer,
        };
        match outer {
            Outer::Found(at) => {
                let spec = plain(&view.spec(at.binding).unwrap());
                let expected: Vec<BindingSpec> = match services.is_empty() {
                    true => block.into_iter().map(plain).collect(),
                    false => eligible(&services).into_iter().map(plain).collect(),
                };
                assert!(expected.contains(&spec), "{name} {end}: {spec} of {expected:?}");
                let wire = at.wire_of(proto, port);
                let back = view.inner(wire).unwrap();
                assert_eq!(
                    (back.inside_of(proto, wire.0.port), plain(&view.spec(back.binding).unwrap())),
                    (Inside(end), spec),
                    "inner is the inverse"
                );
            }
            Outer::Choice(_) => unreachable!("made"),
            Outer::Unbound => assert!(services.is_empty() && block.is_none() && !bound.is_empty(), "{name} {end}"),
            Outer::Unknown => assert!(bound.is_empty(), "{name} {end}"),
        }
    }
    if let Some(service) = view.service(network, Inside(end)) {
        let members: Vec<BindingSpec> = service.members().map(|b| plain(&view.spec(b).unwrap())).collect();
        same_set(&members, &services.iter().map(|spec| plain(spec)).collect::<Vec<_>>());
        for member in service.members() {
            let again = service.replica(ReplicaId::of(view.identity(member))).unwrap();
            assert_eq!(view.spec(again.binding), view.spec(member));
            let spec = plain(&view.spec(member).unwrap());
            assert_eq!(service.takes_new(member), eligible(&services).iter().any(|taker| plain(taker) == spec));
            let container = view.container_of(member).unwrap();
            let own = view.source_service(member.container(), container, proto, port).unwrap();
            assert_eq!(view.container_of(own).unwrap().identity(), container.identity());
        }
    } else {
        assert!(services.is_empty(), "{name} {end}");
    }
    if let Some(block) = view.block(network, Inside(end)) {
        assert_eq!(view.source_block(block.container(), proto, port).map(|b| view.spec(b)), Some(view.spec(block)));
    }
}

fn same_set(found: &[BindingSpec], expected: &[BindingSpec]) {
    let lines = |specs: &[BindingSpec]| {
        let mut lines: Vec<String> = specs.iter().map(ToString::to_string).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(found), lines(expected));
}

/// With the public port spelt out.
fn plain(spec: &BindingSpec) -> BindingSpec {
    let has_ports = spec.wire != Ports::None;
    let public = public_of(spec).map(|(ip, port)| Published { ip, port: has_ports.then_some(port) });
    BindingSpec { public, ..spec.clone() }
}

fn ips() -> impl Iterator<Item = Ip> {
    [1, 2].into_iter().map(|n| Ip::from_v4_octets([10, 0, 0, n]))
}

fn publics() -> impl Iterator<Item = Ip> {
    [1, 2].into_iter().map(|n| Ip::from_v4_octets([203, 0, 113, n]))
}

fn arb_spec() -> impl Strategy<Value = BindingSpec> {
    let protos = [
        Protocol::Any,
        Protocol::One(Proto::TCP),
        Protocol::One(Proto::TCP),
        Protocol::One(Proto::UDP),
        Protocol::One(Proto::ESP),
    ];
    let place = (0usize..5, any::<bool>(), any::<bool>(), 0usize..2, 1u8..4);
    let numbers = (0u16..64, 0u8..5, 0u16..64, any::<bool>(), 0u16..3);
    let options =
        (any::<[bool; 3]>(), 1u16..4, proptest::option::of("r1"), proptest::option::of((0usize..2, 80u16..82)));
    (place, numbers, options).prop_map(
        move |((proto, blue, ours, ip, mac), (wire, log2, inside, same, web), options)| {
            let ([standby, drain, native], weight, id, public) = options;
            let block = |at: u16| {
                let first = OWNED.first + (at >> log2 << log2);
                PortRange { first, last: first + (1 << log2) - 1 }
            };
            let proto = protos[proto];
            let (wire, inside) = match proto {
                Protocol::One(Proto::ESP) => (Ports::None, Ports::None),
                _ if log2 > 1 => (Ports::Block(block(wire)), Ports::Block(block(if same { wire } else { inside }))),
                _ => {
                    (Ports::One(OWNED.first + wire), Ports::One(if web == 0 { OWNED.first + inside } else { 79 + web }))
                }
            };
            let ip = ips().nth(ip).unwrap();
            let server = if ours { OURS } else { THEIRS };
            BindingSpec {
                standby: standby && weight == 1,
                drain: drain && weight == 2,
                native: native && matches!(wire, Ports::Block(range) if range.count() >= 8),
                weight,
                id: id.map(Into::into),
                public: public.filter(|_| !matches!(wire, Ports::Block(_))).map(|(ip, port)| Published {
                    ip: publics().nth(ip).unwrap(),
                    port: (wire != Ports::None && standby).then_some(port),
                }),
                ..BindingSpec::new(
                    if blue { "blue" } else { "red" },
                    proto,
                    (server, wire),
                    (Some(Mac([2, 0, 0, 0, 0, mac])), ip, inside),
                )
            }
        },
    )
}

#[derive(Clone, Debug)]
enum Edit {
    Apply { puts: Vec<BindingSpec>, moves: Vec<(usize, u16)>, deletes: Vec<usize>, absent: bool },
    Replace { keep: Vec<bool>, puts: Vec<BindingSpec> },
}

fn arb_edit() -> impl Strategy<Value = Edit> {
    let some = |most| proptest::collection::vec(arb_spec(), 0..most);
    let moves = proptest::collection::vec((0usize..99, 0u16..64), 0..2);
    let deletes = proptest::collection::vec(0usize..99, 0..3);
    prop_oneof![
        4 => (some(4), moves, deletes, proptest::bool::weighted(0.05))
            .prop_map(|(puts, moves, deletes, absent)| Edit::Apply { puts, moves, deletes, absent }),
        1 => (proptest::collection::vec(any::<bool>(), 16), some(6)).prop_map(|(keep, puts)| Edit::Replace { keep, puts }),
    ]
}

/// Owner of each of our wire names, as the list has it.
fn owners(naive: &Naive) -> HashMap<(u8, u16), (String, u16)> {
    let mut owners = HashMap::new();
    for proto in [Proto::TCP, Proto::UDP, Proto::ICMP, Proto::ESP] {
        for port in std::iter::once(0).chain(OWNED.first..=OWNED.last) {
            if let Some((spec, inside)) = naive.inner(proto, OURS, port) {
                let who = match &spec.id {
                    Some(id) => format!("{} {id} {}", spec.network, spec.ip),
                    None => format!("{} {} {}", spec.network, spec.mac.unwrap(), spec.ip),
                };
                owners.insert((proto.0, port), (who, inside));
            }
        }
    }
    owners
}

fn check_owners(changes: &[OwnerChange], before: &Naive, now: &Naive) {
    let (before, now) = (owners(before), owners(now));
    let mut told: HashMap<(u8, u16), (bool, bool)> = HashMap::new();
    for change in changes {
        assert_eq!(change.server, OURS);
        assert_ne!(change.before, change.now);
        for port in change.ports.first..=change.ports.last {
            let twice = told.insert((change.proto.0, port), (change.before.is_some(), change.now.is_some()));
            assert!(twice.is_none(), "told once");
        }
    }
    let names: std::collections::HashSet<_> = before.keys().chain(now.keys()).copied().collect();
    for name in names {
        let expected =
            (before.get(&name) != now.get(&name)).then(|| (before.contains_key(&name), now.contains_key(&name)));
        assert_eq!(told.remove(&name), expected, "{name:?}");
    }
    assert!(told.is_empty(), "{told:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_history_of_edits_is_as_the_list_says(edits in proptest::collection::vec(arb_edit(), 1..24)) {
        let (names, mut writer) = tables();
        let mut naive = Naive::default();
        for edit in edits {
            let (expected, done) = match edit {
                Edit::Apply { mut puts, moves, deletes, absent } => {
                    for (at, wire) in moves {
                        let Some(old) = (!naive.0.is_empty()).then(|| naive.0[at % naive.0.len()].clone()) else { continue };
                        let size = range(old.wire).count() as u16;
                        let first = OWNED.first + wire / size * size;
                        let wire = match old.wire {
                            Ports::None => Ports::None,
                            Ports::One(_) => Ports::One(first),
                            Ports::Block(_) => Ports::Block(PortRange { first, last: first + size - 1 }),
                        };
                        let inside = if old.is_same_numbers() && size > 4 { wire } else { old.inside };
                        puts.push(BindingSpec { wire, inside, ..old });
                    }
                    let mut deletes: Vec<BindingKey> = deletes.iter().filter(|_| !naive.0.is_empty())
                        .map(|at| naive.0[at % naive.0.len()].key()).collect();
                    deletes.dedup();
                    if absent {
                        let nobody = BindingSpec::new("blue", Protocol::Any, (OURS, Ports::One(20480)), (None, OURS, Ports::One(9)));
                        deletes.push(nobody.key());
                    }
                    (naive.apply(&puts, &deletes), writer.apply(&located(&puts), &located(&deletes)))
                }
                Edit::Replace { keep, puts } => {
                    let kept = naive.0.iter().zip(keep.iter().cycle()).filter(|(_, keep)| **keep).map(|(spec, _)| spec.clone());
                    let all: Vec<BindingSpec> = kept.chain(puts).collect();
                    (Naive::check(all.clone()), writer.replace(&located(&all)))
                }
            };
            prop_assert_eq!(expected.is_some(), done.is_ok(), "{:?}", done);
            if let (Some(new), Ok(change)) = (expected, done) {
                check_owners(&change.owners, &naive, &new);
                naive = new;
            }
            let guard = table::pin();
            agrees(&names.view(&guard), &naive, names.networks());
        }
    }
}

/// What this thread has used: a busy machine must not change the figures.
fn cpu_time() -> std::time::Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// A million bindings: a service each for half a million containers, and a block for each. Prints what they cost.
#[test]
fn a_large_mapping_loads_in_seconds_and_a_few_hundred_bytes_a_binding() {
    let containers: u32 = if cfg!(debug_assertions) { 5_000 } else { 500_000 };
    let owned = PortRange { first: 20480, last: 59903 };
    for (what, blocks) in [("a service each", false), ("a service and a block for each container", true)] {
        let mut specs = Vec::new();
        let bindings = 2 * containers;
        for n in 0..if blocks { containers } else { bindings } {
            let [_, a, b, c] = n.to_be_bytes();
            let ip = Ip::from_v4_bits(0x0a00_0100 + n);
            let mac = Some(Mac([2, 0x42, 10, a, b, c]));
            let tcp = Protocol::One(Proto::TCP);
            let (server, port) = if blocks { (n / 8_000, 20480 + n % 8_000) } else { (n / 39_000, 20480 + n % 39_000) };
            let server_at = |server: u32| Ip::from_v4_bits(0xc0a8_3201 + server);
            specs.push(BindingSpec::new(
                "blue",
                tcp,
                (server_at(server), Ports::One(port as u16)),
                (mac, ip, Ports::One(80)),
            ));
            if blocks {
                let first = 28_672 + (n % 1_900 * 16) as u16;
                let range = Ports::Block(PortRange { first, last: first + 15 });
                specs.push(BindingSpec::new("blue", Protocol::Any, (server_at(n / 1_900), range), (mac, ip, range)));
            }
        }
        let specs: Vec<Located<BindingSpec>> =
            specs.into_iter().zip(1..).map(|(value, line)| Located { line, value }).collect();
        let (names, mut writer) = Names::new(networks(), &[OURS], owned);
        let start = cpu_time();
        writer.replace(&specs).unwrap();
        let loaded = cpu_time() - start;
        let start = cpu_time();
        assert_eq!(writer.replace(&specs).unwrap().added, 0);
        let again = cpu_time() - start;
        assert_eq!(names.len(), specs.len());

        let guard = table::pin();
        let view = names.view(&guard);
        let name = |n: usize| {
            let spec = &specs[n.wrapping_mul(7_919) % specs.len()].value;
            Wire(Endpoint { proto: Proto::TCP, ip: spec.server_ip, port: range(spec.wire).last })
        };
        let wanted: Vec<Wire<Endpoint>> = (0..specs.len()).map(name).collect();
        let mut missed = 0;
        let start = cpu_time();
        for burst in wanted.chunks(32) {
            let mut leads: Vec<Lead> = burst.iter().map(|&name| view.lead_inner(name)).collect();
            leads.iter_mut().for_each(|lead| view.follow_inner(lead));
            let found = burst.iter().zip(&leads).map(|(&name, lead)| view.inner_from(lead, name));
            missed += found.filter(Option::is_none).count();
        }
        let lookups = (cpu_time() - start) / specs.len() as u32;
        assert_eq!(missed, 0);
        println!(
            "{} bindings, {what}: loaded in {loaded:?}, the same again in {again:?}, {} bytes a binding, \
             {lookups:?} a wire lookup in bursts",
            specs.len(),
            names.memory_bytes() / specs.len()
        );
    }
}
