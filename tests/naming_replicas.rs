//! Services of several replicas, by the lines of the mapping file.

use std::sync::Arc;

use sixway::naming::{Health, HealthReport, Located, parse_key};
use sixway::naming::{Inside, Names, NamesWriter, Network, Networks, Public, Service, View, read_mapping};
use sixway::table;
use sixway::units::{Endpoint, Ip, NetworkId, PortRange, Proto};

const OWNED: PortRange = PortRange { first: 20480, last: 21503 };
const A: &str = "blue tcp - 192.168.50.1:20480 02:42:00:00:00:0a 10.0.0.1:80 ";
const B: &str = "blue tcp - 192.168.50.2:20480 02:42:00:00:00:0b 10.0.0.1:80 ";
const C: &str = "blue tcp - 192.168.50.3:20480 02:42:00:00:00:0c 10.0.0.1:80 ";

struct World {
    names: Arc<Names>,
    writer: NamesWriter,
}

impl World {
    fn new(lines: &[&str]) -> World {
        let blue = Network { name: "blue".to_owned(), ..Network::default() };
        let networks = Arc::new(Networks::new(vec![blue], &[]).unwrap());
        let (names, writer) = Names::new(networks, &[], OWNED);
        let mut world = World { names, writer };
        world.map(lines);
        world
    }

    fn map(&mut self, lines: &[&str]) {
        let (bindings, mistakes) = read_mapping(lines.join("\n").as_bytes());
        assert!(mistakes.is_empty(), "{mistakes:?}");
        self.writer.replace(&bindings).unwrap();
    }

    /// Somebody says what he knows of the binding of this line.
    fn judge(&mut self, line: &str, state: Health) {
        let report = HealthReport::new(parse_key(line).unwrap(), state);
        self.writer.prepare_with_health(&[], &[], &[Located { line: 1, value: report }]).unwrap().commit();
    }

    /// True if echo is answered for 10.0.0.1.
    fn echoes(&self) -> bool {
        let guard = table::pin();
        self.names.view(&guard).address(NetworkId(0), "10.0.0.1".parse().unwrap()).expect("bound").has_active
    }

    /// What the service of 10.0.0.1:80 says to a question.
    fn ask<T>(&self, question: impl FnOnce(&View<'_>, &Service<'_>) -> T) -> T {
        let guard = table::pin();
        let view = self.names.view(&guard);
        let service = view.service(NetworkId(0), Inside(end("10.0.0.1", 80))).expect("the service");
        question(&view, &service)
    }

    /// The servers that many flows are sent to, and nobody else.
    fn servers(&self) -> Vec<String> {
        self.ask(|view, service| {
            let picked = (0..1000u64).filter_map(|nth| service.choose(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let mut servers: Vec<String> =
                picked.map(|replica| view.server_of(replica.binding).unwrap().ip.to_string()).collect();
            servers.sort();
            servers.dedup();
            servers
        })
    }

    fn former(&self) -> Option<String> {
        self.ask(|view, service| Some(view.server_of(service.former()?.binding).unwrap().ip.to_string()))
    }
}

fn end(ip: &str, port: u16) -> Endpoint {
    Endpoint { proto: Proto::TCP, ip: ip.parse::<Ip>().unwrap(), port }
}

fn with(line: &str, options: &str) -> String {
    line.to_owned() + options
}

#[test]
fn the_active_ones_serve_then_those_that_stand_by_and_those_that_drain_never() {
    let mut world = World::new(&[A, B, &with(C, "standby")]);
    assert_eq!(world.servers(), ["192.168.50.1", "192.168.50.2"]);
    world.map(&[&with(A, "drain"), B, &with(C, "standby")]);
    assert_eq!(world.servers(), ["192.168.50.2"]);
    world.map(&[&with(A, "drain"), &with(C, "standby")]);
    assert_eq!(world.servers(), ["192.168.50.3"]);
    world.map(&[&with(A, "drain"), &with(C, "standby drain")]);
    assert!(world.servers().is_empty());
}

#[test]
fn replicas_that_share_their_mac_differ_by_id() {
    let line = "blue tcp - 192.168.50.1:2048X 02:42:00:00:00:0a 10.0.0.1:80 id=webX";
    let lines: Vec<String> = (0..3).map(|n| line.replace('X', &n.to_string())).collect();
    let world = World::new(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    world.ask(|view, service| {
        let ids: Vec<u64> = service.members().map(|binding| view.identity(binding)).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "in the order of their identities");
        assert_eq!(ids.len(), 3);
    });
}

#[test]
fn the_one_that_was_alone_is_known_until_it_leaves() {
    let mut world = World::new(&[A, B]);
    assert_eq!(world.former(), None, "nobody was alone when the mapping was read");
    let mut world_of_one = World::new(&[A]);
    assert_eq!(world_of_one.former().as_deref(), Some("192.168.50.1"), "it is");
    world_of_one.map(&[&with(A, "drain"), B]);
    assert_eq!(world_of_one.former().as_deref(), Some("192.168.50.1"), "though it drains");
    world_of_one.map(&[A, B, C]);
    assert_eq!(world_of_one.former().as_deref(), Some("192.168.50.1"));
    world_of_one.map(&[&A.replace("192.168.50.1", "192.168.50.9"), B, C]);
    assert_eq!(world_of_one.former().as_deref(), Some("192.168.50.9"), "and where it moves to");
    world_of_one.map(&[B, C]);
    assert_eq!(world_of_one.former(), None, "it has left");
    world_of_one.map(&[A, B, C]);
    assert_eq!(world_of_one.former(), None, "and comes back as one of many");
    world.map(&[A]);
    world.map(&[B, C]);
    assert_eq!(world.former(), None, "it was replaced by others in one step");
}

#[test]
fn a_move_changes_nobodys_choice() {
    let mut world = World::new(&[A, B, C]);
    let choices = |world: &World| {
        world.ask(|_, service| {
            (0..10_000u64).map(|nth| service.choose(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap().id).collect()
        })
    };
    let before: Vec<_> = choices(&world);
    world.map(&[&A.replace("192.168.50.1:20480", "192.168.50.7:20999"), B, C]);
    assert_eq!(choices(&world), before);
    world.map(&[C, B, A]);
    assert_eq!(choices(&world), before, "nor does the order of the lines");
}

#[test]
fn small_services_have_no_table_unless_their_weights_are_far_apart() {
    let bytes = |world: &World| {
        let guard = table::pin();
        world.names.view(&guard).slots_bytes()
    };
    let small = bytes(&World::new(&[A, B]));
    assert!(small < 200, "{small}");
    let uneven = bytes(&World::new(&[&with(A, "weight=1000"), B]));
    assert!((65537..65700).contains(&uneven), "{uneven}");
    let one_is_active = bytes(&World::new(&[A, &with(B, "standby")]));
    assert!(one_is_active < 100, "{one_is_active}");
}

#[test]
fn replicas_of_a_public_name_may_have_inside_names_of_their_own() {
    let world = World::new(&[
        "blue tcp - 192.168.50.1:20480 02:42:00:00:00:0a 10.0.0.1:80 public=203.0.113.9:80",
        "blue tcp - 192.168.50.2:20480 02:42:00:00:00:0b 10.0.0.2:80 public=203.0.113.9:80",
    ]);
    let guard = table::pin();
    let view = world.names.view(&guard);
    let service = view.public(Public(end("203.0.113.9", 80))).unwrap();
    assert!(service.is_replicated() && service.members().all(|b| b.is_public_shared() && !b.is_shared()));
    assert!(!view.service(NetworkId(0), Inside(end("10.0.0.1", 80))).unwrap().is_replicated());
}

#[test]
fn an_unhealthy_replica_gets_nothing_and_a_standby_comes_in_for_the_last_one() {
    let standby = with(C, "standby");
    let mut world = World::new(&[A, B, &standby]);
    world.judge(A, Health::Unhealthy);
    assert_eq!(world.servers(), ["192.168.50.2"]);
    world.judge(B, Health::Unhealthy);
    assert_eq!(world.servers(), ["192.168.50.3"], "no active one is left");
    assert!(!world.echoes(), "standing by is not being active");
    world.judge(&standby, Health::Unhealthy);
    assert!(world.servers().is_empty(), "better refused than lost");
    world.judge(A, Health::Healthy);
    assert_eq!(world.servers(), ["192.168.50.1"]);
    assert!(world.echoes());
    world.judge(A, Health::Unknown);
    assert_eq!(world.servers(), ["192.168.50.1"], "unknown is as good as healthy");
}

#[test]
fn a_change_of_health_is_a_change_set() {
    let mut world = World::new(&[A, B]);
    let (names, guard) = (Arc::clone(&world.names), table::pin());
    let before = names.view(&guard);
    world.judge(A, Health::Unhealthy);
    let health = |view: &View<'_>| {
        view.bindings().map(|binding| (view.server_of(binding).unwrap().ip.to_string(), binding.health())).collect()
    };
    let seen: Vec<(String, Health)> = health(&before);
    assert!(seen.iter().all(|(_, health)| *health == Health::Unknown), "a burst under way sees none of it");
    let after = names.view(&guard);
    assert_eq!(after.generation(), before.generation() + 1);
    let seen: Vec<(String, Health)> = health(&after);
    assert!(seen.contains(&("192.168.50.1".to_owned(), Health::Unhealthy)));
    world.judge(A, Health::Unhealthy);
    assert_eq!(names.view(&guard).generation(), after.generation(), "it is known already");

    let unheard_of = HealthReport::new(parse_key(C).unwrap(), Health::Unhealthy);
    let reports = [
        Located { line: 1, value: HealthReport::new(parse_key(B).unwrap(), Health::Unhealthy) },
        Located { line: 2, value: unheard_of },
    ];
    let clashes = world.writer.prepare_with_health(&[], &[], &reports).err().unwrap();
    assert_eq!((clashes.len(), clashes[0].binding.line), (1, 2));
    assert_eq!(world.servers(), ["192.168.50.2"], "all of it or nothing");
}

#[test]
fn health_stays_with_a_binding_until_it_moves() {
    let mut world = World::new(&[A, B]);
    world.judge(A, Health::Unhealthy);
    world.map(&[&with(A, "weight=7"), B]);
    assert_eq!(world.servers(), ["192.168.50.2"], "another weight makes nobody healthy");
    world.map(&[&A.replace("20480", "20490"), B]);
    assert_eq!(world.servers(), ["192.168.50.2"], "nor does another port");
    world.map(&[&A.replace("192.168.50.1", "192.168.50.9"), B]);
    assert_eq!(world.servers(), ["192.168.50.2", "192.168.50.9"], "there, nobody has looked yet");
    world.judge(A, Health::Unhealthy);
    world.map(&[B]);
    world.map(&[A, B]);
    assert_eq!(world.servers(), ["192.168.50.1", "192.168.50.2"], "it has come anew");
}

#[test]
fn the_only_binding_of_a_service_that_is_unhealthy_is_refused() {
    let mut world = World::new(&[A]);
    world.judge(A, Health::Unhealthy);
    assert!(world.servers().is_empty());
    world.map(&[A, B]);
    assert_eq!(world.servers(), ["192.168.50.2"]);
    world.judge(A, Health::Healthy);
    world.map(&[A]);
    assert_eq!(world.servers(), ["192.168.50.1"]);
}

#[test]
fn a_client_block_says_nothing_of_a_container_that_does_not_answer() {
    let block = "blue any - 192.168.50.1:20736-20991 02:42:00:00:00:0a 10.0.0.1:*";
    let ssh = "blue tcp - 192.168.50.1:20481 02:42:00:00:00:0a 10.0.0.1:22";
    let mut world = World::new(&[A, ssh, block]);
    world.judge(A, Health::Unhealthy);
    assert!(world.echoes(), "one of its services is alive");
    world.judge(ssh, Health::Unhealthy);
    assert!(!world.echoes());
    world.map(&[A, block]);
    assert!(!world.echoes());
    world.map(&[block]);
    assert!(world.echoes(), "what was ill of it is gone");
}
