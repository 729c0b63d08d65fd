//! The mapping file: what it may say, and what is said about mistakes.

use std::fmt::Write as _;

use proptest::prelude::*;
use sixway::naming::{BindingSpec, Mistake, Ports, Protocol, Published, parse_mapping, read_mapping};
use sixway::units::{Ip, Mac, PortRange, Proto};

/// The example of the design, with a comment after a line and blanks of all kinds.
const EXAMPLE: &str = "\
# net  proto  server-mac         server-ip:port              mac                ip:port         options
blue   tcp    02:00:00:00:00:02  192.168.50.2:20480          02:42:0a:02:00:02  10.2.0.2:80     weight=2\r
blue   any    02:00:00:00:00:01  192.168.50.1:20736-20991    02:42:0a:01:00:02  10.1.0.2:*      native # a block

blue\tudp    -                  192.168.50.2:20481          02:42:0a:02:00:03  203.0.113.9:4500  public=203.0.113.9:4500
  blue   esp    -                  192.168.50.2                02:42:0a:02:00:03  203.0.113.9     public=203.0.113.9
red any - [fd00::1]:21248-21503 - [fd00:1::2]:20736-20991 standby drain id=r1
";

#[test]
fn the_example_of_the_design_is_read() {
    let bindings = parse_mapping(EXAMPLE).unwrap();
    let lines: Vec<u32> = bindings.iter().map(|binding| binding.line).collect();
    assert_eq!(lines, [2, 3, 5, 6, 7]);
    let written: Vec<String> = bindings.iter().map(|binding| binding.value.to_string()).collect();
    assert_eq!(
        written,
        [
            "blue tcp 02:00:00:00:00:02 192.168.50.2:20480 02:42:0a:02:00:02 10.2.0.2:80 weight=2",
            "blue any 02:00:00:00:00:01 192.168.50.1:20736-20991 02:42:0a:01:00:02 10.1.0.2:* native",
            "blue udp - 192.168.50.2:20481 02:42:0a:02:00:03 203.0.113.9:4500 public=203.0.113.9:4500",
            "blue esp - 192.168.50.2 02:42:0a:02:00:03 203.0.113.9 public=203.0.113.9",
            "red any - [fd00::1]:21248-21503 - [fd00:1::2]:20736-20991 standby drain id=r1",
        ]
    );
}

/// A bad line, the column of its mistake, and words of the message.
#[test]
fn every_mistake_is_found_where_it_is() {
    let cases = [
        ("blue tcp - 1.1.1.1:20480 - 10.0.0.1:80 wieght=2", 40, "unknown option `wieght=2`: there are weight=N"),
        ("blue tcp - 1.1.1.1:20480 - 10.0.0.1:80 weight=0", 40, "weight is 1 to 65535"),
        ("blue tcp - 1.1.1.1:20480 - 10.0.0.1:80 weight", 40, "weight needs a value"),
        ("blue tcp - 1.1.1.1:20480 - 10.0.0.1:80 standby=1", 40, "write standby alone"),
        ("blue tcp - 1.1.1.1:20480 - 10.0.0.1:80 drain drain", 46, "drain is given twice"),
        ("blue tcp - 1.1.1.1:20480 - 10.0.0.1:80 id=", 40, "an id is one word"),
        ("blue tcp - 1.1.1.1:20480 - 10.0.0.1:80 native", 40, "native is for client blocks"),
        ("blue tcp - 1.1.1.1:20480 - 10.0.0.1:80 public=1.2.3.4:0", 40, "no public port"),
        ("blue tcp - 1.1.1.1:20480 - 10.0.0.1:80 public=224.0.0.1", 40, "no unicast address"),
        ("blue tcp - 1.1.1.1:20480 - 10.0.0.1:80 public=[fd00::1]:80", 40, "container's address family"),
        ("blue esp - 1.1.1.1 - 10.0.0.1 public=1.2.3.4:80", 31, "published by its address alone"),
        ("blue any - 1.1.1.1:20480-20735 - 10.0.0.1:* public=1.2.3.4", 45, "a client block can't be public"),
        ("blue any - 1.1.1.1:20480-20483 - 10.0.0.1:* native", 45, "a block of 8 ports or more"),
        ("blue tcp - 1.1.1.1:20480 -", 27, "expected at least 6 columns (net proto server-mac"),
        ("blue foo - 1.1.1.1:20480 - 10.0.0.1:80", 6, "unknown protocol `foo`: expected any, tcp"),
        ("blue tcp 02:00:00:00:00 1.1.1.1:20480 - 10.0.0.1:80", 10, "no MAC address: write it like"),
        ("blue tcp ff:ff:ff:ff:ff:ff 1.1.1.1:20480 - 10.0.0.1:80", 10, "no station has the MAC"),
        ("blue tcp - 1.1.1:20480 - 10.0.0.1:80", 12, "`1.1.1:20480` is no IP address"),
        ("blue tcp - 1.1.1.1:99999 - 10.0.0.1:80", 12, "`99999` is no port (0-65535)"),
        ("blue tcp - 1.1.1.1:+80 - 10.0.0.1:80", 12, "`+80` is no port"),
        ("blue tcp - 1.1.1.1:* - 10.0.0.1:80", 12, "* stands on the container's side only"),
        ("blue tcp - 1.1.1.1:20480 - 10.0.0.1:*", 28, "give the server a range, or a port here"),
        ("blue tcp - 1.1.1.1 - 10.0.0.1:80", 12, "tcp needs a port: 1.1.1.1:PORT"),
        ("blue esp - 1.1.1.1:20480 - 10.0.0.1", 12, "esp has no ports: write 1.1.1.1 alone"),
        ("blue tcp - 1.1.1.1:20480 - 10.0.0.1", 28, "tcp needs a port: 10.0.0.1:PORT"),
        ("blue tcp - 1.1.1.1:20480 - 10.0.0.1:0", 28, "port 0 can't be bound"),
        ("blue tcp - 0.0.0.0:20480 - 10.0.0.1:80", 12, "0.0.0.0 is no unicast address"),
        ("blue tcp - fd00::1:20480 - 10.0.0.1:80", 12, "an IPv6 address stands in brackets"),
        ("blue tcp - [fd00::1:20480 - 10.0.0.1:80", 12, "a [ without its ]"),
        ("blue tcp - [::ffff:1.1.1.1]:20480 - 10.0.0.1:80", 12, "write it without brackets"),
        ("blue tcp - [fd00::1]:20480 - 10.0.0.1:80", 30, "must be of one address family"),
        ("blue any - 1.1.1.1:20737-20992 - 10.0.0.1:*", 12, "for example 20736-20991"),
        ("blue any - 1.1.1.1:20736-20990 - 10.0.0.1:*", 12, "has 255 ports: a block is an aligned power of two"),
        ("blue any - 1.1.1.1:20991-20736 - 10.0.0.1:*", 12, "write 20736-20991"),
        ("blue any - 1.1.1.1:20736-20991 - 10.0.0.1:20736-20863", 34, "write * or 256 ports"),
        ("blue any - 1.1.1.1:20736-20991 - 10.0.0.1:20737-20992", 34, "is not aligned"),
        ("blue any - 1.1.1.1:20736-20991 - 10.0.0.1:80", 34, "write * (or an equal range) instead of 80"),
        ("blue any - 1.1.1.1:20480 - 10.0.0.1:20736-20991", 28, "give one port, or a range on both sides"),
    ];
    for (line, column, words) in cases {
        let text = format!("# first\n{line}\n");
        let mistakes = parse_mapping(&text).expect_err(line);
        let [Mistake { line: 2, column: found, message, .. }] = &mistakes[..] else { panic!("{line}: {mistakes:?}") };
        assert!(message.contains(words), "{line}\nsays: {message}\nexpected: {words}");
        assert_eq!(*found, column, "{line}: {message}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_and_good_lines_stay_good() {
    let text = "blue tcp x 1.1.1.1:1 y 10.0.0.1:80 hm\nblue tcp - 1.1.1.1:20480 - 10.0.0.1:80\n\nblue tcp\n";
    let (bindings, mistakes) = read_mapping(text);
    assert_eq!(bindings.iter().map(|b| b.line).collect::<Vec<_>>(), [2]);
    let places: Vec<(u32, u32)> = mistakes.iter().map(|m| (m.line, m.column)).collect();
    assert_eq!(places, [(1, 10), (1, 22), (1, 36), (4, 9)]);
    assert!(parse_mapping(text).is_err(), "nothing is loaded");
}

#[test]
fn a_mistake_shows_its_line_with_carets() {
    let text = "blue tcp - 1.1.1.1:20480 - 10.0.0.1:80\nblue tcp -\t1.1.1.1:x - 10.0.0.1:80\n";
    let mistake = &parse_mapping(text).unwrap_err()[0];
    assert_eq!(
        mistake.render("mapping.sixway", text.as_bytes()),
        "mapping.sixway:2:12: `x` is no port (0-65535), no range like 20736-20991 and no *\n    \
         blue tcp - 1.1.1.1:x - 10.0.0.1:80\n               ^^^^^^^^^"
    );
}

#[test]
fn a_million_lines_take_about_a_second() {
    let lines = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
    let mut text = String::new();
    for n in 0..lines {
        let (server, port, ip) = (n / 39_000, 20_480 + n % 39_000, n + 256);
        let [_, a, b, c] = u32::to_be_bytes(ip);
        writeln!(
            text,
            "blue tcp 02:00:00:00:{:02x}:{:02x} 192.168.{}.{}:{port} 02:42:0a:{a:02x}:{b:02x}:{c:02x} 10.{a}.{b}.{c}:80",
            server >> 8, server & 255, 50 + (server >> 8), server & 255
        )
        .unwrap();
    }
    let start = std::time::Instant::now();
    let bindings = parse_mapping(&text).unwrap();
    println!("{} lines, {} bytes: {:?}", bindings.len(), text.len(), start.elapsed());
    assert_eq!(bindings.len(), lines as usize);
}

fn arb_spec() -> impl Strategy<Value = BindingSpec> {
    let ip = |v4: bool| {
        (1u32..0x0a00_0000).prop_map(move |bits| {
            if v4 {
                Ip::from_v4_bits(0x0a00_0000 + bits)
            } else {
                Ip::from_v6_octets((0xfd00_u128 << 112 | u128::from(bits)).to_be_bytes())
            }
        })
    };
    let mac = proptest::option::of(any::<[u8; 5]>().prop_map(|[a, b, c, d, e]| Mac([2, a, b, c, d, e])));
    let word = proptest::option::of("[a-z][a-z0-9#=.-]{0,8}");
    (any::<bool>(), 0u8..9, any::<u16>(), any::<u16>(), 0u8..12).prop_flat_map(
        move |(v4, proto, wire, inside, log2)| {
            let all = [
                Proto::TCP,
                Proto::UDP,
                if v4 { Proto::ICMP } else { Proto::ICMPV6 },
                Proto::ESP,
                Proto::AH,
                Proto::GRE,
                Proto::SCTP,
            ];
            let proto = all.get(usize::from(proto)).map_or(Protocol::Any, |&proto| Protocol::One(proto));
            let portless = matches!(proto, Protocol::One(proto) if !proto.has_ports());
            let ports = move |port: u16| match log2 {
                _ if portless => Ports::None,
                0 => Ports::One(port.max(1)),
                _ => {
                    let first = (u32::from(port) >> log2 << log2) as u16;
                    Ports::Block(PortRange { first, last: first | ((1u32 << log2) - 1) as u16 })
                }
            };
            let is_block = matches!(ports(wire), Ports::Block(_));
            let options = (
                1u16..,
                any::<[bool; 4]>(),
                word.clone(),
                proptest::option::of((ip(v4), proptest::option::of(1u16..))),
            );
            ("[a-z]{1,6}", mac.clone(), ip(v4), mac.clone(), ip(v4), options).prop_map(
                move |(
                    network,
                    server_mac,
                    server_ip,
                    mac,
                    ip,
                    (weight, [standby, drain, native, same], id, public),
                )| BindingSpec {
                    server_mac,
                    weight,
                    standby,
                    drain,
                    native: native && is_block && log2 >= 3,
                    id: id.map(Into::into),
                    public: public
                        .filter(|_| !is_block)
                        .map(|(ip, port)| Published { ip, port: port.filter(|_| !portless) }),
                    ..BindingSpec::new(
                        &network,
                        proto,
                        (server_ip, ports(wire)),
                        (mac, ip, ports(if same { wire } else { inside })),
                    )
                },
            )
        },
    )
}

proptest! {
    #[test]
    fn a_binding_survives_its_line_and_its_json(spec in arb_spec()) {
        prop_assert_eq!(spec.check(), Ok(()));
        let line = spec.to_string();
        let read = parse_mapping(&line).map_err(|mistakes| TestCaseError::fail(format!("{line}: {mistakes:?}")))?;
        prop_assert_eq!(&read[0].value, &spec);
        let json = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(&serde_json::from_str::<BindingSpec>(&json).unwrap(), &spec, "{}", json);
        let key = serde_json::to_string(&spec.key()).unwrap();
        prop_assert_eq!(serde_json::from_str::<sixway::naming::BindingKey>(&key).unwrap(), spec.key(), "{}", key);
    }

    #[test]
    fn no_bytes_upset_the_parser(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        for mistake in read_mapping(&text).1 {
            let _ = mistake.render("m", &text);
        }
    }

    #[test]
    fn no_broken_line_upsets_the_parser(at in 0usize..EXAMPLE.len(), len in 0usize..9, with in "[ -~\n\t]{0,4}") {
        let mut text = EXAMPLE.as_bytes().to_vec();
        let end = (at + len).min(text.len());
        text.splice(at..end, with.bytes());
        for mistake in read_mapping(&text).1 {
            let _ = mistake.render("m", &text);
        }
    }
}
