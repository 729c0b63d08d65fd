//! One line of the mapping file.

use super::super::spec::{BindingKey, BindingSpec, KeyPorts, Part, Ports, Protocol};
use super::field::{self, WrittenPorts};
use super::{Mistake, Words};

/// A word of a line, with its place.
#[derive(Clone, Copy)]
struct Word<'a> {
    /// Counted from 0.
    at: usize,
    text: &'a [u8],
}

/// The words of a line: six columns, then options.
pub(super) struct Columns<'a> {
    words: [Option<Word<'a>>; COLUMNS],
    options: Rest<'a>,
}

const COLUMNS: usize = 6;
const LAYOUT: &str = "net proto server-mac server-ip:port mac ip:port [options]";

/// The words from some place on.
#[derive(Clone)]
struct Rest<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Rest<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
        let rest = self.line.get(self.at..)?;
        let at = self.at + rest.iter().position(|byte| !is_blank(byte))?;
        let rest = &self.line[at..];
        if rest[0] == b'#' {
            return None;
        }
        let len = rest.iter().position(is_blank).unwrap_or(rest.len());
        self.at = at + len;
        Some(Word { at, text: &rest[..len] })
    }
}

impl<'a> Columns<'a> {
    pub(super) fn of(line: &'a [u8]) -> Columns<'a> {
        let mut options = Rest { line, at: 0 };
        let words = std::array::from_fn(|_| options.next());
        Columns { words, options }
    }

    /// Column and length of a part in the line, counted from 1; its end, if the line has no such part.
    pub(super) fn place(&self, part: Part, line: &[u8]) -> (u32, u32) {
        let option = |name: &[u8]| self.options.clone().find(|word| word.text.starts_with(name));
        let word = match part {
            Part::Network => self.words[0],
            Part::Proto => self.words[1],
            Part::ServerMac => self.words[2],
            Part::Server => self.words[3],
            Part::Mac => self.words[4],
            Part::Container => self.words[5],
            Part::Native => option(b"native"),
            Part::Weight => option(b"weight="),
            Part::Id => option(b"id="),
            Part::Public => option(b"public="),
        };
        word.map_or((line.len() as u32 + 1, 1), |word| (word.at as u32 + 1, word.text.len() as u32))
    }
}

/// The binding of a line; `None` if it has none, or mistakes.
pub(super) fn parse(line: &[u8], number: u32, words: &mut Words, mistakes: &mut Vec<Mistake>) -> Option<BindingSpec> {
    let columns = Columns::of(line);
    columns.words[0]?;
    let known = mistakes.len();
    let mut mistake = |word: Word<'_>, message: String| {
        let (column, len) = (word.at as u32 + 1, word.text.len() as u32);
        mistakes.push(Mistake { line: number, column, len: len.max(1), message });
    };
    let [Some(network), Some(proto), Some(server_mac), Some(server), Some(mac), Some(container)] = columns.words else {
        let found = columns.words.iter().flatten().count();
        let end = Word { at: line.strip_suffix(b"\r").unwrap_or(line).len(), text: b"" };
        mistake(end, format!("expected at least {COLUMNS} columns ({LAYOUT}), found {found}"));
        return None;
    };
    let network = match std::str::from_utf8(network.text) {
        Ok(text) => Some(words.intern(text)),
        Err(_) => {
            mistake(network, "a network's name is UTF-8 text".to_owned());
            None
        }
    };
    let server_mac = field::mac(server_mac.text).map_err(|message| mistake(server_mac, message)).ok();
    let wire = field::half(server.text).map_err(|message| mistake(server, message)).ok();
    let mac = field::mac(mac.text).map_err(|message| mistake(mac, message)).ok();
    let inside = field::half(container.text).map_err(|message| mistake(container, message)).ok();
    // An address that can't be read leaves the family open.
    let is_v4 = inside.or(wire).is_none_or(|half| half.ip.is_v4());
    let protocol = std::str::from_utf8(proto.text).ok().and_then(|text| Protocol::from_word(text, is_v4));
    if protocol.is_none() {
        mistake(proto, unknown_protocol(proto.text));
    }
    let mut spec = wire.zip(inside).zip(protocol).zip(network).and_then(|(((wire, inside), proto), network)| {
        let wire_ports = match wire.ports {
            WrittenPorts::Same => {
                mistake(server, "* stands on the container's side only: give the server's ports here".to_owned());
                return None;
            }
            WrittenPorts::Ports(ports) => ports,
        };
        let inside_ports = match (inside.ports, wire_ports) {
            (WrittenPorts::Ports(ports), _) => ports,
            (WrittenPorts::Same, Ports::Block(_)) => wire_ports,
            (WrittenPorts::Same, _) => {
                let message = "* stands for the numbers of a client block: give the server a range, or a port here";
                mistake(container, message.to_owned());
                return None;
            }
        };
        Some(BindingSpec {
            network,
            proto,
            server_mac: server_mac?,
            server_ip: wire.ip,
            wire: wire_ports,
            mac: mac?,
            ip: inside.ip,
            inside: inside_ports,
            weight: 1,
            standby: false,
            drain: false,
            native: false,
            id: None,
            public: None,
        })
    });
    options(&columns, spec.as_mut(), &mut mistake);
    if mistakes.len() > known {
        return None;
    }
    let spec = spec?;
    if let Err(fault) = spec.check() {
        let (column, len) = columns.place(fault.part, line);
        mistakes.push(Mistake { line: number, column, len, message: fault.message });
        return None;
    }
    Some(spec)
}

/// The key of a binding, as a line without its wire half: network, protocol, MAC, address with port, and `id=` if it has
/// one.
pub(super) fn parse_key(line: &[u8], words: &mut Words) -> Result<BindingKey, Mistake> {
    let mistake = |word: Word<'_>, message: String| {
        let (column, len) = (word.at as u32 + 1, word.text.len() as u32);
        Mistake { line: 1, column, len: len.max(1), message }
    };
    let mut rest = Rest { line, at: 0 };
    let end = Word { at: line.len(), text: b"" };
    let too_few = || mistake(end, "expected net proto mac ip:port [id=WORD]".to_owned());
    let mut word = || rest.next().ok_or_else(too_few);
    let (network, proto, mac, container) = (word()?, word()?, word()?, word()?);
    let name = std::str::from_utf8(network.text);
    let name = name.map_err(|_| mistake(network, "a network's name is UTF-8 text".to_owned()))?;
    let half = field::half(container.text).map_err(|message| mistake(container, message))?;
    let protocol = std::str::from_utf8(proto.text).ok().and_then(|text| Protocol::from_word(text, half.ip.is_v4()));
    let mut key = BindingKey {
        network: words.intern(name),
        proto: protocol.ok_or_else(|| mistake(proto, unknown_protocol(proto.text)))?,
        mac: field::mac(mac.text).map_err(|message| mistake(mac, message))?,
        ip: half.ip,
        ports: match half.ports {
            WrittenPorts::Same => KeyPorts::SameNumbers,
            WrittenPorts::Ports(ports) => KeyPorts::Exactly(ports),
        },
        id: None,
    };
    for option in rest {
        let id = std::str::from_utf8(option.text).ok().and_then(|text| text.strip_prefix("id="));
        let id = id.filter(|id| !id.is_empty() && key.id.is_none());
        let id = id.ok_or_else(|| mistake(option, "a key has no option but id=WORD".to_owned()))?;
        key.id = Some(id.into());
    }
    Ok(key)
}

fn unknown_protocol(word: &[u8]) -> String {
    let text = String::from_utf8_lossy(word);
    format!("unknown protocol `{text}`: expected any, tcp, udp, icmp, esp, ah, gre or sctp")
}

/// Reads the options into `spec`; without one, only for their mistakes.
fn options(columns: &Columns<'_>, mut spec: Option<&mut BindingSpec>, mistake: &mut impl FnMut(Word<'_>, String)) {
    let mut given = [false; 6];
    for word in columns.options.clone() {
        let text = String::from_utf8_lossy(word.text);
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (&*text, None),
        };
        let which = match (name, value) {
            ("weight", Some(_)) => 0,
            ("standby", None) => 1,
            ("drain", None) => 2,
            ("native", None) => 3,
            ("id", Some(_)) => 4,
            ("public", Some(_)) => 5,
            ("weight" | "id" | "public", None) => {
                mistake(word, format!("{name} needs a value: {name}=…"));
                continue;
            }
            ("standby" | "drain" | "native", Some(_)) => {
                mistake(word, format!("{name} takes no value: write {name} alone"));
                continue;
            }
            _ => {
                let known = "weight=N, standby, drain, native, id=WORD, public=IP[:PORT]";
                mistake(word, format!("unknown option `{text}`: there are {known}"));
                continue;
            }
        };
        if std::mem::replace(&mut given[which], true) {
            mistake(word, format!("{name} is given twice"));
            continue;
        }
        let value = value.unwrap_or_default();
        let parsed = match which {
            0 => field::number(value.as_bytes())
                .filter(|&weight| weight > 0)
                .map(|weight| spec.iter_mut().for_each(|spec| spec.weight = weight))
                .ok_or_else(|| "weight is 1 to 65535; to send no new connections, write drain".to_owned()),
            4 if value.is_empty() => Err("an id is one word without blanks".to_owned()),
            5 => field::published(value.as_bytes())
                .map(|public| spec.iter_mut().for_each(|spec| spec.public = Some(public))),
            _ => {
                if let Some(spec) = &mut spec {
                    match which {
                        1 => spec.standby = true,
                        2 => spec.drain = true,
                        3 => spec.native = true,
                        _ => spec.id = Some(value.into()),
                    }
                }
                Ok(())
            }
        };
        if let Err(message) = parsed {
            mistake(word, message);
        }
    }
}
