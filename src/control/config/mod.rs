//! The configuration file: TOML in, a plain [`Config`] or every mistake out.

mod engine;
mod health;
mod live;
mod mistake;
mod nearest;
mod neighbour;
mod network;
mod port;
mod reader;
mod server;
mod timers;

use std::fs;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::control::health::Check;
use crate::flow::Timers;
use crate::naming::{Network, NetworkError, Networks, PairRule};
use crate::units::{Ip, Mac, PortId};
use mistake::Mistakes;
use reader::Section;

pub use engine::{Control, Engine, Journal, Poll, SOCKET, STATE_DIR};
pub use live::{live_port_to_json, read_live_port};
pub use mistake::{Mistake, Position};
pub use neighbour::Neighbour;
pub use port::{Port, Role};
pub use server::Server;

/// All that the configuration file says, with defaults filled in and relative paths resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    pub server: Server,
    /// How long connections, answers and entries are waited for.
    pub timers: Timers,
    pub engine: Engine,
    pub control: Control,
    /// In the order of the file, which gives networks their ids.
    pub networks: Vec<Network>,
    /// In the order of the file, which gives ports their ids.
    pub ports: Vec<Port>,
    pub neighbours: Vec<Neighbour>,
    /// Every `[[health]]`: services whose replicas here are probed.
    pub health: Vec<Check>,
    /// Every `[[policy]]`: explicit rules for pairs of networks.
    pub rules: Vec<PairRule>,
}

impl Config {
    /// Reads and checks `file`. Relative paths in it are relative to its directory. Errors with every mistake, in
    /// the order of the file.
    pub fn load(file: &Path) -> Result<Config, Vec<Mistake>> {
        let text = fs::read_to_string(file).map_err(|error| vec![Mistake::in_file(file, error.to_string())])?;
        Config::parse(file, &text)
    }

    /// As [`Config::load`], with the file's text at hand.
    pub fn parse(file: &Path, text: &str) -> Result<Config, Vec<Mistake>> {
        let mut mistakes = Mistakes::new(file, text);
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            mistakes.add(&error.span().unwrap_or_default(), error.message().replace('\n', ": "));
        }
        if !errors.is_empty() {
            return Err(mistakes.into_sorted());
        }
        let config = read(file, root.get_ref(), &mut mistakes);
        let mistakes = mistakes.into_sorted();
        // A section that came back empty has said why.
        config.filter(|_| mistakes.is_empty()).ok_or(mistakes)
    }

    /// The networks with their policy worked out.
    ///
    /// # Errors
    /// Names that are given twice or not at all; none that [`Config::parse`] lets through.
    pub fn build_networks(&self) -> Result<Networks, NetworkError> {
        Networks::new(self.networks.clone(), &self.rules)
    }

    /// The network called `name`.
    #[must_use]
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name)
    }

    /// The id of the port called `name`.
    #[must_use]
    pub fn port_id(&self, name: &str) -> Option<PortId> {
        let at = self.ports.iter().position(|port| port.name == name)?;
        u16::try_from(at).ok().map(PortId)
    }

    /// The port called `name`.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }
}

fn read(file: &Path, root: &DeTable<'_>, mistakes: &mut Mistakes<'_>) -> Option<Config> {
    let directory = file.parent().unwrap_or(Path::new(""));
    let mut sections = Section::new("the configuration", root, 0..0, mistakes);
    if !sections.has("server") {
        sections.mistakes.add(&(0..0), "the [server] section is missing");
    }
    let server = table(&mut sections, "server", "[server]", |section| server::read(section, directory));
    let timers = table(&mut sections, "timers", "[timers]", timers::read);
    let engine = table(&mut sections, "engine", "[engine]", |section| engine::read_engine(section, directory));
    let control = table(&mut sections, "control", "[control]", |section| engine::read_control(section, directory));
    let networks = tables(&mut sections, "network", "[[network]]", network::read);
    let ports = tables(&mut sections, "port", "[[port]]", port::read);
    let neighbours = tables(&mut sections, "neighbour", "[[neighbour]]", neighbour::read_neighbour);
    let policies = tables(&mut sections, "policy", "[[policy]]", neighbour::read_policy);
    let checks = tables(&mut sections, "health", "[[health]]", health::read);
    network::check(&networks, sections.mistakes);
    port::check(&ports, &networks, sections.mistakes);
    neighbour::check(&neighbours, &policies, &networks, &ports, sections.mistakes);
    health::check(&checks, &networks, sections.mistakes);
    sections.finish();
    Some(Config {
        file: file.to_owned(),
        server: server.flatten()?,
        timers: timers.unwrap_or_default(),
        engine: engine.unwrap_or_else(|| Some(Engine::default()))?,
        control: control.unwrap_or_else(|| Some(Control::default()))?,
        networks: networks.into_iter().map(network::Draft::finish).collect::<Option<_>>()?,
        ports: ports.into_iter().map(port::Draft::finish).collect::<Option<_>>()?,
        neighbours: neighbours.into_iter().map(neighbour::NeighbourDraft::finish).collect::<Option<_>>()?,
        health: checks.into_iter().map(health::Draft::finish).collect::<Option<_>>()?,
        rules: policies.into_iter().map(neighbour::PolicyDraft::finish).collect::<Option<_>>()?,
    })
}

/// Reads the table `key`, if there is one.
fn table<T>(
    sections: &mut Section<'_, '_, '_>,
    key: &'static str,
    title: &'static str,
    read: impl FnOnce(&mut Section<'_, '_, '_>) -> T,
) -> Option<T> {
    let value = sections.value(key)?;
    let Some(table) = value.get_ref().as_table() else {
        sections.mistakes.add(&value.span(), format!("`{key}` must be a table: write {title}"));
        return None;
    };
    Some(read_section(title, table, value, sections.mistakes, read))
}

/// Reads every table of the list `key`.
fn tables<T>(
    sections: &mut Section<'_, '_, '_>,
    key: &'static str,
    title: &'static str,
    mut read: impl FnMut(&mut Section<'_, '_, '_>) -> T,
) -> Vec<T> {
    let Some(value) = sections.value(key) else { return Vec::new() };
    let elements = value.get_ref().as_array().map(|array| array.iter().collect());
    let elements: Vec<_> = elements.unwrap_or_else(|| vec![value]);
    let mut drafts = Vec::new();
    for element in elements {
        match element.get_ref().as_table() {
            Some(table) if value.get_ref().is_array() => {
                drafts.push(read_section(title, table, element, sections.mistakes, &mut read));
            }
            _ => sections.mistakes.add(&element.span(), format!("`{key}` is a list of tables: write {title}")),
        }
    }
    drafts
}

fn read_section<T>(
    title: &'static str,
    table: &DeTable<'_>,
    value: &Spanned<DeValue<'_>>,
    mistakes: &mut Mistakes<'_>,
    read: impl FnOnce(&mut Section<'_, '_, '_>) -> T,
) -> T {
    let mut section = Section::new(title, table, value.span(), mistakes);
    let result = read(&mut section);
    section.finish();
    result
}

/// Notes what makes `ip` unfit to be a station's address.
fn check_station(ip: &Spanned<Ip>, key: &str, mistakes: &mut Mistakes<'_>) {
    let address = ip.get_ref().to_std();
    let v4_broadcast = matches!(address, std::net::IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() || v4_broadcast {
        mistakes.add(&ip.span(), format!("`{key}`: {address} is no station's address"));
    }
}

/// Notes what makes `mac` unfit to be a station's address.
fn check_mac(mac: &Spanned<Mac>, key: &str, mistakes: &mut Mistakes<'_>) {
    if mac.get_ref().is_group() || *mac.get_ref() == Mac::ZERO {
        mistakes.add(&mac.span(), format!("`{key}`: {} is no station's address", mac.get_ref()));
    }
}

/// Notes a name that could not be a word of the mapping file and a part of a file name.
fn check_name(name: &Spanned<String>, mistakes: &mut Mistakes<'_>) {
    let text = name.get_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(plain) || text.len() > 64 {
        let message =
            format!("\"{text}\" is no name: use up to 64 letters, digits, `-`, `_` and `.`, a letter or digit first");
        mistakes.add(&name.span(), message);
    }
}

#[cfg(test)]
mod tests;
