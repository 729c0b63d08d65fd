//! What a packet tells the state.

/// What a packet means to clocks and entries. ICMP errors mean nothing to them: they are looked up by the `peek`
/// functions and filtered as the flow that they embed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Signal {
    /// TCP, SYN without ACK: somebody opens a connection.
    Syn,
    /// TCP, SYN with ACK: somebody accepts one, or both opened it at once (RFC 9293 section 3.5).
    SynAck,
    /// TCP, none of the others: acknowledgements and data.
    Segment,
    /// TCP, FIN.
    Fin,
    /// TCP, RST, whatever else is set.
    Rst,
    /// UDP, ICMP echo, and protocols without ports.
    Datagram,
}

impl Signal {
    /// The signal of a TCP segment by its flag bits, FIN being the lowest (RFC 9293 section 3.1).
    #[must_use]
    pub const fn tcp(flags: u8) -> Signal {
        const FIN: u8 = 0x01;
        const SYN: u8 = 0x02;
        const RST: u8 = 0x04;
        const ACK: u8 = 0x10;
        if flags & RST != 0 {
            Signal::Rst
        } else if flags & SYN != 0 {
            if flags & ACK != 0 { Signal::SynAck } else { Signal::Syn }
        } else if flags & FIN != 0 {
            Signal::Fin
        } else {
            Signal::Segment
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Signal;

    #[test]
    fn the_strongest_flag_speaks() {
        assert_eq!(Signal::tcp(0x02), Signal::Syn);
        assert_eq!(Signal::tcp(0x12), Signal::SynAck);
        assert_eq!(Signal::tcp(0x10), Signal::Segment);
        assert_eq!(Signal::tcp(0x11), Signal::Fin);
        assert_eq!(Signal::tcp(0x14), Signal::Rst);
        assert_eq!(Signal::tcp(0xff), Signal::Rst);
    }
}
