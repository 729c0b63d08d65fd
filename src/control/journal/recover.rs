//! What a journal's bytes say of the mapping. Pure functions.

use std::collections::{HashMap, HashSet};

use super::frame::{self, End};
use super::record::{self, FileMark, Line};
use crate::naming::{BindingKey, BindingSpec, Health, HealthReport, KeyPorts, Located, Words, in_turns};
use crate::units::Ip;

/// What is good in a journal.
#[derive(Debug)]
pub struct Recovered {
    pub id: u64,
    /// The mapping file that it went out from; none, if not even that is good.
    pub base: Option<FileMark>,
    /// It holds the whole mapping.
    pub complete: bool,
    /// Change sets, those before the listing was complete included.
    pub change_sets: u64,
    /// Those that say something of bindings, and not of their health alone.
    pub of_mapping: u64,
    /// The latest.
    pub generation: u64,
    /// When the latest that says something of bindings was accepted, in milliseconds since 1970.
    pub last_change_ms: u64,
    /// Frames that are good.
    pub frames: u64,
    /// Where the last of them ends.
    pub good: usize,
    pub end: End,
    listed: Vec<Located<BindingSpec>>,
    /// What changes have made of bindings: none, where one is gone.
    touched: HashMap<BindingKey, Option<BindingSpec>>,
    /// What is known of bindings, and on which servers.
    health: HashMap<BindingKey, (Ip, Health)>,
    /// When the change set that is being read was accepted, if nothing of bindings has come yet.
    begun: Option<u64>,
    /// Their inside addresses. Most bindings have none of these, and need no key to be made and looked up.
    touched_ips: HashSet<Ip>,
}

/// Reads a journal. A frame that is whole but says what this version does not know counts as corrupt.
#[must_use]
pub fn recover(bytes: &[u8]) -> Recovered {
    let frames = frame::find(bytes);
    let mut recovered = Recovered {
        id: frames.id,
        base: None,
        complete: false,
        change_sets: 0,
        of_mapping: 0,
        generation: 0,
        last_change_ms: 0,
        frames: 0,
        good: frames.good,
        end: frames.end,
        listed: Vec::new(),
        touched: HashMap::new(),
        health: HashMap::new(),
        begun: None,
        touched_ips: HashSet::new(),
    };
    in_turns(
        &frames.texts,
        |text| lines(&bytes[text.clone()]).ok_or(text.start),
        |lines| match lines {
            Ok(lines) => {
                recovered.frames += 1;
                lines.into_iter().for_each(|line| recovered.take(line));
                true
            }
            // Whole frames only: nothing of one that can't be read.
            Err(start) => {
                recovered.good = start - frame::HEADER;
                recovered.end = End::Corrupt;
                false
            }
        },
    );
    recovered
}

fn lines(text: &[u8]) -> Option<Vec<Line>> {
    let (mut words, text) = (Words::default(), text.strip_suffix(b"\n")?);
    let mut lines = Vec::with_capacity(text.len() / 80 + 1);
    for line in text.split(|&byte| byte == b'\n') {
        lines.push(record::read(line, &mut words)?);
    }
    Some(lines)
}

impl Recovered {
    /// It lists bindings and not all of them: nobody may take it for the mapping.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.complete && !self.listed.is_empty()
    }

    /// The whole mapping. A journal that is not complete goes out from the bindings of its mapping file.
    /// It is taken out.
    #[must_use]
    pub fn take_mapping(&mut self, base: Vec<Located<BindingSpec>>) -> Vec<Located<BindingSpec>> {
        let mut listed = if self.complete { std::mem::take(&mut self.listed) } else { base };
        let touched = std::mem::take(&mut self.touched);
        if !touched.is_empty() {
            let is_touched = |binding: &BindingSpec| {
                self.touched_ips.contains(&binding.ip) && touched.contains_key(&binding.exact_key())
            };
            listed.retain(|binding| !is_touched(&binding.value));
            listed.extend(touched.into_values().flatten().map(|value| Located { line: 0, value }));
        }
        listed
    }

    /// True if it says something of the health of bindings.
    #[must_use]
    pub fn knows_health(&self) -> bool {
        !self.health.is_empty()
    }

    /// What is known of these bindings: of each that is on the server where it was found out.
    #[must_use]
    pub fn health_of(&self, bindings: &[Located<BindingSpec>]) -> Vec<Located<HealthReport>> {
        let names: HashSet<_> = self.health.keys().map(|key| (key.ip, key.ports)).collect();
        let known = |binding: &BindingSpec| {
            // Most bindings are none of them, and their keys need not be made.
            if !names.contains(&(binding.ip, KeyPorts::Exactly(binding.inside))) {
                return None;
            }
            let key = binding.exact_key();
            let &(server, state) = self.health.get(&key)?;
            (server == binding.server_ip).then_some(HealthReport::new(key, state))
        };
        if names.is_empty() {
            return Vec::new();
        }
        bindings.iter().filter_map(|binding| Some(Located { line: 0, value: known(&binding.value)? })).collect()
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Base(mark) => self.base = Some(mark),
            Line::Listed(binding) => {
                let may_be_known = self.touched_ips.contains(&binding.ip);
                let known = if may_be_known { self.touched.get_mut(&binding.exact_key()) } else { None };
                match known {
                    Some(known) => *known = Some(binding),
                    None => self.listed.push(Located { line: 0, value: binding }),
                }
            }
            Line::Complete { generation, last_change_ms } => {
                self.complete = true;
                self.generation = generation;
                self.last_change_ms = self.last_change_ms.max(last_change_ms);
            }
            Line::Change { generation, at_ms } => {
                self.change_sets += 1;
                (self.generation, self.begun) = (generation, Some(at_ms));
            }
            Line::Gone(binding) => self.touch(binding.exact_key(), None),
            Line::Put(binding) => self.touch(binding.exact_key(), Some(binding)),
            Line::Health(note) if note.state == Health::Unknown => _ = self.health.remove(&note.binding),
            Line::Health(note) => _ = self.health.insert(note.binding, (note.server, note.state)),
        }
    }

    fn touch(&mut self, key: BindingKey, now: Option<BindingSpec>) {
        if let Some(at_ms) = self.begun.take() {
            self.of_mapping += 1;
            self.last_change_ms = self.last_change_ms.max(at_ms);
        }
        self.touched_ips.insert(key.ip);
        self.touched.insert(key, now);
    }
}
