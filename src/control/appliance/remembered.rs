//! Live ports, remembered for the next engine: a line of JSON each, beside the state file.
//!
//! A port is an interface of this boot and this network namespace: the container that comes after a reboot has another
//! one, perhaps by the same name, and whoever makes it attaches it. So what is remembered says what it belongs to, and
//! counts for nothing elsewhere.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::state_file::{boot_id, network_namespace};
use crate::control::config::{Config, Port, STATE_DIR, live_port_to_json, read_live_port};
use crate::units::PortId;

/// A live port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Remembered {
    /// It decides which worker serves which of its queues.
    pub id: PortId,
    /// Of its interface: another one may have the name by now.
    pub ifindex: u32,
    pub port: Port,
}

/// What is remembered, and the bytes that say so. Nothing if there is no file, or it is of another boot or namespace; what
/// can't be read is logged.
pub(super) fn read(path: &Path) -> (Vec<Remembered>, Vec<u8>) {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Vec::new(), Vec::new()),
        Err(error) => {
            tracing::error!(file = %path.display(), "live ports are not attached again: {error}");
            return (Vec::new(), Vec::new());
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    if lines.next() != Some(&head()) {
        tracing::info!(file = %path.display(), "no live port is remembered: the file is of another boot or namespace");
        return (Vec::new(), bytes);
    }
    let mut found = Vec::new();
    for line in lines {
        match parse(line) {
            Some(remembered) => found.push(remembered),
            None => tracing::error!(file = %path.display(), "a live port is not attached again: {line}"),
        }
    }
    (found, bytes)
}

/// Remembers these and no others: when it returns, the file is on disk, whole.
pub(super) fn write(path: &Path, ports: impl Iterator<Item = Remembered>) -> io::Result<()> {
    let mut text = head() + "\n";
    for Remembered { id, ifindex, port } in ports {
        let line = json!({ "id": id.0, "ifindex": ifindex, "port": live_port_to_json(&port) });
        text += &format!("{line}\n");
    }
    let unfinished = path.with_added_extension("new");
    let mut file = File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

/// Forgets the live ports of this network namespace: those of the engine with this configuration, or of all that keep their
/// state in the default place.
///
/// # Errors
/// A file is there and can't be removed.
pub fn forget_live_ports(config: Option<&Config>) -> io::Result<()> {
    let namespace = network_namespace();
    let files: Vec<PathBuf> = match config {
        Some(config) => vec![config.engine.ports_file(namespace, config.server.ips[0])],
        None => {
            let is_ours = |path: &PathBuf| {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                name.starts_with(&format!("{namespace}-")) && name.ends_with(".ports")
            };
            let entries = fs::read_dir(STATE_DIR).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(is_ours).collect()
        }
    };
    files.iter().try_for_each(|file| match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    })
}

fn head() -> String {
    let boot = boot_id().map(u128::from_be_bytes).unwrap_or_default();
    json!({ "live_ports": 1, "boot": format!("{boot:032x}"), "namespace": network_namespace() }).to_string()
}

fn parse(line: &str) -> Option<Remembered> {
    let line: Value = serde_json::from_str(line).ok()?;
    let number = |key: &str| line[key].as_u64();
    Some(Remembered {
        id: PortId(number("id")?.try_into().ok()?),
        ifindex: number("ifindex")?.try_into().ok()?,
        port: read_live_port(line["port"].as_object()?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_remembered_for_this_boot_and_namespace_alone() {
        let path = std::env::temp_dir().join(format!("sixway-{}-remembered", std::process::id()));
        assert_eq!(read(&path), (Vec::new(), Vec::new()));
        let form = json!({ "name": "web7", "interface": "veth-web7", "network": "blue", "mac": "02:42:0a:00:00:07" });
        let port = read_live_port(form.as_object().unwrap()).unwrap();
        let ports = vec![Remembered { id: PortId(9), ifindex: 12, port }];
        write(&path, ports.iter().cloned()).unwrap();
        let (found, bytes) = read(&path);
        assert_eq!((&found, &bytes), (&ports, &fs::read(&path).unwrap()));

        let text = String::from_utf8(bytes).unwrap();
        fs::write(&path, format!("{text}{{\"id\":1}}\n")).unwrap();
        assert_eq!(read(&path).0, ports, "a line that can't be read costs no other");
        fs::write(&path, text.replacen("\"boot\":\"", "\"boot\":\"f", 1)).unwrap();
        assert_eq!(read(&path).0, []);
        fs::remove_file(&path).unwrap();
    }
}
