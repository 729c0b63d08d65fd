//! `sixway map apply`: the difference between a file and the mapping in force, shown and then put in force.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use serde_json::json;

use super::super::client::Client;
use super::super::output::{Colour, Output};
use super::super::table::thousands;
use super::{Apply, Condition, Failure, file, list, show_changed};
use crate::naming::{BindingKey, BindingSpec, KeyPorts, Ports};

/// What is to be done to one mapping to get another, in the order of the lines.
#[derive(Serialize)]
struct Difference<'a> {
    removed: Vec<&'a BindingSpec>,
    /// As it is, and as it shall be.
    replaced: Vec<(&'a BindingSpec, &'a BindingSpec)>,
    added: Vec<&'a BindingSpec>,
}

pub(super) fn run(client: &Client, apply: &Apply, output: &mut Output) -> Result<(), Failure> {
    let wanted = file::read(&apply.file)?;
    let (present, generation) = list::all(client)?;
    let difference = Difference::between(&present, &wanted);
    let is_nothing = difference.is_empty();
    if apply.dry_run || !output.is_json() {
        difference.show(generation, output);
    }
    drop(difference);
    if apply.dry_run || is_nothing && !output.is_json() {
        return Ok(());
    }
    // What was shown is what is done, or nothing.
    let condition = Condition { if_generation: apply.condition.if_generation.or(Some(generation)), ..apply.condition };
    show_changed(file::put(client, wanted, &condition)?, output);
    Ok(())
}

impl<'a> Difference<'a> {
    fn between(present: &'a [BindingSpec], wanted: &'a [BindingSpec]) -> Difference<'a> {
        let mut left: HashMap<BindingKey, &BindingSpec> =
            present.iter().map(|binding| (identity(binding), binding)).collect();
        let mut difference = Difference { removed: Vec::new(), replaced: Vec::new(), added: Vec::new() };
        for binding in wanted {
            match left.remove(&identity(binding)) {
                None => difference.added.push(binding),
                Some(other) if plain(other) == plain(binding) => {}
                Some(other) => difference.replaced.push((other, binding)),
            }
        }
        difference.removed = present.iter().filter(|binding| left.contains_key(&identity(binding))).collect();
        difference
    }

    fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.replaced.is_empty() && self.added.is_empty()
    }

    fn show(&self, generation: u64, output: &mut Output) {
        if output.is_json() {
            return output.json(&json!({"generation": generation, "difference": self}));
        }
        let mut line = |colour, sign: &str, binding: &dyn fmt::Display| {
            let text = output.paint(colour, &format!("{sign} {binding}"));
            output.line(text);
        };
        self.removed.iter().for_each(|binding| line(Colour::Red, "-", binding));
        for (present, wanted) in &self.replaced {
            line(Colour::Red, "-", present);
            line(Colour::Green, "+", wanted);
        }
        self.added.iter().for_each(|binding| line(Colour::Green, "+", binding));
        let counts = [self.added.len(), self.replaced.len(), self.removed.len()].map(|count| thousands(count as u64));
        let [added, replaced, removed] = counts;
        output.line(format_args!("{added} to add, {replaced} to replace, {removed} to remove"));
    }
}

/// As [`BindingSpec::key`], with the numbers of a block, and without the MAC where an id stands in for it.
fn identity(binding: &BindingSpec) -> BindingKey {
    let key = binding.key();
    let mac = key.mac.filter(|_| key.id.is_none());
    BindingKey { ports: KeyPorts::Exactly(binding.inside), mac, ..key }
}

/// A public name that says its port, or does not where that is the inside port, is the same.
fn plain(binding: &BindingSpec) -> BindingSpec {
    let mut binding = binding.clone();
    if let (Some(public), Ports::One(port)) = (&mut binding.public, binding.inside) {
        public.port = public.port.or(Some(port));
    }
    binding
}
