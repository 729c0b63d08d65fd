use std::process::{Child, Command, Stdio};

use super::*;
use crate::neighbour::NextHop;
use crate::units::Mac;

/// Set in a process that has a network namespace of its own.
const INSIDE: &str = "SIXWAY_TEST_INSIDE_NAMESPACE";

/// Runs this test once more in a fresh network namespace. True there, false here when it has passed there.
fn in_fresh_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    command.arg(if rustix::process::geteuid().is_root() { "-n" } else { "-rn" });
    command.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
    assert!(command.status().unwrap().success(), "{test} failed in its namespace");
    false
}

fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success(), "ip {arguments}");
}

/// The ports on `eth1` and `eth2`.
const UPLINK: PortId = PortId(1);
const WAN: PortId = PortId(2);

/// A machine at the far end of `eth1`: a network namespace that lives as long as a process in it.
struct Peer(Child);

impl Peer {
    fn new() -> Peer {
        let mut command = Command::new("unshare");
        command.args(["-n", "sh", "-c", "echo; exec cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The line says that it has left our namespace.
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        Peer(child)
    }

    fn ip(&self, arguments: &str) {
        let pid = self.0.id().to_string();
        let status = Command::new("nsenter").args(["-t", &pid, "-n", "ip"]).args(arguments.split(' ')).status();
        assert!(status.unwrap().success(), "ip {arguments}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The changes that a watcher of `eth1` and `eth2` reports.
struct Watched {
    resolver: Resolver,
    changes: mpsc::UnboundedReceiver<Change>,
}

impl Watched {
    fn start() -> Watched {
        let (resolver, questions) = Resolver::new();
        let (sender, changes) = mpsc::unbounded_channel();
        let report = move |change| drop(sender.send(change));
        tokio::spawn(watch(Fib::default(), [("eth1".to_owned(), UPLINK), ("eth2".to_owned(), WAN)], questions, report));
        Watched { resolver, changes }
    }

    /// The first change that `wanted` accepts.
    async fn until<T>(&mut self, story: &str, mut wanted: impl FnMut(Change) -> Option<T>) -> T {
        let search = async {
            loop {
                let change = self.changes.recv().await.expect("the watcher goes on");
                if let Some(found) = wanted(change) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), search).await.unwrap_or_else(|_| panic!("never: {story}"))
    }

    async fn until_next_hop(&mut self, dst: &str, expected: impl Fn(NextHop) -> bool) {
        let dst = dst.parse().unwrap();
        let hops = |change| match change {
            Change::NextHops(hops) => expected(hops.resolve(dst, None)).then_some(()),
            _ => None,
        };
        self.until(&format!("the next hop to {dst}"), hops).await;
    }
}

fn with_mac(octets: [u8; 6]) -> impl Fn(NextHop) -> bool {
    move |hop| matches!(hop, NextHop::Ready { mac, .. } if mac == Mac(octets))
}

/// Addresses, of all interfaces and of the ports, as the kernel changes them; lo's and link-local ones count for nothing.
#[test]
fn addresses_follow_the_kernel() {
    if !in_fresh_namespace("control::kernel::watch::tests::addresses_follow_the_kernel") {
        return;
    }
    ip("link set lo up");
    ip("link add eth1 type veth peer name far");
    ip("link add eth3 type veth peer name farther");
    ip("addr add 192.168.50.1/24 dev eth1");
    ip("addr add 10.9.9.9/32 dev eth3");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut watched = Watched::start();
        let mut until = async |story: &str, all: &[&str], own: &[&str]| {
            let text = |ip: &Ip| ip.to_string();
            let seen = |change| match change {
                Change::Addresses(Addresses { all: ips, by_port }) => {
                    let by_port: Vec<(PortId, String)> = by_port.iter().map(|(port, ip)| (*port, text(ip))).collect();
                    let own: Vec<(PortId, String)> = own.iter().map(|ip| (UPLINK, (*ip).to_owned())).collect();
                    (ips.iter().map(text).eq(all.iter().copied()) && by_port == own).then_some(())
                }
                _ => None,
            };
            watched.until(story, seen).await;
        };
        until("there from the beginning", &["10.9.9.9", "192.168.50.1"], &["192.168.50.1"]).await;
        ip("addr add 203.0.113.80/32 dev lo");
        until("on lo", &["10.9.9.9", "192.168.50.1", "203.0.113.80"], &["192.168.50.1"]).await;
        ip("addr add 198.18.6.1/24 dev eth1");
        let three = ["10.9.9.9", "192.168.50.1", "198.18.6.1", "203.0.113.80"];
        until("another of the port", &three, &["192.168.50.1", "198.18.6.1"]).await;
        ip("addr del 192.168.50.1/24 dev eth1");
        until("the first is gone", &["10.9.9.9", "198.18.6.1", "203.0.113.80"], &["198.18.6.1"]).await;
        ip("link set far up");
        ip("link set eth1 up");
        ip("addr add 2001:db8::1/64 dev eth1 nodad");
        let four = ["10.9.9.9", "198.18.6.1", "203.0.113.80", "2001:db8::1"];
        until("of IPv6", &four, &["198.18.6.1", "2001:db8::1"]).await;
        ip("link set eth1 down");
        ip("link set eth1 name eth0");
        until("the interface is another", &four[..3], &[]).await;
        ip("link del eth0");
        until("the interface is gone", &["10.9.9.9", "203.0.113.80"], &[]).await;
    });
}

#[test]
fn next_hops_follow_the_kernel() {
    if !in_fresh_namespace("control::kernel::watch::tests::next_hops_follow_the_kernel") {
        return;
    }
    let peer = Peer::new();
    ip("link add eth1 type veth peer name far");
    ip(&format!("link set far netns {}", peer.0.id()));
    peer.ip("link set far address 02:00:00:00:00:fe up");
    peer.ip("addr add 192.168.50.254/24 dev far");
    ip("addr add 192.168.50.1/24 dev eth1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut watched = Watched::start();
        let link = watched.until("the link is there", |change| match change {
            Change::Link(link) => Some(link).filter(|link| link.name != "lo"),
            _ => None,
        });
        let link = link.await;
        assert_eq!((link.name.as_str(), link.up, link.kind.as_deref()), ("eth1", false, Some("veth")));
        watched.until_next_hop("192.168.50.254", |hop| hop == NextHop::NoRoute).await;

        // The link comes up, and with it the route to its neighbours.
        ip("link set eth1 up");
        let hop = "192.168.50.254".parse().unwrap();
        let unresolved = NextHop::Unresolved { hop, port: Some(UPLINK) };
        watched.until_next_hop("192.168.50.254", |found| found == unresolved).await;

        // A default route leads to a router that nobody has asked for yet. Asked for, it answers.
        ip("route add default via 192.168.50.254");
        watched.until_next_hop("8.8.8.8", |found| found == unresolved).await;
        assert!(watched.resolver.resolve(UPLINK, hop));
        watched.until_next_hop("8.8.8.8", with_mac([2, 0, 0, 0, 0, 0xfe])).await;

        // The router is replaced by another machine.
        ip("neigh replace 192.168.50.254 lladdr 02:00:00:00:00:fd dev eth1");
        watched.until_next_hop("8.8.8.8", with_mac([2, 0, 0, 0, 0, 0xfd])).await;

        // The address goes, and the kernel takes the routes with it without a word.
        ip("addr del 192.168.50.1/24 dev eth1");
        watched.until_next_hop("8.8.8.8", |hop| hop == NextHop::NoRoute).await;

        // A second link takes the default route over, and gives it back.
        ip("addr add 192.168.50.1/24 dev eth1");
        ip("route add default via 192.168.50.254");
        let by = |port| move |hop| matches!(hop, NextHop::Unresolved { port: Some(at), .. } | NextHop::Ready { port: Some(at), .. } if at == port);
        watched.until_next_hop("8.8.8.8", by(UPLINK)).await;
        ip("link add eth2 type veth peer name farther");
        ip("link set farther up");
        ip("link set eth2 up");
        ip("addr add 198.18.0.2/24 dev eth2");
        ip("route replace default via 198.18.0.1");
        watched.until_next_hop("8.8.8.8", by(WAN)).await;
        watched.until_next_hop("192.168.50.254", by(UPLINK)).await;
        ip("route add default via 192.168.50.254 metric 9");
        ip("link set eth2 down");
        watched.until_next_hop("8.8.8.8", by(UPLINK)).await;

        // Of several paths the first that works.
        ip("link set eth2 up");
        ip("route replace default metric 9 nexthop via 198.18.0.1 dev eth2 nexthop via 192.168.50.254 dev eth1");
        watched.until_next_hop("8.8.8.8", by(WAN)).await;
        ip("link set eth2 down");
        watched.until_next_hop("8.8.8.8", by(UPLINK)).await;

        ip("link del eth1");
        let gone = |change| matches!(change, Change::LinkGone { name, .. } if name == "eth1").then_some(());
        watched.until("the link is gone", gone).await;
    });
}
