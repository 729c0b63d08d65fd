//! Memory of the mapping over many changes. In a process of its own: a reader that another test pins would hold up what
//! is measured here.

use std::sync::Arc;

use sixway::naming::{BindingKey, BindingSpec, Located, Names, NamesWriter, Network, Networks, parse_mapping};
use sixway::table;
use sixway::units::PortRange;

const CONTAINERS: usize = 200;
const ROUNDS: usize = 50;

/// A container's two services and its client block, on one of nine servers of which one is ours. `turn` says which server
/// ports the services have.
fn container(n: usize, turn: usize) -> String {
    let (server, port, ip) = (n % 9 + 1, 20480 + n / 9 * 4 + turn % 2 * 2, format!("10.0.{}.{}", n / 100, n % 100));
    let block = 32768 + n / 9 * 64;
    format!(
        "blue tcp - 192.168.50.{server}:{port} - {ip}:80\n\
         blue udp - 192.168.50.{server}:{} - {ip}:53\n\
         blue any - 192.168.50.{server}:{block}-{} - {ip}:*\n",
        port + 1,
        block + 63
    )
}

fn bindings(containers: impl Iterator<Item = usize>, turn: usize) -> Vec<Located<BindingSpec>> {
    parse_mapping(containers.map(|n| container(n, turn)).collect::<String>()).expect("a mapping")
}

fn keys(bindings: &[Located<BindingSpec>]) -> Vec<Located<BindingKey>> {
    bindings.iter().map(|spec| Located { line: spec.line, value: spec.value.key() }).collect()
}

/// Every container goes, comes back at other server ports, and is moved, a tenth of them at a time.
fn round(writer: &mut NamesWriter, turn: usize) {
    for tenth in 0..10 {
        let some = || (0..CONTAINERS).filter(|n| n % 10 == tenth);
        writer.apply(&[], &keys(&bindings(some(), turn))).expect("they are there");
        writer.apply(&bindings(some(), turn + 1), &[]).expect("they come back");
        for n in some() {
            writer.apply(&bindings([n].into_iter(), turn), &[]).expect("it moves");
            writer.apply(&bindings([n].into_iter(), turn + 1), &[]).expect("and back");
        }
        drop(table::pin()); // a reader that comes and goes
    }
    // One that is refused leaves nothing behind either.
    let mut clash = bindings([0, 1].into_iter(), turn);
    clash[3].value.server_ip = clash[0].value.server_ip;
    clash[3].value.wire = clash[0].value.wire;
    writer.apply(&clash, &[]).expect_err("two services of one wire name");
}

fn settled(names: &Names, writer: &mut NamesWriter) -> (usize, usize) {
    while writer.unreclaimed() > 0 {
        writer.reclaim();
    }
    (names.records(), names.memory_bytes())
}

#[test]
fn records_and_memory_return_to_where_they_were() {
    let network = Network { name: "blue".to_owned(), ..Network::default() };
    let networks = Arc::new(Networks::new(vec![network], &[]).expect("one network"));
    let owned = PortRange { first: 20480, last: 59903 };
    let (names, mut writer) = Names::new(networks, &["192.168.50.1".parse().expect("an address")], owned);
    let empty = names.records();
    writer.replace(&bindings(0..CONTAINERS, 0)).expect("a mapping");
    round(&mut writer, 0);
    let before = settled(&names, &mut writer);
    assert_eq!(before.0 - empty, CONTAINERS * 4 + 8, "three bindings and a container each, and eight servers");
    for turn in 1..=ROUNDS {
        round(&mut writer, turn);
    }
    assert_eq!(settled(&names, &mut writer), before, "{} places", names.places());

    writer.replace(&[]).expect("nothing");
    let (records, _) = settled(&names, &mut writer);
    assert_eq!(records, empty);
    writer.replace(&bindings(0..CONTAINERS, 0)).expect("the mapping again");
    assert_eq!(settled(&names, &mut writer), before, "in the places of old");
}
