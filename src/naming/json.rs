//! The JSON form of bindings and their keys, as the control socket speaks it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::{Ip, Mac, PortRange};

use super::mapping::field::{self, WrittenPorts};
use super::spec::{BindingKey, BindingSpec, KeyPorts, Ports, Protocol};

/// `{"network":"blue","proto":"tcp","server":{…},"container":{…},"weight":2}`
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BindingForm<'a> {
    #[serde(borrow)]
    network: Text<'a>,
    proto: Text<'a>,
    server: HalfForm<'a>,
    container: HalfForm<'a>,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    weight: u16,
    #[serde(default, skip_serializing_if = "is_false")]
    standby: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    drain: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    native: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public: Option<Text<'a>>,
}

/// `{"network":"blue","proto":"tcp","container":{…},"id":"…"}`
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyForm<'a> {
    #[serde(borrow)]
    network: Text<'a>,
    proto: Text<'a>,
    container: HalfForm<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<Text<'a>>,
}

/// `{"mac":"…","ip":"…","port":80}`, with `"ports":"20736-20991"` or `"port":"*"` for a block, and neither for a
/// portless protocol.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HalfForm<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    mac: Option<Text<'a>>,
    ip: Text<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<PortForm<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ports: Option<Text<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum PortForm<'a> {
    Number(u16),
    Text(Text<'a>),
}

/// A text that is not copied where it stands in the JSON as it is: a whole mapping has ten million of them.
#[derive(Serialize)]
#[serde(transparent)]
struct Text<'a>(Cow<'a, str>);

impl<T: ToString> From<T> for Text<'_> {
    fn from(shown: T) -> Self {
        Text(Cow::Owned(shown.to_string()))
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for PortForm<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PortForm<'a>, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = PortForm<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port is a number of 0 to 65535, or \"*\"")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<PortForm<'de>, E> {
                let port = u16::try_from(number).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self));
                port.map(PortForm::Number)
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<PortForm<'de>, E> {
                Ok(PortForm::Text(Text(Cow::Borrowed(text))))
            }

            fn visit_str<E>(self, text: &str) -> Result<PortForm<'de>, E> {
                Ok(PortForm::Text(Text(Cow::Owned(text.to_owned()))))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'a> HalfForm<'a> {
    fn new(mac: Option<Mac>, ip: Ip, ports: Ports, same_numbers: bool) -> HalfForm<'a> {
        let (port, ports) = match ports {
            _ if same_numbers => (Some(PortForm::Text(Text(Cow::Borrowed("*")))), None),
            Ports::None => (None, None),
            Ports::One(port) => (Some(PortForm::Number(port)), None),
            Ports::Block(range) => (None, Some(range.into())),
        };
        HalfForm { mac: mac.map(Text::from), ip: ip.into(), port, ports }
    }

    fn read(&self) -> Result<(Option<Mac>, Ip, WrittenPorts), String> {
        let mac = self.mac.as_ref().map_or(Ok(None), |text| field::mac(text.as_bytes()))?;
        let ip = self.ip.parse().map_err(|_| format!("`{}` is no IP address", &*self.ip))?;
        let ports = match (&self.port, &self.ports) {
            (None, None) => WrittenPorts::Ports(Ports::None),
            (Some(PortForm::Number(port)), None) => WrittenPorts::Ports(Ports::One(*port)),
            (Some(PortForm::Text(text)), None) | (None, Some(text)) => field::ports(text.as_bytes())?,
            (Some(_), Some(_)) => return Err("give port or ports, not both".to_owned()),
        };
        Ok((mac, ip, ports))
    }
}

fn one() -> u16 {
    1
}

// By reference, as serde calls them.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_one(weight: &u16) -> bool {
    *weight == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

fn protocol(word: &str, ip: Ip) -> Result<Protocol, String> {
    let expected = || format!("unknown protocol `{word}`: expected any, tcp, udp, icmp, esp, ah, gre or sctp");
    Protocol::from_word(word, ip.is_v4()).ok_or_else(expected)
}

impl TryFrom<BindingForm<'_>> for BindingSpec {
    type Error = String;

    fn try_from(form: BindingForm<'_>) -> Result<BindingSpec, String> {
        let (server_mac, server_ip, wire) = form.server.read().map_err(|why| format!("server: {why}"))?;
        let (mac, ip, inside) = form.container.read().map_err(|why| format!("container: {why}"))?;
        let WrittenPorts::Ports(wire) = wire else {
            return Err("server: * stands on the container's side only".to_owned());
        };
        let inside = match (inside, wire) {
            (WrittenPorts::Ports(ports), _) => ports,
            (WrittenPorts::Same, Ports::Block(_)) => wire,
            (WrittenPorts::Same, _) => {
                return Err("container: * stands for the numbers of a client block: give the server `ports`".to_owned());
            }
        };
        let public = form.public.map(|text| field::published(text.as_bytes())).transpose()?;
        let spec = BindingSpec {
            network: (&*form.network).into(),
            proto: protocol(&form.proto, ip)?,
            server_mac,
            server_ip,
            wire,
            mac,
            ip,
            inside,
            weight: form.weight,
            standby: form.standby,
            drain: form.drain,
            native: form.native,
            id: form.id.map(|id| (&*id).into()),
            public,
        };
        spec.check().map_err(|fault| fault.message)?;
        Ok(spec)
    }
}

impl TryFrom<KeyForm<'_>> for BindingKey {
    type Error = String;

    fn try_from(form: KeyForm<'_>) -> Result<BindingKey, String> {
        let (mac, ip, ports) = form.container.read().map_err(|why| format!("container: {why}"))?;
        let ports = match ports {
            WrittenPorts::Same => KeyPorts::SameNumbers,
            WrittenPorts::Ports(ports) => KeyPorts::Exactly(ports),
        };
        let proto = protocol(&form.proto, ip)?;
        Ok(BindingKey { network: (&*form.network).into(), proto, mac, ip, ports, id: form.id.map(|id| (&*id).into()) })
    }
}

impl Serialize for BindingSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = BindingForm {
            network: Text(Cow::Borrowed(&self.network)),
            proto: self.proto.into(),
            server: HalfForm::new(self.server_mac, self.server_ip, self.wire, false),
            container: HalfForm::new(self.mac, self.ip, self.inside, self.is_same_numbers()),
            weight: self.weight,
            standby: self.standby,
            drain: self.drain,
            native: self.native,
            id: self.id.as_deref().map(|id| Text(Cow::Borrowed(id))),
            public: self.public.map(Text::from),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BindingSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BindingSpec, D::Error> {
        BindingForm::deserialize(deserializer)?.try_into().map_err(D::Error::custom)
    }
}

impl Serialize for BindingKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (ports, same) = match self.ports {
            KeyPorts::SameNumbers => (Ports::Block(PortRange { first: 0, last: 0 }), true),
            KeyPorts::Exactly(ports) => (ports, false),
        };
        let form = KeyForm {
            network: Text(Cow::Borrowed(&self.network)),
            proto: self.proto.into(),
            container: HalfForm::new(self.mac, self.ip, ports, same),
            id: self.id.as_deref().map(|id| Text(Cow::Borrowed(id))),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BindingKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BindingKey, D::Error> {
        KeyForm::deserialize(deserializer)?.try_into().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<BindingSpec, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn the_form_is_that_of_the_api() {
        for json in [
            r#"{"network":"blue","proto":"tcp","server":{"mac":"02:00:00:00:00:02","ip":"192.168.50.2","port":20480},"container":{"mac":"02:42:0a:02:00:02","ip":"10.2.0.2","port":80},"weight":2}"#,
            r#"{"network":"blue","proto":"any","server":{"ip":"192.168.50.1","ports":"20736-20991"},"container":{"ip":"10.1.0.2","port":"*"},"native":true}"#,
            r#"{"network":"blue","proto":"any","server":{"ip":"192.168.50.1","ports":"21248-21503"},"container":{"ip":"10.1.0.2","ports":"20736-20991"}}"#,
            r#"{"network":"blue","proto":"esp","server":{"ip":"192.168.50.2"},"container":{"ip":"203.0.113.9"},"standby":true,"drain":true,"id":"r1","public":"203.0.113.9"}"#,
            r#"{"network":"blue","proto":"icmp","server":{"ip":"fd00::1","port":20480},"container":{"ip":"fd00::2","port":9},"public":"[2001:db8::1]:9"}"#,
        ] {
            assert_eq!(serde_json::to_string(&read(json).unwrap()).unwrap(), json);
        }
        let key = r#"{"network":"blue","proto":"any","container":{"ip":"10.1.0.2","port":"*"},"id":"r1"}"#;
        assert_eq!(serde_json::to_string(&serde_json::from_str::<BindingKey>(key).unwrap()).unwrap(), key);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let with = |server: &str, container: &str, rest: &str| {
            let json = format!(
                r#"{{"network":"blue","proto":"tcp","server":{{"ip":"192.168.50.2",{server}}},"container":{{"ip":"10.2.0.2",{container}}}{rest}}}"#
            );
            read(&json).unwrap_err()
        };
        for (mistake, expected) in [
            (with(r#""port":20480"#, r#""port":80"#, r#","wieght":2"#), "unknown field `wieght`"),
            (with(r#""port":20480"#, r#""port":70000"#, ""), "a port is a number of 0 to 65535"),
            (with(r#""port":20480,"ports":"20480-20481""#, r#""port":80"#, ""), "server: give port or ports, not both"),
            (with(r#""port":"*""#, r#""port":80"#, ""), "server: * stands on the container's side only"),
            (with(r#""port":20480"#, r#""port":"*""#, ""), "container: * stands for the numbers"),
            (with(r#""ports":"20737-20992""#, r#""port":"*""#, ""), "is not aligned"),
            (with(r#""port":20480,"mac":"x""#, r#""port":80"#, ""), "`x` is no MAC address"),
            (with(r#""port":20480"#, r#""port":80"#, r#","weight":0"#), "weight is 1 to 65535"),
        ] {
            assert!(mistake.contains(expected), "{mistake}\nexpected: {expected}");
        }
    }
}
