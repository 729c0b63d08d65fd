//! What `POST /v1/explain` asks, in the words of the engine.

use std::str::FromStr;

use crate::engine::explain::Question;
use crate::path::Surroundings;
use crate::units::{Endpoint, Ip, Proto};

use super::server::{ExplainRequest, Problem};

/// The packet that `request` asks about.
///
/// # Errors
/// 404 for a port that is not there, 400 for words that cannot be understood.
pub fn question(request: &ExplainRequest, around: &Surroundings) -> Result<Question, Problem> {
    let port = around.port_called(&request.port);
    let port = port.ok_or_else(|| Problem::not_found(format!("there is no port `{}`", request.port)))?;
    let proto = parse_proto(&request.proto).map_err(|error| Problem::malformed(format!("`proto`: {error}")))?;
    let end = |key: &str, text: &str| -> Result<Endpoint, Problem> {
        let socket: Socket = text.parse().map_err(|error| Problem::malformed(format!("`{key}`: {error}")))?;
        Ok(Endpoint { proto, ip: socket.ip, port: socket.port })
    };
    Ok(Question { port, src: end("src", &request.src)?, dst: end("dst", &request.dst)? })
}

/// An address with its port: `10.1.0.2:80`, `[fd00::1]:80`, or an address alone for portless protocols.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Socket {
    pub ip: Ip,
    /// 0 where none was given.
    pub port: u16,
}

impl FromStr for Socket {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Socket, &'static str> {
        const EXPECTED: &str = "expected ADDRESS:PORT like 10.1.0.2:80 or [fd00::1]:80, or an address";
        if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
            return Ok(Socket { ip: socket.ip().into(), port: socket.port() });
        }
        let alone = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        alone.parse().map(|ip| Socket { ip, port: 0 }).map_err(|_| EXPECTED)
    }
}

/// A protocol by its name or number.
///
/// # Errors
/// What was expected.
pub fn parse_proto(text: &str) -> Result<Proto, &'static str> {
    Ok(match text {
        "tcp" => Proto::TCP,
        "udp" => Proto::UDP,
        "icmp" => Proto::ICMP,
        "icmpv6" => Proto::ICMPV6,
        "esp" => Proto::ESP,
        "ah" => Proto::AH,
        "gre" => Proto::GRE,
        "sctp" => Proto::SCTP,
        number => Proto(number.parse().map_err(|_| "expected tcp, udp, icmp, esp, ah, gre, sctp or a number")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_of_a_conversation_is_an_address_with_or_without_a_port() {
        let socket = |text: &str| text.parse::<Socket>().map(|s| (s.ip.to_string(), s.port));
        assert_eq!(socket("10.1.0.2:80"), Ok(("10.1.0.2".into(), 80)));
        assert_eq!(socket("[fd00::1]:80"), Ok(("fd00::1".into(), 80)));
        assert_eq!(socket("10.1.0.2"), Ok(("10.1.0.2".into(), 0)));
        assert_eq!(socket("fd00::1"), Ok(("fd00::1".into(), 0)));
        assert!(socket("10.1.0.2:").is_err() && socket("web:80").is_err());
    }
}
