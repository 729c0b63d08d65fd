//! The words of a line, and of the JSON form's texts.

use crate::units::{Ip, Mac, PortRange};

use super::super::spec::{Ports, Published};

/// One half of a six-tuple as written: address and ports.
#[derive(Clone, Copy)]
pub(in super::super) struct Half {
    pub(in super::super) ip: Ip,
    pub(in super::super) ports: WrittenPorts,
}

/// Ports as written.
#[derive(Clone, Copy)]
pub(in super::super) enum WrittenPorts {
    /// `*`: the numbers of the other half.
    Same,
    Ports(Ports),
}

/// A MAC, or `-` for one that is to be resolved.
pub(in super::super) fn mac(text: &[u8]) -> Result<Option<Mac>, String> {
    if text == b"-" {
        return Ok(None);
    }
    let expected = || {
        let text = String::from_utf8_lossy(text);
        format!("`{text}` is no MAC address: write it like 02:42:0a:01:00:02, or - to have it resolved")
    };
    if text.len() != 17 {
        return Err(expected());
    }
    let mut octets = [0; 6];
    for (octet, part) in octets.iter_mut().zip(text.chunks(3)) {
        let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
        let (Some(high), Some(low)) = (digit(part[0]), digit(part[1])) else { return Err(expected()) };
        if part.get(2).is_some_and(|&byte| byte != b':') {
            return Err(expected());
        }
        *octet = high << 4 | low;
    }
    Ok(Some(Mac(octets)))
}

/// `10.1.0.2:80`, `10.1.0.2:20736-20991`, `10.1.0.2:*`, `10.1.0.2`, or the same with `[fd00::2]`.
pub(in super::super) fn half(text: &[u8]) -> Result<Half, String> {
    let (ip, rest) = address(text)?;
    let ports = match rest {
        None => WrittenPorts::Ports(Ports::None),
        Some(ports) => self::ports(ports)?,
    };
    Ok(Half { ip, ports })
}

/// `*`, `80` or `20736-20991`.
pub(in super::super) fn ports(text: &[u8]) -> Result<WrittenPorts, String> {
    if text == b"*" {
        return Ok(WrittenPorts::Same);
    }
    let expected = || {
        let text = String::from_utf8_lossy(text);
        format!("`{text}` is no port (0-65535), no range like 20736-20991 and no *")
    };
    let Some(dash) = text.iter().position(|&byte| byte == b'-') else {
        return number(text).map(|port| WrittenPorts::Ports(Ports::One(port))).ok_or_else(expected);
    };
    let (first, last) = number(&text[..dash]).zip(number(&text[dash + 1..])).ok_or_else(expected)?;
    if first > last {
        return Err(format!("the range {first}-{last} ends before it starts: write {last}-{first}"));
    }
    Ok(WrittenPorts::Ports(Ports::Block(PortRange { first, last })))
}

/// `203.0.113.9`, `203.0.113.9:4500`, `[2001:db8::9]:4500`.
pub(in super::super) fn published(text: &[u8]) -> Result<Published, String> {
    let (ip, rest) = address(text)?;
    let port = match rest {
        None => None,
        Some(port) => Some(
            number(port)
                .filter(|&port| port > 0)
                .ok_or_else(|| format!("`{}` is no public port: 1 to 65535", String::from_utf8_lossy(port)))?,
        ),
    };
    Ok(Published { ip, port })
}

/// An address, and what follows the colon after it.
fn address(text: &[u8]) -> Result<(Ip, Option<&[u8]>), String> {
    let shown = || String::from_utf8_lossy(text);
    if let Some(rest) = text.strip_prefix(b"[") {
        let unclosed = || format!("`{}`: a [ without its ]", shown());
        let close = rest.iter().position(|&byte| byte == b']').ok_or_else(unclosed)?;
        let ip = std::str::from_utf8(&rest[..close]).ok().and_then(|ip| ip.parse::<std::net::Ipv6Addr>().ok());
        let ip =
            ip.map(Ip::from).ok_or_else(|| format!("`{}`: brackets hold an IPv6 address, like [fd00::2]", shown()))?;
        if ip.is_v4() {
            return Err(format!("{ip} is an IPv4 address: write it without brackets"));
        }
        return match &rest[close + 1..] {
            [] => Ok((ip, None)),
            [b':', port @ ..] => Ok((ip, Some(port))),
            _ => Err(format!("`{}`: expected :PORT after the ]", shown())),
        };
    }
    let colon = text.iter().position(|&byte| byte == b':');
    let (ip, rest) = match colon {
        Some(colon) if text[colon + 1..].contains(&b':') => {
            return Err(format!("`{}`: an IPv6 address stands in brackets, like [fd00::2]:80", shown()));
        }
        Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
        None => (text, None),
    };
    let ip = std::str::from_utf8(ip).ok().and_then(|ip| ip.parse::<std::net::Ipv4Addr>().ok());
    Ok((ip.map(Ip::from).ok_or_else(|| format!("`{}` is no IP address: expected IP:PORT", shown()))?, rest))
}

/// A decimal number of 16 bits, of digits alone.
pub(in super::super) fn number(text: &[u8]) -> Option<u16> {
    if text.is_empty() || text.len() > 5 {
        return None;
    }
    let digits = text.iter().map(|byte| byte.is_ascii_digit().then(|| u32::from(byte - b'0')));
    let value = digits.reduce(|value, digit| Some(value? * 10 + digit?))??;
    u16::try_from(value).ok()
}
