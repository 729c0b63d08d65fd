//! What a sender chooses besides the ends of a packet.

use super::parcel::{Checksum, End, Extras, L4, Parcel};
use super::random::Random;
use super::{ACK, FIN, RST, SYN};

#[derive(Clone, Debug)]
pub struct Shape {
    ttl: u8,
    id: u16,
    dont_fragment: bool,
    class: u8,
    flow_label: u32,
    extras: usize,
    numbers: (u32, u32),
    mss: Option<(u16, bool)>,
    checksum: Checksum,
    payload: Vec<u8>,
    /// What an error says, and how much of the packet it quotes beyond the first eight bytes of the transport header.
    error: usize,
    quote: usize,
}

/// IPv4 options that pass, without a source route.
const OPTIONS: [&[u8]; 5] = [
    &[],
    &[0x94, 4, 0, 0],
    &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[1, 1, 1, 0],
    &[0x44, 12, 5, 0, 1, 2, 3, 4, 0, 0, 0, 0],
];
/// IPv6 extension headers that do: hop-by-hop, destination options, and a routing header that has been used up.
const HEADERS: [&[(u8, &[u8])]; 5] = [
    &[],
    &[(0, &[0, 5, 2, 0, 0, 1, 0])],
    &[(60, &[1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
    &[(0, &[0, 1, 4, 0, 0, 0, 0]), (60, &[0, 1, 4, 0, 0, 0, 0])],
    &[(43, &[0, 4, 0, 0, 0, 0, 0])],
];
/// Kinds and codes of errors.
const ERRORS_V4: [(u8, u8); 9] = [(3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 13), (11, 0), (11, 1), (12, 0)];
const ERRORS_V6: [(u8, u8); 8] = [(1, 0), (1, 1), (1, 3), (1, 4), (2, 0), (3, 0), (3, 1), (4, 1)];
/// The longest payload.
const LONG: usize = 1280;

impl Shape {
    pub fn plain() -> Shape {
        Shape {
            ttl: 64,
            id: 0,
            dont_fragment: true,
            class: 0,
            flow_label: 0,
            extras: 0,
            numbers: (1000, 2000),
            mss: None,
            checksum: Checksum::Right,
            payload: b"six ways".to_vec(),
            error: 3,
            quote: 0,
        }
    }

    pub fn random(random: &mut Random) -> Shape {
        let len = if random.once_in(12) { random.below(LONG + 1) } else { random.below(64) };
        let mut payload = Vec::with_capacity(len + 8);
        while payload.len() < len {
            payload.extend(random.word().to_ne_bytes());
        }
        payload.truncate(len);
        let checksum = match random.below(16) {
            0..=4 => Checksum::Partial,
            5..=6 => Checksum::None,
            7 => Checksum::Wrong(random.within(1, 0xfffe)),
            _ => Checksum::Right,
        };
        let bits = random.word();
        Shape {
            ttl: random.within(8, 255) as u8,
            id: bits as u16,
            dont_fragment: bits >> 16 & 1 == 0,
            class: (bits >> 20) as u8,
            flow_label: (bits >> 32) as u32 & 0xf_ffff,
            extras: if random.once_in(4) { random.below(OPTIONS.len()) } else { 0 },
            numbers: (random.word() as u32, random.word() as u32),
            mss: (bits >> 17 & 1 == 0).then(|| (random.within(536, 9000), bits >> 18 & 1 == 0)),
            checksum,
            payload,
            error: random.below(72),
            quote: random.below(600),
        }
    }

    /// Shapes that are closer to the plain one.
    pub fn simpler(&self) -> Vec<Shape> {
        let plain = Shape::plain();
        let own = || self.clone();
        vec![
            Shape { error: self.error, ..plain.clone() },
            Shape { payload: plain.payload, ..own() },
            Shape { extras: 0, ..own() },
            Shape { checksum: Checksum::Right, ..own() },
            Shape { mss: None, ..own() },
            Shape { id: 0, dont_fragment: true, ..own() },
            Shape { ttl: 64, class: 0, flow_label: 0, numbers: plain.numbers, ..own() },
            Shape { quote: 0, ..own() },
        ]
    }

    /// A packet of the protocol: `tcp_flags` for TCP, and whether an echo is a reply. From a container, whose stack may
    /// leave the checksum to others; from elsewhere not.
    pub fn parcel(&self, ends: (End, End), proto: u8, (flags, is_answer): (u8, bool), from_container: bool) -> Parcel {
        let l4 = match proto {
            6 => {
                let mss = self.mss.filter(|_| flags & SYN != 0);
                L4::Tcp { flags, numbers: self.numbers, mss }
            }
            17 => L4::Udp,
            1 | 58 => L4::Echo { is_reply: is_answer, sequence: self.numbers.0 as u16 },
            other => L4::Other(other),
        };
        let mut parcel = self.around(ends, l4);
        let v4 = parcel.is_v4();
        parcel.checksum = match self.checksum {
            Checksum::Partial if !from_container || !matches!(proto, 6 | 17 | 132) => Checksum::Right,
            Checksum::None if proto != 17 || !v4 => Checksum::Right,
            other => other,
        };
        parcel.payload.clone_from(&self.payload);
        if proto == 132 {
            parcel.payload.resize(self.payload.len().max(12), 0);
        }
        // A wrong checksum that is what a stack would have left to others is taken for that.
        if let Checksum::Wrong(_) = parcel.checksum {
            let partial = Parcel { checksum: Checksum::Partial, ..parcel.clone() };
            if partial.packet() == parcel.packet() {
                parcel.checksum = Checksum::Right;
            }
        }
        parcel
    }

    /// An error about `quoted`, from and to addresses.
    pub fn error(&self, ends: (End, End), quoted: &Parcel) -> Parcel {
        let v4 = quoted.is_v4();
        let (kind, code) =
            if v4 { ERRORS_V4[self.error % ERRORS_V4.len()] } else { ERRORS_V6[self.error % ERRORS_V6.len()] };
        let whole = quoted.packet().len();
        let least = quoted.header_len() + 8;
        // Nobody quotes half a word.
        let cut = (least + self.quote / 2 * 2).min(whole);
        let rest = (self.numbers.0).to_be_bytes();
        let mut parcel = self.around(ends, L4::Error { kind, code, rest, quoted: quoted.quoted(Some(cut)) });
        if let Checksum::Wrong(_) = self.checksum {
            parcel.checksum = self.checksum;
        }
        parcel
    }

    fn around(&self, (src, dst): (End, End), l4: L4) -> Parcel {
        let extras = Extras {
            options: if src.0.is_ipv4() { OPTIONS[self.extras].to_vec() } else { Vec::new() },
            headers: match src.0.is_ipv4() {
                true => Vec::new(),
                false => HEADERS[self.extras].iter().map(|&(number, body)| (number, body.to_vec())).collect(),
            },
        };
        Parcel {
            src,
            dst,
            ttl: self.ttl,
            id: self.id,
            dont_fragment: self.dont_fragment,
            class: self.class,
            flow_label: self.flow_label,
            extras,
            l4,
            checksum: Checksum::Right,
            payload: Vec::new(),
            cut: None,
        }
    }
}

/// What TCP may send in mid-connection.
pub fn later_flags(random: &mut Random) -> u8 {
    random.pick(&[ACK, ACK, ACK, FIN | ACK, RST | ACK])
}
