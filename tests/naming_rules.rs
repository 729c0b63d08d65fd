//! Every rule between bindings: two lines, and what is said about them.

use std::sync::Arc;

use sixway::naming::{
    BindingKey, Clash, Inside, Located, Names, NamesWriter, Network, Networks, Rule, Wire, locate, parse_mapping,
};
use sixway::table;
use sixway::units::{Endpoint, Ip, Mac, NetworkId, PortId, PortRange, Proto};

const BLUE: NetworkId = NetworkId(0);
/// The MAC that a container has shown.
const SHOWN: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn tables() -> (Arc<Names>, NamesWriter) {
    let named = |name: &str| Network { name: name.to_owned(), ..Network::default() };
    let networks = Networks::new(vec![named("blue"), named("red")], &[]).unwrap();
    Names::new(Arc::new(networks), &[ip("192.168.50.1")], PortRange { first: 20480, last: 59903 })
}

fn ip(text: &str) -> Ip {
    text.parse().unwrap()
}

fn load(text: &str) -> Result<(Arc<Names>, NamesWriter), Vec<Clash>> {
    let (names, mut writer) = tables();
    writer.replace(&parse_mapping(text).unwrap()).map(|_| (names, writer))
}

#[test]
fn every_rule_names_both_lines() {
    use Rule::*;
    let cases = [
        // One wire name for two.
        (WireOverlap, "blue tcp - 1.1.1.1:20480 - 10.0.0.1:80", "red tcp - 1.1.1.1:20480 - 10.0.0.2:80"),
        // A service in a block, which goes in first whatever the order.
        (WireOverlap, "blue any - 1.1.1.1:20736-20991 - 10.0.0.1:*", "blue tcp - 1.1.1.1:20800 - 10.0.0.2:80"),
        // `any` overlaps each protocol.
        (WireOverlap, "blue any - 1.1.1.1:20480 - 10.0.0.1:80", "blue icmp - 1.1.1.1:20480 - 10.0.0.2:80"),
        // A block in a block.
        (WireOverlap, "blue any - 1.1.1.1:20736-20991 - 10.0.0.1:*", "red udp - 1.1.1.1:20800-20831 - 10.0.0.2:*"),
        // A portless protocol has one binding a server.
        (WireOverlap, "blue esp - 1.1.1.1 - 10.0.0.1", "red esp - 1.1.1.1 - 10.0.0.1"),
        (SameIdentity, "blue tcp - 1.1.1.1:20480 - 10.0.0.1:80", "blue tcp - 1.1.1.1:20481 - 10.0.0.1:80"),
        // An id stands in for the MAC.
        (
            SameIdentity,
            "blue tcp - 1.1.1.1:20480 02:00:00:00:00:01 10.0.0.1:80 id=a",
            "blue tcp - 1.1.1.1:20481 02:00:00:00:00:02 10.0.0.1:80 id=a",
        ),
        (
            InsideOverlap,
            "blue any - 1.1.1.1:20736-20991 02:00:00:00:00:01 10.0.0.1:*",
            "blue any - 2.2.2.2:20736-20991 02:00:00:00:00:02   10.0.0.1:*",
        ),
        (
            InsideOverlap,
            "blue any - 1.1.1.1:20736-20991 02:00:00:00:00:01 10.0.0.1:*",
            "blue udp - 2.2.2.2:21000-21007 02:00:00:00:00:02 10.0.0.1:20800-20807",
        ),
        (
            ServiceInBlock,
            "blue any - 1.1.1.1:20736-20991 02:00:00:00:00:01 10.0.0.1:*",
            "blue tcp - 2.2.2.2:20480 02:00:00:00:00:02 10.0.0.1:20800",
        ),
        (
            ServiceInNative,
            "blue any - 1.1.1.1:20736-20991 - 10.0.0.1:* native",
            "blue tcp - 2.2.2.2:20480 - 10.0.0.1:20800",
        ),
        (
            PublicTaken,
            "blue tcp - 1.1.1.1:20480 - 10.0.0.1:80 public=9.9.9.9",
            "red tcp - 1.1.1.1:20481 - 10.0.0.1:443 public=9.9.9.9:80",
        ),
    ];
    for (rule, first, second) in cases {
        // In either order, and as two change sets: the larger block may come later than what lies in it.
        for swapped in [false, true] {
            let text = if swapped { format!("{second}\n\n{first}") } else { format!("{first}\n\n{second}") };
            let clashes = load(&text).err().unwrap_or_else(|| panic!("accepted:\n{text}"));
            let [clash] = &clashes[..] else { panic!("{text}\n{clashes:?}") };
            assert_eq!(clash.rule, rule, "{text}\n{clash}");
            let other = clash.other.as_ref().expect("the other line").line;
            let mut lines = [clash.binding.line, other];
            lines.sort_unstable();
            assert_eq!(lines, [1, 3], "{text}");
            let mistake = locate(text.as_bytes(), clash);
            assert!(mistake.message.contains(&format!("line {other}: ")), "{mistake}");
            let blamed = match rule {
                WireOverlap => 3,
                PublicTaken => 6,
                _ => 5,
            };
            let line = text.lines().nth(clash.binding.line as usize - 1).unwrap();
            let word = line.split_whitespace().nth(blamed).unwrap();
            assert_eq!(&line[mistake.column as usize - 1..][..mistake.len as usize], word, "{text}\n{mistake}");

            let (one, two) = if swapped { (second, first) } else { (first, second) };
            let (_names, mut writer) = load(one).unwrap();
            let clashes = writer.apply(&parse_mapping(two).unwrap(), &[]);
            // A put of the identity that is there is no clash, but its replacement.
            if rule == SameIdentity {
                assert_eq!(clashes.unwrap().replaced, 1);
            } else {
                let clashes = clashes.expect_err(two);
                assert_eq!((clashes.len(), clashes[0].rule), (1, rule), "{one}\n{two}");
                assert_eq!(clashes[0].other.as_ref().map(|other| other.line), Some(0));
            }
        }
    }
}

#[test]
fn what_is_apart_is_accepted() {
    let text = "\
blue tcp - 1.1.1.1:20480 - 10.0.0.1:80
blue udp - 1.1.1.1:20480 - 10.0.0.1:80
red tcp - 2.2.2.2:20480 - 10.0.0.1:80
# its own service port within a block that is not native
blue any - 1.1.1.1:20736-20991 - 10.0.0.1:*
blue tcp - 1.1.1.1:20481 - 10.0.0.1:20800
# the same numbers in another network, and of another address
red any - 2.2.2.2:20736-20991 - 10.0.0.1:* native
blue any - 2.2.2.2:20992-21247 - 10.0.0.2:20736-20991 native
# several containers of one address: ranges of their own
blue any - 2.2.2.2:21248-21503 02:00:00:00:00:01 10.0.0.2:*
blue any - 2.2.2.2:21504-21759 02:00:00:00:00:01 10.0.0.2:* id=a
# several replicas of one public service, in one network
blue tcp - 1.1.1.1:22000 02:00:00:00:00:01 10.0.0.3:80 public=9.9.9.9:80
blue tcp - 1.1.1.1:22001 02:00:00:00:00:01 10.0.0.4:8080 public=9.9.9.9:80
";
    let clashes = load(text).err();
    assert_eq!(clashes, None);
}

#[test]
fn the_configuration_is_kept_too() {
    let text = "green tcp - 1.1.1.1:20480 - 10.0.0.1:80\nblue tcp - 1.1.1.1:80 - 10.0.0.1:80\n\
                blue any - 1.1.1.1:60160-60415 - 10.0.0.1:*\n";
    let clashes = load(text).err().unwrap();
    let said: Vec<String> = clashes.iter().map(|clash| locate(text.as_bytes(), clash).to_string()).collect();
    assert_eq!(
        said,
        [
            "1:1: network `green` is not configured: add a [[network]] of that name",
            "2:12: server port 80 is outside the owned range 20480-59903 ([server] ports): choose from it",
            "3:12: server ports 60160-60415 are outside the owned range 20480-59903 ([server] ports): choose from it",
        ]
    );
}

#[test]
fn a_refused_change_set_changes_nothing() {
    let (names, mut writer) = load("blue tcp - 1.1.1.1:20480 - 10.0.0.1:80\n").unwrap();
    let before = { names.view(&table::pin()).generation() };
    let puts =
        parse_mapping("blue tcp - 1.1.1.1:20481 - 10.0.0.1:81\nred tcp - 1.1.1.1:20480 - 10.0.0.1:80\n").unwrap();
    assert!(writer.apply(&puts, &[]).is_err());
    let guard = table::pin();
    let view = names.view(&guard);
    assert_eq!((view.generation(), names.len()), (before, 1));
    assert!(view.service(BLUE, Inside(Endpoint { proto: Proto::TCP, ip: ip("10.0.0.1"), port: 81 })).is_none());
    assert_eq!(
        writer.replace(&parse_mapping("blue tcp - 1.1.1.1:20480 - 10.0.0.1:80").unwrap()).unwrap().generation,
        before
    );
}

/// A change set that was prepared can be looked at from both sides, and is gone without a trace if it is not committed.
#[test]
fn a_prepared_change_set_is_seen_by_nobody_until_its_commit() {
    let web = "blue tcp - 192.168.50.1:20480 02:00:00:00:00:01 10.0.0.1:80\n";
    let moved = "blue tcp - 192.168.50.1:20481 02:00:00:00:00:01 10.0.0.1:80 public=9.9.9.9\n";
    let (names, mut writer) = load(web).unwrap();
    let new = Wire(Endpoint { proto: Proto::TCP, ip: ip("192.168.50.1"), port: 20481 });
    let puts = parse_mapping(moved).unwrap();
    for is_committed in [false, true] {
        let guard = table::pin();
        let before = names.view(&guard);
        let prepared = writer.prepare(&puts, &[]).unwrap();
        assert!(prepared.current(&guard).inner(new).is_none() && names.view(&guard).inner(new).is_none());
        assert!(prepared.view(&guard).inner(new).is_some());
        assert_eq!(prepared.gone(&table::pin()).map(|gone| gone.to_string()).collect::<Vec<_>>(), [web.trim()]);
        assert_eq!(prepared.put().map(|put| &puts[0].value == put).collect::<Vec<_>>(), [true]);
        assert_eq!(prepared.change().published, [Endpoint { proto: Proto::TCP, ip: ip("9.9.9.9"), port: 80 }]);
        if is_committed {
            let change = prepared.commit();
            assert_eq!((change.generation, change.replaced), (before.generation() + 1, 1));
        } else {
            drop(prepared);
            assert_eq!(names.view(&guard).generation(), before.generation());
        }
        assert_eq!((names.view(&guard).inner(new).is_some(), names.len()), (is_committed, 1));
        assert_eq!(writer.containers_here().count(), 1);
    }
}

/// A gateway must know which servers there are, and which names without ports are published.
#[test]
fn a_change_set_tells_the_servers_and_the_portless_names_that_it_touches() {
    let (names, mut writer) = load("blue tcp - 192.168.50.2:20480 02:00:00:00:00:01 10.0.0.1:80\n").unwrap();
    let portless = |proto, server| Endpoint { proto, ip: ip(server), port: 0 };
    let puts = parse_mapping(
        "blue gre - 192.168.50.3 02:00:00:00:00:02 10.0.0.2 public=9.9.9.9\n\
         blue esp - 192.168.50.4 02:00:00:00:00:03 10.0.0.3\n\
         blue esp - 192.168.50.1 02:00:00:00:00:04 10.0.0.4\n",
    )
    .unwrap();
    let change = writer.prepare(&puts, &[]).unwrap().commit();
    assert_eq!(change.servers, [ip("192.168.50.1"), ip("192.168.50.3"), ip("192.168.50.4")]);
    let touched = [portless(Proto::ESP, "192.168.50.1"), portless(Proto::GRE, "192.168.50.3")];
    assert_eq!(change.portless.len(), 2, "{:?}", change.portless);
    assert!(touched.iter().all(|name| change.portless.contains(name)), "{:?}", change.portless);

    // The last binding of one goes, and the server with it.
    let change = writer.replace(&puts).unwrap();
    assert_eq!((change.servers, change.portless), (vec![ip("192.168.50.2")], vec![]));
    assert!(names.view(&table::pin()).server(ip("192.168.50.2")).is_none());
}

/// What a container, a server and a public address are counted for is as before when their last binding was to go and
/// stays: they live as long as any binding names them.
#[test]
fn what_an_uncommitted_change_set_ended_lives_as_long_as_its_bindings() {
    let web = "blue tcp - 2.2.2.2:20480 02:00:00:00:00:01 10.0.0.1:80 public=9.9.9.9";
    let (names, mut writer) = load(web).unwrap();
    let key = |line: &str| [Located { line: 1, value: parse_mapping(line).unwrap()[0].value.key() }];
    drop(writer.prepare(&[], &key(web)).unwrap());
    let second = "blue tcp - 2.2.2.2:20481 02:00:00:00:00:01 10.0.0.1:81 public=9.9.9.9";
    writer.apply(&parse_mapping(second).unwrap(), &[]).unwrap();
    writer.apply(&[], &key(second)).unwrap();
    let guard = table::pin();
    let view = names.view(&guard);
    let lines: Vec<String> = view.bindings().filter_map(|binding| Some(view.spec(binding)?.to_string())).collect();
    assert_eq!(lines, [format!("{web}:80")]);
    writer.apply(&[], &key(web)).unwrap();
    assert_eq!((names.len(), names.view(&table::pin()).all_containers().count()), (0, 0));
}

#[test]
fn a_star_block_is_moved_and_deleted_by_its_star() {
    let (names, mut writer) = load("blue any - 192.168.50.1:20736-20991 - 10.0.0.1:*").unwrap();
    let moved = parse_mapping("blue any - 2.2.2.2:30208-30463 - 10.0.0.1:*").unwrap();
    let change = writer.apply(&moved, &[]).unwrap();
    assert_eq!((change.replaced, names.len()), (1, 1));
    assert!(
        change
            .owners
            .iter()
            .all(|change| change.now.is_none() && change.ports == PortRange { first: 20736, last: 20991 })
    );
    assert_eq!(change.owners.len(), 3, "tcp, udp and icmp");
    let key: BindingKey =
        serde_json::from_str(r#"{"network":"blue","proto":"any","container":{"ip":"10.0.0.1","port":"*"}}"#).unwrap();
    let key = Located { line: 1, value: key };
    assert_eq!(writer.apply(&[], std::slice::from_ref(&key)).unwrap().removed, 1);
    assert_eq!(writer.apply(&[], &[key]).unwrap_err()[0].rule, Rule::NoSuchBinding);
}

/// Who holds a container is learned from packets: it must outlive changes of its bindings.
#[test]
fn a_container_that_moves_stays_the_same_record_and_owner() {
    let (names, mut writer) = load("blue tcp - 192.168.50.1:20480 02:00:00:00:00:01 10.0.0.1:80").unwrap();
    let sender = |names: &Names| {
        let guard = table::pin();
        let view = names.view(&guard);
        let (_, container) = view.sender(BLUE, Mac([2, 0, 0, 0, 0, 1]), ip("10.0.0.1"), None).unwrap();
        (container.hold(PortId(7), SHOWN), container.identity())
    };
    let before = sender(&names);
    let puts = parse_mapping("blue tcp - 192.168.50.1:20481 02:00:00:00:00:01 10.0.0.1:80").unwrap();
    let change = writer.apply(&puts, &[]).unwrap();
    assert_eq!(sender(&names), before);
    assert_eq!(change.owners.len(), 2, "one name lost, one gained");
    let guard = table::pin();
    let (_, container) = names.view(&guard).sender(BLUE, Mac([2, 0, 0, 0, 0, 1]), ip("10.0.0.1"), None).unwrap();
    let held = Some((PortId(7), SHOWN));
    let held_by = || container.held_by().map(|held| (held.port(), held.mac()));
    assert_eq!((held_by(), container.hold(PortId(8), SHOWN)), (held, false));
    container.release(PortId(8));
    assert_eq!(held_by(), held, "only its holder lets go");
    container.release(PortId(7));
    assert_eq!(held_by(), None);
}
