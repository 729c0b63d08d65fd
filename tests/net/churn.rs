//! An hour's worth of changes in a few seconds: nothing grows.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use aya::maps::{HashMap, Map, MapData};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::lab::api::post;
use crate::lab::raw::Random;
use crate::lab::traffic::Traffic;
use crate::lab::vitals::{Vitals, until_closed};

const CLIENTS: usize = 4;
/// Containers of each client.
const CONTAINERS: usize = 60;
/// `control/changes/history.rs` says how many.
const KEPT_FOR_WATCHERS: usize = 66_000;
const MIB: u64 = 1 << 20;
/// The journal is replaced once it has doubled, and is longer than 4 MiB. Another is written meanwhile.
const MOST_JOURNAL: u64 = 12 * MIB;

/// Ten changes a second for an hour, by four clients as fast as they are answered: bindings come, go, move, get other
/// weights, drain and stand by; services have one replica or several, some here, some elsewhere. Every quarter of the way all
/// of them are taken away, and the engine has as many records, descriptors and claims as ever, its memory has not grown since
/// the first time, and the journal is short. `SIXWAY_CHANGES` says how many. Before, as many changes are made as watchers can
/// ask for later: what is kept for them grows until then.
#[test]
fn an_hour_of_changes_leaves_nothing_behind() {
    const ROUNDS: usize = 4;
    let changes: usize = std::env::var("SIXWAY_CHANGES").map_or(36_000, |number| number.parse().expect("a number"));
    let mut lab = Lab::running();
    let mut traffic = Traffic::start(&mut lab);
    let socket = lab.engine(1).socket();
    let empty = Vitals::after_a_change(lab.engine(1));
    let claimed = claims(&lab);
    let began = Instant::now();
    let mut after_each = Vec::new();
    for round in 0..=ROUNDS {
        let changes = if round == 0 { KEPT_FOR_WATCHERS } else { changes / ROUNDS };
        let done: usize = std::thread::scope(|scope| {
            let socket = &socket;
            let client = |nth| scope.spawn(move || change(socket, nth, round, changes / CLIENTS));
            let clients: Vec<_> = (0..CLIENTS).map(client).collect();
            clients.into_iter().map(|client| client.join().expect("no answer but 200")).sum()
        });
        until_closed(lab.engine(1), &empty);
        let vitals = Vitals::settled(lab.engine(1));
        println!("{:.1?}: {done} changes more, {vitals:?}", began.elapsed());
        assert_eq!((vitals.bindings, vitals.records), (empty.bindings, empty.records), "all is as it was");
        assert_eq!(claims(&lab), claimed);
        assert!(vitals.journal_bytes < MOST_JOURNAL && on_disk(&lab) < 2 * MOST_JOURNAL, "{} on disk", on_disk(&lab));
        assert!(vitals.grace_periods > empty.grace_periods, "workers let go of what is replaced");
        after_each.push(vitals);
    }
    // The first round after what is kept for watchers has grown to its end.
    let (first, last) = (after_each[1], after_each[ROUNDS]);
    assert_eq!(last.open_files, first.open_files);
    // Buckets double where more happened to be retired at once than ever before; what is resident says that it is rare.
    assert!(last.table_bytes <= first.table_bytes + (64 << 10), "{first:?}, {last:?}");
    assert!(last.resident_bytes <= first.resident_bytes + 2 * MIB, "{first:?}, {last:?}");
    let quarantine = lab.engine(1).get("/v1/status")["quarantine"].clone();
    println!("{} names rest", quarantine.as_array().map_or(0, Vec::len));
    traffic.has_lost_nothing(&mut lab);
}

/// Makes so many changes, in change sets of one to forty, and takes away in the end what is left.
fn change(socket: &Path, client: usize, round: usize, changes: usize) -> usize {
    let mut stream = UnixStream::connect(socket).expect("the control socket");
    let mut random = Random(1 + (round * CLIENTS + client) as u64);
    // By the key of what is there.
    let mut there: BTreeMap<(usize, u16), Value> = BTreeMap::new();
    let mut done = 0;
    while done < changes {
        let (mut puts, mut deletes) = (BTreeMap::new(), Vec::new());
        for _ in 0..1 + random.below(40) {
            let (n, inside) = (random.below(CONTAINERS), [80, 81, 0][random.below(3)]);
            if puts.contains_key(&(n, inside)) {
                continue;
            }
            match there.remove(&(n, inside)) {
                Some(binding) if random.below(3) == 0 => deletes.push(key(&binding)),
                _ => _ = puts.insert((n, inside), binding(&mut random, client, n, inside)),
            }
        }
        done += puts.len() + deletes.len();
        let put: Vec<&Value> = puts.values().collect();
        // Names change hands all the time here: their rest is not what this is about.
        let (status, answer) =
            post(&mut stream, &json!({"put": put, "delete": deletes, "force": true})).expect("an answer");
        assert_eq!(status, 200, "{answer}");
        there.append(&mut puts);
    }
    let rest: Vec<Value> = there.values().map(key).collect();
    let (status, answer) = post(&mut stream, &json!({"delete": rest, "force": true})).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    done + rest.len()
}

/// A binding of the container `n` of a client: at 80 and 81 services, 0 stands for a protocol without ports. Three containers
/// share each address.
fn binding(random: &mut Random, client: usize, n: usize, inside: u16) -> Value {
    let mac = format!("02:42:0a:20:{client:02x}:{n:02x}");
    let ip = format!("10.{}.0.{}", 32 + client, n / 3 + 1);
    if inside == 0 {
        // One for each protocol and ServerIP, so that only one container of each client has one here.
        let proto = ["esp", "ah", "gre", "sctp"][client];
        let server = if n == 0 { "192.168.50.1".to_owned() } else { format!("192.168.{}.{n}", 70 + client) };
        return json!({
            "network": "blue", "proto": proto, "server": {"ip": server},
            "container": {"mac": mac, "ip": format!("10.{}.1.{}", 32 + client, n + 1)},
        });
    }
    // Ports of its own wherever it is: 0 to 3 is how often it has moved.
    let port = 22_000 + client * 600 + n * 8 + usize::from(inside - 80) * 4 + random.below(4);
    let server = ["192.168.50.1", "192.168.50.2", "192.168.60.1"][random.below(3)];
    let (standby, drain) = (random.below(6) == 0, random.below(6) == 0);
    json!({
        "network": "blue", "proto": "tcp", "server": {"ip": server, "port": port},
        "container": {"mac": mac, "ip": ip, "port": inside},
        "weight": 1 + random.below(3), "standby": standby, "drain": drain,
    })
}

fn key(binding: &Value) -> Value {
    json!({"network": binding["network"], "proto": binding["proto"], "container": binding["container"]})
}

/// What the uplink's program of s1 claims, by table: the kernel's own answer.
fn claims(lab: &Lab) -> Vec<(String, usize)> {
    let pins = lab.dir().join("s1/bpf");
    let mut found = Vec::new();
    let mut directories = vec![pins];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a bpffs").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                directories.push(path);
            } else if name == "portless" {
                let map = Map::HashMap(MapData::from_pin(&path).expect("a map"));
                let map: HashMap<_, [u8; 20], u32> = map.try_into().expect("a hash");
                found.push((path.display().to_string(), map.keys().count()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "the uplink's program is pinned");
    found
}

/// Bytes of all that has the journal's name.
fn on_disk(lab: &Lab) -> u64 {
    let files = std::fs::read_dir(lab.dir().join("s1")).expect("the lab's directory").flatten();
    let journals = files.filter(|file| file.file_name().to_string_lossy().starts_with("journal"));
    journals.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}
