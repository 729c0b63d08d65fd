//! What takes change sets back.

use std::collections::HashMap;

use super::record::{self, Line};
use crate::naming::{BindingKey, BindingSpec, Health, HealthReport, Located, Words};

/// A change set that leads back.
#[derive(Debug, Default)]
pub struct Undo {
    pub puts: Vec<Located<BindingSpec>>,
    pub deletes: Vec<Located<BindingKey>>,
    /// What was known of bindings that are there then.
    pub health: Vec<Located<HealthReport>>,
}

/// What a binding was before, and whether there is one now.
struct Fate {
    before: Option<BindingSpec>,
    is: bool,
}

impl Undo {
    /// Leads back to before the first of `records`, which are in the order in which they came into force.
    pub fn of<'a>(records: impl Iterator<Item = &'a str>) -> Undo {
        let mut fates: HashMap<BindingKey, Fate> = HashMap::new();
        let mut known: HashMap<BindingKey, Health> = HashMap::new();
        let mut words = Words::default();
        for line in records.flat_map(str::lines).filter_map(|line| record::read(line.as_bytes(), &mut words)) {
            match line {
                // Within a change set, what is gone is named before what comes.
                Line::Gone(binding) => {
                    let key = binding.exact_key();
                    fates.entry(key).or_insert(Fate { before: Some(binding), is: false }).is = false;
                }
                Line::Put(binding) => {
                    fates.entry(binding.exact_key()).or_insert(Fate { before: None, is: true }).is = true;
                }
                Line::Health(note) => _ = known.entry(note.binding).or_insert(note.before),
                _ => {}
            }
        }
        let mut undo = Undo::default();
        known.retain(|key, _| fates.get(key).is_none_or(|fate| fate.before.is_some()));
        let report = |(binding, state)| Located { line: 0, value: HealthReport::new(binding, state) };
        undo.health.extend(known.into_iter().map(report));
        for (key, Fate { before, is }) in fates {
            // In the place of another it is deleted first: the other may have the same key in another form.
            if is {
                undo.deletes.push(Located { line: 0, value: key });
            }
            undo.puts.extend(before.map(|value| Located { line: 0, value }));
        }
        undo
    }
}
