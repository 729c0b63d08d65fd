use std::path::Path;
use std::time::Duration;

use crate::control::health::{Kind, Thresholds};
use crate::naming::{Action, Midstream};
use crate::units::{PortId, Proto};

use super::*;

const DESIGN: &str = r#"
[server]
ip = "192.168.50.1"
ports = "20480-59903"
mapping = "mapping.sixway"
router = "192.168.50.254"

[engine]
cores = [1]
poll = "busy"

[control]
socket = "/run/sixway/control.sock"
read_group = "adm"

[[network]]
name = "blue"
prefixes = ["10.0.0.0/8"]
gateway = "169.254.1.1"
outside = true
services = false
peers = []
groups = []
midstream = "reset"

[[port]]
name = "uplink"
interface = "eth1"
role = "uplink"
address = "02:00:00:00:00:01"
mtu = 1500

[[port]]
name = "web1"
interface = "veth-web1"
role = "access"
network = "blue"
mac = "02:42:0a:01:00:02"

[[neighbour]]
ip = "192.168.50.254"
mac = "02:00:00:00:00:fe"

[[policy]]
from = "blue"
to = "blue"
action = "deny"
"#;

fn parse(text: &str) -> Result<Config, Vec<String>> {
    Config::parse(Path::new("/etc/sixway/host.toml"), text)
        .map_err(|mistakes| mistakes.iter().map(Mistake::to_string).collect())
}

#[test]
fn the_example_of_the_design_is_understood() {
    let config = parse(DESIGN).unwrap();
    assert_eq!(config.server.ips, ["192.168.50.1".parse().unwrap()]);
    assert_eq!(config.server.ports.to_string(), "20480-59903");
    assert_eq!(config.server.mapping, Path::new("/etc/sixway/mapping.sixway"));
    assert_eq!(config.server.mapping_at, Position { line: 5, column: 11 });
    assert_eq!(config.server.router, Some("192.168.50.254".parse().unwrap()));
    assert_eq!(config.server.quarantine_s, 60);
    assert_eq!(config.engine.cores, [1]);
    assert_eq!(config.engine.poll, Poll::Busy);
    assert_eq!(config.engine.pin_dir, Path::new("/sys/fs/bpf/sixway"));
    assert_eq!(config.control.read_group.as_deref(), Some("adm"));
    let blue = config.network("blue").unwrap();
    assert_eq!(blue.prefixes, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(blue.gateways, ["169.254.1.1".parse().unwrap()]);
    assert!(blue.outside && !blue.services && blue.midstream == Midstream::Reset);
    assert!(blue.ra_interval_s.is_none() && !blue.has_ipv6());
    assert_eq!(config.port("uplink").unwrap().role, Role::Uplink { external: false, arp: false });
    assert_eq!(config.port("uplink").unwrap().mtu, Some(1500));
    let mac = Some("02:42:0a:01:00:02".parse().unwrap());
    assert_eq!(config.port("web1").unwrap().role, Role::Access { network: "blue".into(), mac, id: None });
    assert_eq!(config.neighbours.len(), 1);
    assert_eq!(config.build_networks().unwrap().len(), 1);
    assert!(config.rules[0].action == Action::Deny);
}

#[test]
fn a_server_alone_is_a_configuration() {
    let config =
        parse("[server]\nips = [\"10.0.0.1\", \"fd00::1\"]\nports = \"20480-20735\"\nmapping = \"/m\"\n").unwrap();
    assert_eq!(config.engine, Engine::default());
    assert_eq!(config.control.socket, Path::new("/run/sixway/control.sock"));
    assert_eq!(config.server.mapping, Path::new("/m"));
    let state = config.engine.state_file(4_026_531_840, config.server.ips[0]);
    assert_eq!(state, Path::new("/run/sixway/4026531840-10.0.0.1.state"));
}

/// The design's example with one text replaced; the mistakes that it then has, without the file's name.
fn mistakes_with(old: &str, new: &str) -> Vec<String> {
    assert_eq!(DESIGN.matches(old).count(), 1, "{old}");
    let mistakes = parse(&DESIGN.replace(old, new)).unwrap_err();
    mistakes.iter().map(|m| m.strip_prefix("/etc/sixway/host.toml:").unwrap_or(m).to_owned()).collect()
}

#[test]
fn every_mistake_is_named_by_line_and_column() {
    for (old, new, expected) in [
        ("ip = \"192.168.50.1\"\n", "", "2:1: [server] needs `ip`, like `ip = \"192.168.50.1\"`"),
        ("\"192.168.50.1\"", "\"192.168.50.256\"", "3:6: `ip`: expected an IP address, not \"192.168.50.256\""),
        ("\"192.168.50.1\"", "\"224.0.0.1\"", "3:6: `ip`: 224.0.0.1 is no station's address"),
        ("\"192.168.50.1\"", "7", "3:6: `ip` must be a string, not an integer"),
        (
            "\"20480-59903\"",
            "\"20480-80000\"",
            "4:9: `ports`: expected a port range like 20480-59903, not \"20480-80000\"",
        ),
        ("\"20480-59903\"", "\"0-59903\"", "4:9: `ports` must not hold port 0, which no packet may carry"),
        ("\"20480-59903\"", "\"9-8\"", "4:9: `ports`: the range ends before it starts, not \"9-8\""),
        ("mapping = ", "maping = ", "2:1: [server] needs `mapping`, like `mapping = \"mapping.sixway\"`"),
        (
            "router = \"192.168.50.254\"",
            "router = \"192.168.50.1\"",
            "6:10: `router`: 192.168.50.1 is this server itself",
        ),
        (
            "ports = \"20480-59903\"",
            "ports = \"20480-59903\"\nreturn = \"gateway\"",
            "2:1: [server] needs `gateways`, like `gateways = [\"192.168.50.254\"]`",
        ),
        (
            "ports = \"20480-59903\"",
            "ports = \"20480-59903\"\ngateways = [\"192.168.50.6\"]",
            "5:12: `gateways` are used with `return = \"gateway\"` only",
        ),
        (
            "ports = \"20480-59903\"",
            "ports = \"20480-59903\"\nreturn = \"gateway\"\ngateways = [\"192.168.50.1\"]",
            "6:13: `gateways`: 192.168.50.1 is this server itself",
        ),
        (
            "ports = \"20480-59903\"",
            "ports = \"20480-59903\"\nreturn = \"gateway\"\ngateways = []",
            "6:12: `gateways` is empty: by which one are replies to leave?",
        ),
        ("cores = [1]", "cores = [1, 2, 1]", "9:16: core 1 is given twice"),
        ("cores = [1]", "cores = 1", "9:9: `cores` must be a list of numbers, not an integer"),
        ("cores = [1]", "cores = [-1]", "9:10: `cores` must be 0 to 4095, not -1"),
        ("\"busy\"", "\"lazy\"", "10:8: `poll` must be \"adaptive\" or \"busy\", not \"lazy\""),
        ("[engine]", "[engin]", "8:2: unknown key `engin` in the configuration; did you mean `engine`?"),
        (
            "\"10.0.0.0/8\"",
            "\"10.0.0.1/8\"",
            "18:13: `prefixes`: the prefix has bits set below its length, not \"10.0.0.1/8\"",
        ),
        (
            "\"10.0.0.0/8\"",
            "\"10.0.0.0/8\", \"10.1.0.0/16\"",
            "18:27: prefix 10.1.0.0/16 overlaps 10.0.0.0/8 of the same network",
        ),
        ("outside = true", "outside = \"yes\"", "20:11: `outside` must be true or false, not a string"),
        ("peers = []", "peers = [\"bleu\"]", "22:10: there is no network `bleu`; did you mean `blue`?"),
        (
            "name = \"uplink\"",
            "name = \"../x\"",
            "27:8: \"../x\" is no name: use up to 64 letters, digits, `-`, `_` and `.`, a letter or digit first",
        ),
        ("interface = \"eth1\"", "interface = \"a/b\"", "28:13: \"a/b\" is no interface name"),
        (
            "role = \"uplink\"",
            "role = \"underlay\"",
            "29:8: `role` must be \"uplink\" or \"access\" or \"external\", not \"underlay\"",
        ),
        ("mtu = 1500", "mtu = 100", "31:7: `mtu` must be 576 to 65535, not 100"),
        ("mtu = 1500", "network = \"blue\"", "31:11: `network` has no meaning on a port with role \"uplink\""),
        (
            "network = \"blue\"\nmac",
            "network = \"blue\"\nvlan = 100\nmac",
            "38:8: `vlan` has no meaning on a port with role \"access\"",
        ),
        ("mtu = 1500", "arp = true", "31:7: `arp` on an uplink needs `external = true`"),
        ("name = \"web1\"", "name = \"uplink\"", "34:8: port `uplink` is already on line 27"),
        ("interface = \"veth-web1\"", "interface = \"eth1\"", "35:13: interface `eth1` is already on line 28"),
        ("network = \"blue\"\n", "", "33:1: an access port needs `network`, like `network = \"blue\"`"),
        ("network = \"blue\"", "network = \"green\"", "37:11: there is no network `green`"),
        (
            "network = \"blue\"",
            "netwrok = \"blue\"",
            "37:1: unknown key `netwrok` in [[port]]; did you mean `network`?",
        ),
        ("\"02:42:0a:01:00:02\"", "\"03:42:0a:01:00:02\"", "38:7: `mac`: 03:42:0a:01:00:02 is no station's address"),
        ("mac = \"02:00:00:00:00:fe\"\n", "", "40:1: [[neighbour]] needs `mac`, like `mac = \"02:00:00:00:00:02\"`"),
        ("action = \"deny\"", "action = \"maybe\"", "47:10: `action` must be \"allow\" or \"deny\", not \"maybe\""),
        ("[[policy]]", "[policy]", "44:1: `policy` is a list of tables: write [[policy]]"),
        ("[server]", "[[server]]", "2:1: `server` must be a table: write [server]"),
    ] {
        let found = mistakes_with(old, new);
        assert!(found.iter().any(|mistake| mistake == expected), "{new:?}: {expected}\nfound: {found:#?}");
    }
}

#[test]
fn what_is_said_twice_is_said_with_its_first_place() {
    let twice = |section: &str| {
        let mistakes = parse(&format!("{DESIGN}{section}")).unwrap_err();
        mistakes.iter().map(|m| m.strip_prefix("/etc/sixway/host.toml:").unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(twice("[[network]]\nname = \"blue\"\n"), ["49:8: network `blue` is already on line 17"]);
    assert_eq!(
        twice(
            "[[port]]\nname = \"web2\"\ninterface = \"veth2\"\nrole = \"access\"\nnetwork = \"blue\"\nmac = \"02:42:0a:01:00:02\"\n"
        ),
        ["53:7: 02:42:0a:01:00:02 is pinned to the port on line 38 already; `id` tells such containers apart"]
    );
    assert_eq!(
        twice("[[neighbour]]\nip = \"192.168.50.254\"\nmac = \"02:00:00:00:00:01\"\n"),
        ["49:6: neighbour 192.168.50.254 is already on line 41"]
    );
    assert_eq!(
        twice("[[policy]]\nfrom = \"blue\"\nto = \"blue\"\naction = \"allow\"\n"),
        ["49:8: the pair blue -> blue has a rule on line 45 already"]
    );
}

#[test]
fn several_uplinks_tell_which_stations_are_behind_which() {
    let with = |section: &str| parse(&format!("{DESIGN}{section}"));
    let second = "[[port]]\nname = \"west\"\ninterface = \"eth2\"\nrole = \"uplink\"\n";
    let config = with(second).unwrap();
    assert_eq!((config.port_id("west"), config.port_id("north")), (Some(PortId(2)), None));
    assert_eq!(config.neighbours[0].port, None, "the kernel's routes say");
    let neighbour = "[[neighbour]]\nip = \"192.168.60.2\"\nmac = \"02:00:00:00:00:62\"\n";
    let config = with(&format!("{second}{neighbour}port = \"west\"\n")).unwrap();
    assert_eq!(config.neighbours[1].port.as_deref(), Some("west"));

    let mistake =
        |section: &str| with(section).unwrap_err()[0].strip_prefix("/etc/sixway/host.toml:").unwrap().to_owned();
    for port in ["web1", "north"] {
        let found = mistake(&format!("{neighbour}port = \"{port}\"\n"));
        assert_eq!(found, format!("51:8: there is no uplink or external port `{port}`"));
    }
    // Nobody can be asked in replay.
    let bare = second.replace("interface = \"eth2\"", "address = \"02:00:00:00:00:61\"");
    assert_eq!(
        mistake(&bare),
        "41:6: behind which uplink is 192.168.50.254? Port `west` has no interface whose routes would tell: add `port = \
         \"west\"`, or another"
    );
}

#[test]
fn a_port_that_leads_out_may_have_addresses() {
    let ips = parse(&DESIGN.replace("mtu = 1500", "ips = [\"198.18.6.1\", \"fd18::1\"]")).unwrap().ports[0].ips.clone();
    assert_eq!(ips, ["198.18.6.1".parse().unwrap(), "fd18::1".parse().unwrap()]);
    let wrong = |from: &str, to: &str| parse(&DESIGN.replace(from, to)).unwrap_err();
    let on_access = wrong("network = \"blue\"\nmac", "network = \"blue\"\nips = [\"10.0.0.1\"]\nmac");
    assert!(
        matches!(&on_access[..], [one] if one.contains("`ips` has no meaning on a port with role")),
        "{on_access:?}"
    );
    let of_nobody = wrong("mtu = 1500", "ips = [\"224.0.0.1\"]");
    assert!(matches!(&of_nobody[..], [one] if one.contains("`ips`")), "{of_nobody:?}");
}

#[test]
fn a_network_with_ipv6_says_how_often_its_router_advertises_itself() {
    let with = |text: &str| parse(&DESIGN.replace("gateway = \"169.254.1.1\"", text));
    let config = with("gateway = [\"169.254.1.1\", \"fe80::1\"]\nra_interval_s = 4").unwrap();
    let blue = config.network("blue").unwrap();
    assert!(blue.ra_interval_s == Some(4) && blue.has_ipv6());
    let mistakes = with("ra_interval_s = 3").unwrap_err();
    assert!(matches!(&mistakes[..], [one] if one.contains("`ra_interval_s`")), "{mistakes:?}");
}

#[test]
fn a_port_has_one_vlan_tag_or_two() {
    let config = |key: &str| parse(&DESIGN.replace("mtu = 1500", &format!("mtu = 1500\n{key}")));
    let tags = |key: &str| config(key).map(|config| config.ports[0].tags.ids().to_vec());
    assert_eq!(tags("vlan = 100"), Ok(vec![100]));
    assert_eq!(tags("vlan = [100]"), Ok(vec![100]));
    assert_eq!(tags("vlan = [200, 100]"), Ok(vec![200, 100]));
    assert_eq!(tags("arp = false"), Ok(vec![]));
    for wrong in ["0", "4095", "[]", "[1, 2, 3]", "[1, 5000]", "-1", "\"100\"", "1.5", "[[1]]"] {
        let found = tags(&format!("vlan = {wrong}")).unwrap_err();
        let expected = "/etc/sixway/host.toml:32:8: `vlan` must be a number from 1 to 4094, or two in brackets, the outer \
                        first: `vlan = [200, 100]`";
        assert_eq!(found, [expected], "{wrong}");
    }
    // The kernel's device for the VLAN is another one than the interface.
    let with_device = config("vlan = 100\nroutes = \"eth1.100\"").unwrap();
    assert_eq!(with_device.ports[0].routed_as(), Some("eth1.100"));
    assert_eq!(config("vlan = 100").unwrap().ports[0].routed_as(), Some("eth1"));
    let found = parse(&DESIGN.replace("mtu = 1500", "routes = \"eth1.100\"").replace("interface = \"eth1\"\n", ""));
    let message = "`routes` has no meaning without `interface`: there is no kernel to ask";
    assert_eq!(found.unwrap_err(), [format!("/etc/sixway/host.toml:30:10: {message}")]);
}

#[test]
fn all_mistakes_come_at_once_in_the_order_of_the_file() {
    let mistakes = parse("[server]\nip = \"x\"\nprots = \"1-2\"\n[[port]]\nrole = \"access\"\n[engine]\ncors = [1]\n")
        .unwrap_err();
    let expected = [
        "1:1: [server] needs `ports`, like `ports = \"20480-59903\"`",
        "1:1: [server] needs `mapping`, like `mapping = \"mapping.sixway\"`",
        "2:6: `ip`: expected an IP address, not \"x\"",
        "3:1: unknown key `prots` in [server]; did you mean `ports`?",
        "4:1: [[port]] needs `name`, like `name = \"uplink\"`",
        "4:1: [[port]] needs `interface`, like `interface = \"eth1\"`",
        "4:1: an access port needs `network`, like `network = \"blue\"`",
        "7:1: unknown key `cors` in [engine]; did you mean `cores`?",
    ];
    assert_eq!(mistakes, expected.map(|m| format!("/etc/sixway/host.toml:{m}")));
}

#[test]
fn broken_toml_is_placed_too() {
    let mistakes = parse("[server]\nip = \"10.0.0.1\nports = 7 7\n").unwrap_err();
    assert!(mistakes[0].starts_with("/etc/sixway/host.toml:2:"), "{mistakes:?}");
    assert!(mistakes.iter().any(|m| m.starts_with("/etc/sixway/host.toml:3:")), "{mistakes:?}");
    assert_eq!(parse("").unwrap_err(), ["/etc/sixway/host.toml:1:1: the [server] section is missing"]);
}

#[test]
fn a_file_that_is_not_there_is_one_mistake() {
    let mistakes = Config::load(Path::new("/nonexistent/host.toml")).unwrap_err();
    assert_eq!(mistakes[0].to_string(), "/nonexistent/host.toml: No such file or directory (os error 2)");
}

#[test]
fn columns_count_characters() {
    let mistakes =
        parse("[server]\nip = \"10.0.0.1\"\nports = \"1-2\"\nmapping = \"m\"\n\"ü\" = 1\nx = 2\n").unwrap_err();
    assert!(mistakes[0].contains(":5:1: unknown key `ü`"), "{mistakes:?}");
}

#[test]
fn timers_are_those_of_the_rfcs_or_what_these_allow() {
    let with = |lines: &str| parse(&DESIGN.replace("[engine]", &format!("[timers]\n{lines}\n[engine]")));
    let Timers { udp, echo, established, opening, closing } = parse(DESIGN).unwrap().timers;
    assert_eq!((udp, echo, established, opening, closing), (300, 60, 7440, 240, 240));
    let longer = "udp_s = 120\necho_s = 61\ntcp_established_s = 432000\ntcp_opening_s = 30\ntcp_closing_s = 241";
    let Timers { udp, echo, established, opening, closing } = with(longer).unwrap().timers;
    assert_eq!((udp, echo, established, opening, closing), (120, 61, 432_000, 30, 241));
    for (line, expected) in [
        ("udp_s = 119", "`udp_s` must be 120 to 86400, not 119"),
        ("echo_s = 59", "`echo_s` must be 60 to 86400, not 59"),
        ("tcp_established_s = 7439", "`tcp_established_s` must be 7440 to 432000, not 7439"),
        ("tcp_established_s = 432001", "`tcp_established_s` must be 7440 to 432000, not 432001"),
        ("tcp_opening_s = 29", "`tcp_opening_s` must be 30 to 86400, not 29"),
        ("tcp_closing_s = 239", "`tcp_closing_s` must be 240 to 86400, not 239"),
    ] {
        let column = line.find('=').unwrap() + 3;
        assert_eq!(with(line).unwrap_err(), [format!("/etc/sixway/host.toml:9:{column}: {expected}")]);
    }
}

#[test]
fn the_journal_has_its_place() {
    let server: Ip = "192.168.50.1".parse().unwrap();
    let of = |line: &str| {
        let text = DESIGN.replace("read_group = \"adm\"", line);
        Config::parse(Path::new("/etc/sixway/host.toml"), &text)
            .map(|config| config.control.journal_file(server, &config.server.mapping))
    };
    let of_mapping = crc32fast::hash(b"/etc/sixway/mapping.sixway");
    let expected = format!("/var/lib/sixway/192.168.50.1-{of_mapping:08x}.journal");
    assert_eq!(of(""), Ok(Some(expected.into())));
    assert_eq!(of("journal = \"kept\""), Ok(Some("/etc/sixway/kept".into())));
    assert_eq!(of("journal = \"none\""), Ok(None));
    let mistakes = of("journal = \"kept/\"").unwrap_err();
    assert!(mistakes[0].message.contains("`journal` is a file"), "{mistakes:?}");
}

const CHECK: &str = "[[policy]]";

/// The design's example with a `[[health]]` of these lines in it; its first line is 44.
fn with_check(lines: &str) -> String {
    DESIGN.replace(CHECK, &format!("[[health]]\n{lines}\n[[policy]]"))
}

#[test]
fn a_health_check_has_sane_defaults() {
    let config = parse(&with_check("network = \"blue\"\nip = \"10.0.0.10\"\nport = 80")).unwrap();
    let check = &config.health[0];
    assert_eq!((check.network.as_str(), check.ip.to_string().as_str(), check.port), ("blue", "10.0.0.10", 80));
    assert_eq!((check.proto, &check.kind), (Proto::TCP, &Kind::Tcp));
    assert_eq!((check.interval, check.timeout), (Duration::from_secs(1), Duration::from_millis(500)));
    assert_eq!((check.thresholds, check.half_life), (Thresholds { rise: 2, fall: 2 }, Some(Duration::from_secs(15))));
    let udp = "network = \"blue\"\nip = \"10.0.0.10\"\nport = 53\nproto = \"udp\"\ndamping = false";
    let config = parse(&with_check(udp)).unwrap();
    assert_eq!((&config.health[0].kind, config.health[0].half_life), (&Kind::Udp, None));
    let http = "network = \"blue\"\nip = \"10.0.0.10\"\nport = 80\nkind = \"http\"\npath = \"/healthz\"";
    assert_eq!(parse(&with_check(http)).unwrap().health[0].kind, Kind::Http { path: "/healthz".to_owned() });
}

#[test]
fn every_mistake_of_a_health_check_is_named_by_line_and_column() {
    let good = ["network = \"blue\"", "ip = \"10.0.0.10\"", "port = 80", "kind = \"http\""];
    for (nth, line, expected) in [
        (0, "network = \"blau\"", "45:11: there is no network `blau`"),
        (1, "ip = \"fd00::1\"", "45:11: network `blue` needs an IPv6 `gateway`: probes come from its address"),
        (2, "", "44:1: [[health]] needs `port`, like `port = 80`"),
        (2, "port = 70000", "47:8: `port` must be 1 to 65535, not 70000"),
        (3, "kind = \"udp\"", "48:8: `kind` must be \"tcp\" or \"http\" or \"icmp\", not \"udp\""),
        (3, "path = \"/\"", "48:8: `path` is for `kind = \"http\"`"),
        (3, "kind = \"http\"\npath = \"x\"", "49:8: `path` begins with `/`"),
        (3, "interval_ms = 5", "48:15: `interval_ms` must be 10 to 3600000, not 5"),
        (3, "timeout_ms = 2000", "48:14: `timeout_ms` must not be longer than the interval, 1000 ms"),
        (3, "intervall_ms = 50", "48:1: unknown key `intervall_ms` in [[health]]; did you mean `interval_ms`?"),
    ] {
        let mut lines = good;
        lines[nth] = line;
        let mistakes = parse(&with_check(&lines.join("\n"))).unwrap_err();
        let first = mistakes[0].strip_prefix("/etc/sixway/host.toml:").unwrap();
        assert!(first.starts_with(expected), "{line}: {mistakes:?}");
    }
    let twice = with_check(&good.join("\n"))
        .replace("[[health]]", &format!("[[health]]\n{}\n[[health]]", good[..3].join("\n")));
    assert!(parse(&twice).unwrap_err()[0].contains("has a [[health]] already, on line 45"));
    let no_gateway = with_check(&good.join("\n")).replace("gateway = \"169.254.1.1\"\n", "");
    assert!(parse(&no_gateway).unwrap_err()[0].contains("needs an IPv4 `gateway`"));
}
