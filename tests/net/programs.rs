//! The same programs everywhere: each of [`PROGRAMS`] over each of [`crossings`], from inside to inside, from inside to the
//! outside and from outside to inside, IPv4 and IPv6. Neither end of any of them knows of sixway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::lab::dual::{OUTSIDE6, address, six_of};
use crate::lab::namespace::Namespace;
use crate::lab::programs::{Download, iperf};
use crate::lab::services::{DNS_ADDRESS, DNS_TEXTS, PORTS, Services, TUNNEL};
use crate::lab::{Lab, Member, OUTSIDE, tunnel};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 80));
const PUBLIC6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x80));
/// A client that holds a public address, as FTP's active mode needs it: the address is told within the connection.
const EDGE: Member = Member {
    name: "edge",
    server: 1,
    network: "blue",
    mac: "02:42:0a:00:00:06",
    ip: Ipv4Addr::new(198, 51, 100, 6),
    local_ports: None,
};
const EDGE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 6);
/// The ports of its control and data connections, IPv4 and IPv6: what has closed keeps its port for a while.
const EDGE_PORTS: [u16; 4] = [40021, 40020, 40023, 40022];

/// Who calls what, by which address.
#[derive(Clone, Copy, Debug)]
struct Crossing {
    name: &'static str,
    client: &'static str,
    to: IpAddr,
}

fn crossings() -> [Crossing; 6] {
    let crossing = |name, client, to| Crossing { name, client, to };
    [
        crossing("inside to inside", "carol", WEB.into()),
        crossing("inside to outside", "carol", OUTSIDE.into()),
        crossing("outside to inside", "outside", PUBLIC),
        crossing("inside to inside, IPv6", "carol", six_of(WEB).into()),
        crossing("inside to outside, IPv6", "carol", OUTSIDE6.into()),
        crossing("outside to inside, IPv6", "outside", PUBLIC6),
    ]
}

/// What a program is run with.
struct Run<'a> {
    place: &'a Namespace,
    to: IpAddr,
    server: &'a Services,
    /// A directory for what it writes.
    dir: &'a std::path::Path,
}

impl Run<'_> {
    fn socket(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.to, port)
    }

    fn program(&self, name: &str, arguments: &[&str]) -> String {
        self.place.run(name, arguments)
    }
}

type Program = fn(&Run<'_>);

/// Each program by its name. Another one is a line here, and its server one in `lab::services`.
const PROGRAMS: [(&str, Program); 10] = [
    ("iperf3, TCP", iperf_tcp),
    ("iperf3, UDP", iperf_udp),
    ("curl from nginx", curl),
    ("ssh", ssh),
    ("dig, UDP", dns_by_udp),
    ("dig, UDP in fragments", dns_in_fragments),
    ("dig, TCP", dns_by_tcp),
    ("sipp", sip),
    ("datagrams of QUIC's sizes", quic_sized),
    ("a tunnel that roams", roaming_tunnel),
];

fn mapping() -> String {
    let mut text = String::from(
        "blue any - 192.168.50.1:32768-40959 02:42:0a:00:00:01 10.0.0.1:* native\n\
         blue any - [fd50::1]:32768-40959 02:42:0a:00:00:01 [fd10::1]:* native\n\
         blue any - 192.168.50.1:49152-57343 02:42:0a:00:00:03 10.0.0.3:*\n\
         blue any - [fd50::1]:49152-57343 02:42:0a:00:00:03 [fd10::3]:*\n\
         blue any - 192.168.50.2:32768-33791 02:42:0a:00:00:0a 10.0.0.10:*\n\
         blue any - [fd50::2]:32768-33791 02:42:0a:00:00:0a [fd10::a]:*\n",
    );
    for (wire, (proto, port)) in (20500u16..).zip(PORTS) {
        text += &format!(
            "blue {proto} - 192.168.50.2:{wire} 02:42:0a:00:00:0a {WEB}:{port} public={PUBLIC}:{port}\n\
             blue {proto} - [fd50::2]:{wire} 02:42:0a:00:00:0a [{}]:{port} public=[{PUBLIC6}]:{port}\n",
            six_of(WEB)
        );
    }
    for (wire, port) in (20600u16..).zip(EDGE_PORTS) {
        let Member { mac, ip, .. } = EDGE;
        text += &format!(
            "blue tcp - 192.168.50.1:{wire} {mac} {ip}:{port} public={ip}:{port}\n\
             blue tcp - [fd50::1]:{wire} {mac} [{EDGE6}]:{port} public=[{EDGE6}]:{port}\n"
        );
    }
    text
}

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.add_gateway(6);
    lab.add_container(EDGE);
    lab.add_ipv6();
    let edge = lab.at("edge");
    address(edge, "eth0", &format!("{EDGE6}/128"));
    edge.ip("route add default via fe80::1 dev eth0");
    lab.set_mapping(&mapping());
    for server in [1, 2, 6] {
        lab.start(server);
    }
    lab
}

#[test]
fn the_same_programs_work_everywhere() {
    let mut lab = lab();
    let (inside, outside) = servers(&lab);
    let mut failed = Vec::new();
    for (program, run) in PROGRAMS {
        for Crossing { name, client, to } in crossings() {
            let server = if name.starts_with("inside to outside") { &outside } else { &inside };
            let run_with = Run { place: lab.at(client), to, server, dir: lab.dir() };
            let began = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| run(&run_with)));
            println!("{program}, {name}: {} ms", began.elapsed().as_millis());
            if outcome.is_err() {
                failed.push(format!("{program}, {name}"));
            }
        }
    }
    let drops = [1, 2, 6].map(|server| lab.engine(server).all_drops());
    assert!(failed.is_empty(), "{failed:#?}\n{drops:#?}");
}

/// Servers at `web` and at the host outside.
fn servers(lab: &Lab) -> (Services, Services) {
    let inside = Services::start(lab, "web", [WEB.into(), six_of(WEB).into()]);
    let outside = Services::start(lab, "outside", [OUTSIDE.into(), OUTSIDE6.into()]);
    (inside, outside)
}

fn iperf_tcp(run: &Run<'_>) {
    for direction in [&[][..], &["-R"]] {
        let report = iperf(run.place, &[&["-c", &run.to.to_string(), "-n", "8M", "-P", "2"], direction].concat());
        assert!(report["error"].is_null(), "{direction:?}: {report}");
        let bytes = report["end"]["sum_sent"]["bytes"].as_u64().expect("a count");
        assert!(bytes >= 8 << 20, "{direction:?}: {bytes} bytes");
    }
}

fn iperf_udp(run: &Run<'_>) {
    for direction in [&[][..], &["-R"]] {
        let report = iperf(
            run.place,
            &[&["-u", "-c", &run.to.to_string(), "-n", "1M", "-b", "40M", "-l", "1200"], direction].concat(),
        );
        assert!(report["error"].is_null(), "{direction:?}: {report}");
        let sum = &report["end"]["sum"];
        let (lost, sent) = (sum["lost_packets"].as_u64().expect("a count"), sum["packets"].as_u64().expect("a count"));
        assert!(sent > 800 && lost * 100 <= sent, "{direction:?}: {lost} of {sent} lost");
    }
}

fn curl(run: &Run<'_>) {
    let sum = Download::start(run.place, &format!("http://{}/file", run.socket(80))).finish(|_| ());
    assert_eq!(sum, run.server.file_sum);
}

/// A command, and 256 KiB through it there and back.
fn ssh(run: &Run<'_>) {
    let file = run.dir.join("by-ssh");
    let bytes: Vec<u8> = (0..1u32 << 18).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
    std::fs::write(&file, &bytes).expect("room for a file");
    let mut command = run.place.command("ssh");
    command.args([
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]);
    command.args(["-o", "ConnectTimeout=10", "-o", "LogLevel=ERROR", "-i"]).arg(run.server.key());
    command.args([&format!("root@{}", run.to), "echo from afar; cat"]);
    command.stdin(std::fs::File::open(&file).expect("our own file")).stdout(Stdio::piped());
    let output = command.output().expect("ssh starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == [&b"from afar\n"[..], &bytes].concat(), "{} bytes", output.stdout.len());
}

fn dns_by_udp(run: &Run<'_>) {
    let (name, ip) = DNS_ADDRESS;
    assert_eq!(dig(run, &["+notcp", name, "A"]).trim(), ip);
    long_answer(run, 0);
}

fn dns_in_fragments(run: &Run<'_>) {
    long_answer(run, 1);
}

fn long_answer(run: &Run<'_>, nth: usize) {
    let (name, bytes) = DNS_TEXTS[nth];
    assert!(dig(run, &["+notcp", "+ignore", "+bufsize=4096", name, "TXT"]).len() >= bytes);
}

fn dns_by_tcp(run: &Run<'_>) {
    let (name, ip) = DNS_ADDRESS;
    assert_eq!(dig(run, &["+tcp", name, "A"]).trim(), ip);
    for (name, bytes) in DNS_TEXTS {
        assert!(dig(run, &["+tcp", name, "TXT"]).len() >= bytes, "{name}");
    }
}

fn dig(run: &Run<'_>, arguments: &[&str]) -> String {
    let server = format!("@{}", run.to);
    run.program("dig", &[&["+short", "+time=2", "+tries=3", &server], arguments].concat())
}

/// Calls that are set up, held and ended. The address that SIPp tells within is its own.
fn sip(run: &Run<'_>) {
    let to = match run.to {
        IpAddr::V4(to) => to.to_string(),
        IpAddr::V6(to) => format!("[{to}]"),
    };
    let route = run.place.ip(&format!("route get {}", run.to));
    let own = route.split_whitespace().skip_while(|word| *word != "src").nth(1).expect("an address").to_owned();
    let own = if run.to.is_ipv4() { own } else { format!("[{own}]") };
    let mut command = run.place.command("sipp");
    command.args(["-sn", "uac", &format!("{to}:5060"), "-i", &own, "-p", "5070", "-m", "20", "-r", "100", "-d", "50"]);
    command.args(["-nostdin", "-timeout", "15", "-timeout_error"]).current_dir(run.dir).env("TERM", "dumb");
    let output = command.output().expect("sipp starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A thousand datagrams of each of the sizes that QUIC begins and goes on with, eight under way at a time.
fn quic_sized(run: &Run<'_>) {
    let own: SocketAddr = if run.to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().expect("an address");
    let socket = run.place.within(|| {
        let socket = UdpSocket::bind(own).expect("a free port");
        socket.connect(run.socket(7)).expect("a route");
        socket
    });
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket option");
    for size in [1200, 1350, 1452] {
        let mut back = 0;
        for round in 0..125u8 {
            (0..8u8).for_each(|nth| {
                let mut payload = vec![round; size];
                payload[0] = nth;
                socket.send(&payload).expect("it leaves");
            });
            let mut bytes = [0; 2000];
            back += (0..8)
                .filter(|_| matches!(socket.recv(&mut bytes), Ok(len) if len == size && bytes[1] == round))
                .count();
        }
        assert!(back >= 990, "{back} of 1000 datagrams of {size} bytes came back");
    }
}

fn roaming_tunnel(run: &Run<'_>) {
    tunnel::calls(run.place, run.socket(TUNNEL)).unwrap_or_else(|error| panic!("{error}"));
}

/// FTP in active mode: the client tells its address within the connection, and the server calls it there from port 20. From a
/// container that holds a public address to a server outside; from containers to one that is published, by its public name
/// and by its inside name; and from outside.
#[test]
fn active_ftp_finds_its_way_back() {
    let lab = lab();
    let (inside, outside) = servers(&lab);
    let [control, data, control6, data6] = EDGE_PORTS;
    let (control, control6) = (control.to_string(), control6.to_string());
    let (data, data6) = (format!("{}:{data}", EDGE.ip), format!("[{EDGE6}]:{data6}"));
    let cases: [(&str, IpAddr, &Services, Vec<&str>); 8] = [
        ("edge", OUTSIDE.into(), &outside, vec!["--local-port", &control, "--ftp-port", &data]),
        ("edge", OUTSIDE6.into(), &outside, vec!["--local-port", &control6, "--ftp-port", &data6]),
        ("alice", PUBLIC, &inside, vec!["--ftp-port", "-"]),
        ("alice", PUBLIC6, &inside, vec!["--ftp-port", "-"]),
        ("alice", WEB.into(), &inside, vec!["--ftp-port", "-"]),
        ("alice", six_of(WEB).into(), &inside, vec!["--ftp-port", "-"]),
        ("outside", PUBLIC, &inside, vec!["--ftp-port", "-"]),
        ("outside", PUBLIC6, &inside, vec!["--ftp-port", "-"]),
    ];
    for (client, to, server, mode) in cases {
        let file = lab.dir().join("by-ftp");
        let url = format!("ftp://{}/file", SocketAddr::new(to, 21));
        let mut command = lab.at(client).command("curl");
        command.args(["-v", "--no-progress-meter", "--max-time", "20", "-o"]).arg(&file).args(&mode).arg(&url);
        let output = command.output().expect("curl starts");
        assert!(output.status.success(), "{client} -> {to}: {}", String::from_utf8_lossy(&output.stderr));
        let sum = crate::lab::run("sha256sum", &[&file.to_string_lossy()]);
        assert!(sum.starts_with(&server.file_sum), "{client} -> {to}: {sum}");
    }
}
