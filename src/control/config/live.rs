//! A port that is attached while the engine runs: the keys of `[[port]]`, as JSON, through the same reader.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Map, Value, json};
use toml::de::DeTable;

use super::mistake::Mistakes;
use super::port::{self, Kind};
use super::reader::Section;
use super::{Port, Role};

/// Reads an access port. `role` need not be given.
///
/// # Errors
/// Every mistake in it.
pub fn read_live_port(form: &Map<String, Value>) -> Result<Port, Vec<String>> {
    let text = as_toml(form);
    let mut mistakes = Mistakes::new(Path::new(""), &text);
    let (root, errors) = DeTable::parse_recoverable(&text);
    for error in &errors {
        mistakes.add(&error.span().unwrap_or_default(), error.message().replace('\n', ": "));
    }
    let mut section = Section::new("the port", root.get_ref(), 0..0, &mut mistakes);
    let draft = port::read(&mut section);
    if !section.has("interface") && section.has("address") {
        section.missing("interface", "\"veth-web1\"");
    }
    if let Some(role) = draft.role.as_ref().filter(|role| *role.get_ref() != Kind::Access) {
        let message = "only access ports are attached while the engine runs: write others into the configuration";
        section.mistakes.add(&role.span(), message);
    }
    section.finish();
    let mistakes = mistakes.into_sorted();
    // A key that is missing has been noted.
    draft.finish().filter(|_| mistakes.is_empty()).ok_or_else(|| mistakes.into_iter().map(|it| it.message).collect())
}

/// What [`read_live_port`] would read.
#[must_use]
pub fn live_port_to_json(port: &Port) -> Value {
    let mut form = json!({ "name": port.name, "interface": port.interface });
    if let Role::Access { network, mac, id } = &port.role {
        form["network"] = network.as_str().into();
        if let Some(mac) = mac {
            form["mac"] = mac.to_string().into();
        }
        if let Some(id) = id {
            form["id"] = id.as_str().into();
        }
    }
    form
}

/// The same in TOML. What has no meaning there, and none in a port, becomes a table, which is a mistake wherever it is.
fn as_toml(form: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (key, value) in form.iter().filter(|(_, value)| !value.is_null()) {
        // Strings of JSON, as they are written here, are basic strings of TOML.
        let key = Value::from(key.as_str());
        let _ = match value {
            Value::String(_) | Value::Bool(_) => writeln!(text, "{key} = {value}"),
            Value::Number(number) if number.is_i64() => writeln!(text, "{key} = {number}"),
            _ => writeln!(text, "{key} = {{}}"),
        };
    }
    if form.get("role").is_none_or(Value::is_null) {
        text.push_str("role = \"access\"\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: Value) -> Result<Port, Vec<String>> {
        read_live_port(form.as_object().unwrap())
    }

    #[test]
    fn a_port_has_the_keys_of_the_configuration() {
        let form = json!({
            "name": "web7", "interface": "veth-web7", "network": "blue", "mac": "02:42:0a:01:00:02", "id": "a\u{1}",
        });
        let port = read(form.clone()).unwrap();
        assert_eq!(live_port_to_json(&port), form);
        let bare = json!({"name": "web7", "interface": "veth-web7", "network": "blue"});
        assert_eq!(
            read(json!({"name": "web7", "interface": "veth-web7", "network": "blue", "role": "access", "mac": null})),
            read(bare)
        );
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let said = read(json!({
            "name": "no name", "interface": "veth/7", "netwrok": "blue", "mac": [1], "mtu": 1.5, "id": 7, "arp": true,
        }));
        let said = said.unwrap_err();
        let expected = [
            "is no name",
            "is no interface name",
            "did you mean `network`",
            "`mac` must be a string",
            "`mtu` must be",
            "`id` must be a string",
            "`arp` has no meaning",
            "needs `network`",
        ];
        for part in expected {
            assert!(said.iter().any(|it| it.contains(part)), "{part}: {said:?}");
        }
        assert_eq!(said.len(), expected.len(), "{said:?}");
    }

    #[test]
    fn only_access_ports_come_live_and_only_with_an_interface() {
        let said = read(json!({"name": "up", "interface": "eth2", "role": "uplink"})).unwrap_err();
        assert!(said[0].contains("only access ports") && said.len() == 1, "{said:?}");
        let said = read(json!({"name": "a", "network": "blue", "address": "02:00:00:00:00:01"})).unwrap_err();
        assert!(said[0].contains("needs `interface`") && said.len() == 1, "{said:?}");
        assert!(read(json!({})).unwrap_err().len() >= 3);
    }
}
