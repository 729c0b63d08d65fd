//! How many packets of each kind went through.

use std::collections::BTreeMap;

use super::parcels::{Checksum, L4, Parcel};
use super::talk::Way;

/// A way, a family and a protocol.
pub type Kind = (Way, bool, &'static str);

#[derive(Default)]
pub struct Tally {
    /// Packets that came out as they had to.
    pub packets: u64,
    pub conversations: u64,
    kinds: BTreeMap<Kind, (u64, u64)>,
    features: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub fn kind(&self, way: Way, v4: bool, proto: u8) -> Kind {
        (way, v4, proto_name(proto))
    }

    /// One more packet of the kind.
    pub fn count(&mut self, kind: Kind) {
        self.kinds.entry(kind).or_default().0 += 1;
    }

    /// One more error about one.
    pub fn count_error(&mut self, kind: Kind) {
        self.kinds.entry(kind).or_default().1 += 1;
    }

    pub fn feature(&mut self, name: &'static str) {
        *self.features.entry(name).or_default() += 1;
    }

    pub fn feature_of(&mut self, parcel: &Parcel) {
        let features = [
            (!parcel.extras.options.is_empty(), "with IPv4 options"),
            (!parcel.extras.headers.is_empty(), "with extension headers"),
            (parcel.checksum == Checksum::Partial, "with a partial checksum"),
            (parcel.checksum == Checksum::None, "without a UDP checksum"),
            (matches!(parcel.checksum, Checksum::Wrong(_)), "with a wrong checksum"),
            (matches!(parcel.l4, L4::Tcp { mss: Some(_), .. }), "with an MSS"),
            (parcel.is_v4() && !parcel.dont_fragment, "that may be fragmented"),
            (parcel.payload.len() > 1000, "of more than 1000 bytes"),
        ];
        for (has, name) in features {
            if has {
                self.feature(name);
            }
        }
    }

    pub fn add(&mut self, other: Tally) {
        self.packets += other.packets;
        self.conversations += other.conversations;
        for (kind, (packets, errors)) in other.kinds {
            let sum = self.kinds.entry(kind).or_default();
            *sum = (sum.0 + packets, sum.1 + errors);
        }
        for (name, count) in other.features {
            *self.features.entry(name).or_default() += count;
        }
    }

    pub fn ways(&self) -> impl Iterator<Item = Way> {
        self.kinds.keys().map(|&(way, ..)| way)
    }

    /// A line for each kind, then one for each feature.
    pub fn lines(&self) -> Vec<String> {
        let kinds = self.kinds.iter().map(|((way, v4, proto), (packets, errors))| {
            let family = if *v4 { 4 } else { 6 };
            let way = format!("{way:?}").to_lowercase();
            format!("{packets:>9} {way:<12} IPv{family} {proto:<5} and {errors:>7} errors about them")
        });
        let features = self.features.iter().map(|(name, count)| format!("{count:>9} {name}"));
        kinds.chain(features).collect()
    }
}

/// A protocol by its name.
fn proto_name(proto: u8) -> &'static str {
    match proto {
        1 | 58 => "echo",
        6 => "tcp",
        17 => "udp",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        132 => "sctp",
        _ => "other",
    }
}
