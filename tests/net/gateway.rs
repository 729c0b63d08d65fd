//! Clients outside, and containers, reach services by their public names.

use std::net::{IpAddr, Ipv4Addr, TcpStream};

use crate::lab::capture::Capture;
use crate::lab::peers::{self, Greeter, Parrot, connect, greeting, says_back};
use crate::lab::{Lab, MAPPING, Member, OUTSIDE, SOON, until};

pub const WEB: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 80);
const MANY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 81);
/// The container that lives on a gateway and holds an address of the public prefix itself.
const EDGE: Member = Member {
    name: "edge",
    server: 6,
    network: "blue",
    mac: "02:42:0a:00:00:06",
    ip: Ipv4Addr::new(198, 51, 100, 6),
    local_ports: None,
};

/// `web` is published, `carol` and `dave` hold a public name together, and `edge` its own address.
fn mapping() -> String {
    let published = "\
blue   udp  02:00:00:00:00:02  192.168.50.2:20490        02:42:0a:00:00:0a  10.0.0.10:53       public=198.51.100.80:53
blue   tcp  02:00:00:00:00:01  192.168.50.1:20491        02:42:0a:00:00:03  10.0.0.20:443      public=198.51.100.81:443
blue   tcp  02:00:00:00:00:02  192.168.50.2:20491        02:42:0a:00:00:04  10.0.0.20:443      public=198.51.100.81:443
blue   udp  02:00:00:00:00:06  192.168.50.6:20492        02:42:0a:00:00:06  198.51.100.6:4500  public=198.51.100.6:4500
";
    MAPPING.replacen("10.0.0.10:80\n", "10.0.0.10:80  public=198.51.100.80:8000\n", 1) + published
}

pub fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.add_gateway(6);
    lab.add_gateway(7);
    lab.add_container(EDGE);
    for (place, ip) in [("carol", "10.0.0.20"), ("dave", "10.0.0.20")] {
        lab.at(place).ip(&format!("addr add {ip}/32 dev eth0"));
    }
    lab.set_mapping(&mapping());
    for server in [1, 2, 6, 7] {
        lab.start(server);
    }
    lab
}

/// Packets of a port that were forwarded.
fn forwarded(lab: &mut Lab, server: u8, port: &str) -> u64 {
    lab.engine(server).port(port)["forwarded"].as_u64().expect("a count")
}

/// The client's address is kept, nothing is added to its packets, and the answer leaves the server for the client
/// directly: the gateway sees one direction.
#[test]
fn a_client_outside_reaches_a_service_by_its_public_name() {
    let mut lab = lab();
    lab.route_public_by(&[6]);
    let web = Greeter::start(lab.at("web"), "web", 80);
    let wire = Capture::start(lab.at("wire"), "br0", "tcp");
    let mut stream = connect(lab.at("outside"), (WEB, 8000)).expect("web is published");
    assert_eq!(greeting(&mut stream), "I am web, you are 203.0.113.9");
    says_back(&mut stream, &[7; 50_000]).expect("both directions work");
    assert_eq!(web.seen(), [IpAddr::from(OUTSIDE)]);
    let request = wire.until("the request", |seen| seen.src == OUTSIDE);
    assert_eq!(request.dst, crate::lab::server_ip(2), "to the server by its wire name");
    let answer = wire.until("the answer", |seen| seen.dst == OUTSIDE);
    assert_eq!(answer.src, WEB, "from the server by the public name");
    assert!(forwarded(&mut lab, 6, "wan") > 5, "requests pass the gateway");
    assert_eq!(forwarded(&mut lab, 6, "uplink"), 0, "answers do not");
    let _parrot = Parrot::start(lab.at("web"), 53);
    assert!(peers::udp_echo(&peers::udp(lab.at("outside"), (WEB, 53)), b"a question", 3));
    for engine in [1, 2, 6] {
        assert_eq!(lab.engine(engine).dropped_but_multicast(), 0, "{}", lab.engine(engine).all_drops());
    }
}

/// A container on the gateway that holds the very address that is published.
#[test]
fn a_container_may_hold_the_public_address_itself() {
    let lab = lab();
    lab.route_public_by(&[6]);
    let parrot = Parrot::start(lab.at("edge"), 4500);
    let socket = peers::udp(lab.at("outside"), (EDGE.ip, 4500));
    assert!(peers::udp_echo(&socket, b"sealed", 3));
    assert_eq!(parrot.last().map(|from| from.ip()), Some(IpAddr::from(OUTSIDE)));
}

/// Public addresses answer echo at the gateway, while a replica is well.
#[test]
fn a_public_address_answers_echo_while_somebody_serves_there() {
    let mut lab = lab();
    lab.route_public_by(&[7]);
    lab.at("outside").run("ping", &["-c3", "-i0.01", "-W5", &WEB.to_string()]);
    let everybody = lab.mapping().lines().filter(|line| line.contains("public=198.51.100.80")).collect::<Vec<_>>();
    let drained = lab.mapping().replace(everybody[0], &format!("{} drain", everybody[0]));
    let drained = drained.replace(everybody[1], &format!("{} drain", everybody[1]));
    lab.set_mapping(&drained);
    lab.engine(7).signal(rustix::process::Signal::HUP);
    until("nobody serves there any more", SOON, || {
        let said = lab.at("outside").attempt("ping", &["-c1", "-W1", &WEB.to_string()]);
        said.contains("Unreachable").then_some(())
    });
}

/// A public address that the gateway's kernel has itself answers echo by the kernel, whether anybody serves there or not, and what is
/// published under it goes on; from the moment on at which the kernel has it, and as long as it does.
#[test]
fn the_kernel_answers_echo_for_its_own_addresses() {
    let mut lab = lab();
    lab.route_public_by(&[6]);
    let _web = Greeter::start(lab.at("web"), "web", 80);
    // A name that nobody serves: the engine calls its address unreachable.
    let idle = "198.51.100.90";
    let line = format!("blue tcp - 192.168.50.2:20495 02:42:0a:00:00:0a 10.0.0.10:90 public={idle}:90 drain\n");
    let mapping = lab.mapping().to_owned() + &line;
    lab.set_mapping(&mapping);
    lab.engine(6).signal(rustix::process::Signal::HUP);
    let said = |lab: &Lab, ip: &str| lab.at("outside").attempt("ping", &["-c1", "-W1", ip]);
    let by_engine = |lab: &Lab, ip: &str| said(lab, ip).contains("Unreachable").then_some(());
    let by_kernel = |lab: &Lab, ip: &str| said(lab, ip).contains(" 0% packet loss").then_some(());
    until("the engine answers", SOON, || by_engine(&lab, idle));
    for ip in [idle, &WEB.to_string()] {
        lab.at("s6").ip(&format!("addr add {ip}/32 dev lo"));
    }
    until("the kernel answers", SOON, || by_kernel(&lab, idle));
    let answered = |lab: &mut Lab| lab.engine(6).port("wan")["answers"]["echo"].as_u64().unwrap_or(0);
    let before = answered(&mut lab);
    lab.at("outside").run("ping", &["-c3", "-i0.01", "-W5", &WEB.to_string()]);
    assert_eq!(answered(&mut lab), before, "not by the engine");
    let mut stream = connect(lab.at("outside"), (WEB, 8000)).expect("what is published is reached as ever");
    assert_eq!(greeting(&mut stream), "I am web, you are 203.0.113.9");
    says_back(&mut stream, &[7; 50_000]).expect("both directions work");

    lab.engine(6).kill();
    lab.engine(6).start();
    until("an engine that starts knows it", SOON, || by_kernel(&lab, idle));
    lab.engine(6).take_over();
    assert!(by_kernel(&lab, idle).is_some(), "{}", said(&lab, idle));
    lab.at("s6").ip(&format!("addr del {idle}/32 dev lo"));
    until("the engine answers again", SOON, || by_engine(&lab, idle));
    says_back(&mut stream, &[7; 50_000]).expect("nothing of this has disturbed the connection");
}

/// Two gateways, without a word between them, carry the connections of two replicas. One is killed and comes back: a
/// connection that another gateway takes over stays on its replica.
#[test]
fn gateways_come_and_go_in_mid_connection() {
    let mut lab = lab();
    let replicas = [Greeter::start(lab.at("carol"), "carol", 443), Greeter::start(lab.at("dave"), "dave", 443)];
    let mut streams: Vec<(String, TcpStream)> = (0..24)
        .map(|_| {
            let mut stream = connect(lab.at("outside"), (MANY, 443)).expect("one of the replicas");
            (greeting(&mut stream), stream)
        })
        .collect();
    for (replica, name) in replicas.iter().zip(["carol", "dave"]) {
        let own = streams.iter().filter(|(greeting, _)| greeting.starts_with(&format!("I am {name}"))).count();
        assert_eq!(replica.seen().len(), own);
        assert!(own > 3, "the hash gives {name} {own} of 24");
    }
    let mut all_go_on = |when: &str| {
        for (greeting, stream) in &mut streams {
            says_back(stream, &[3; 5000]).unwrap_or_else(|error| panic!("{when}: {greeting}: {error}"));
        }
    };
    all_go_on("both gateways");
    lab.engine(6).kill();
    lab.route_public_by(&[7]);
    all_go_on("the first one was killed");
    lab.engine(6).start();
    lab.route_public_by(&[6]);
    all_go_on("it is back, and the only one");
    lab.engine(7).kill();
    lab.engine(7).start();
    lab.route_public_by(&[6, 7]);
    all_go_on("both again");
    for gateway in [6, 7] {
        assert!(forwarded(&mut lab, gateway, "wan") > 0, "both are in use");
    }
}

/// A container calls a public name: straight to the replica, though no gateway runs, and it hears from the name that it
/// called. So do containers of other tenants.
#[test]
fn containers_call_public_names_without_a_gateway() {
    let mut lab = Lab::new();
    lab.set_mapping(&mapping());
    lab.start(1);
    lab.start(2);
    let _web = Greeter::start(lab.at("web"), "web", 80);
    for (caller, seen) in [("alice", "10.0.0.1"), ("carol", "10.0.0.3"), ("bob", "192.168.50.1")] {
        let mut stream = connect(lab.at(caller), (WEB, 8000)).unwrap_or_else(|error| panic!("{caller}: {error}"));
        assert_eq!(greeting(&mut stream), format!("I am web, you are {seen}"));
        assert_eq!(stream.peer_addr().unwrap().ip(), IpAddr::from(WEB));
        says_back(&mut stream, &[5; 50_000]).unwrap_or_else(|error| panic!("{caller}: {error}"));
        lab.at(caller).run("ping", &["-c1", "-W5", &WEB.to_string()]);
    }
}
