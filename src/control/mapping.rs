//! Loads the mapping that the configuration names into the live tables.

use std::fs;
use std::sync::Arc;

use crate::naming::{self, BindingSpec, Change, Clash, Located, Names, NamesWriter, Networks, locate, read_mapping};

use super::config::{Config, Mistake, Position};

/// A mapping in its tables, and the right to change it.
pub struct Mapping {
    pub networks: Arc<Networks>,
    pub names: Arc<Names>,
    pub writer: NamesWriter,
    /// How many bindings were loaded.
    pub bindings: usize,
}

/// Reads the mapping of `config` into new tables.
///
/// # Errors
/// Everything that is wrong with the mapping: with its lines, between them, and between them and the configuration.
pub fn load(config: &Config) -> Result<Mapping, Vec<Mistake>> {
    let text = read(config)?;
    let (networks, names, mut writer) = empty(config)?;
    let bindings = replace(config, &text, &mut writer)?.0;
    Ok(Mapping { networks, names, writer, bindings })
}

/// Reads the mapping of `config` again, as one change set.
///
/// # Errors
/// Everything that is wrong with it; the tables then stay as they are.
pub fn reload(config: &Config, writer: &mut NamesWriter) -> Result<Change, Vec<Mistake>> {
    let text = read(config)?;
    replace(config, &text, writer).map(|(_, change)| change)
}

fn read(config: &Config) -> Result<Vec<u8>, Vec<Mistake>> {
    fs::read(&config.server.mapping).map_err(|error| {
        let message = format!("`mapping`: {}: {error}", config.server.mapping.display());
        vec![Mistake { file: config.file.clone(), at: Some(config.server.mapping_at), message }]
    })
}

fn empty(config: &Config) -> Result<(Arc<Networks>, Arc<Names>, NamesWriter), Vec<Mistake>> {
    let networks = config.build_networks().map_err(|error| vec![Mistake::in_file(&config.file, error.to_string())])?;
    let networks = Arc::new(networks);
    let (names, writer) = Names::new(Arc::clone(&networks), &config.server.ips, config.server.ports);
    Ok((networks, names, writer))
}

fn replace(config: &Config, text: &[u8], writer: &mut NamesWriter) -> Result<(usize, Change), Vec<Mistake>> {
    let (bindings, mut mistakes) = read_mapping(text);
    let placed = |clashes: Vec<Clash>| clashes.into_iter().map(|clash| locate(text, &clash)).collect::<Vec<_>>();
    if mistakes.is_empty() {
        match writer.replace(&bindings) {
            Ok(change) => return Ok((bindings.len(), change)),
            Err(clashes) => mistakes = placed(clashes),
        }
    } else {
        // What the good lines have against each other is told at once too, by tables that nobody reads.
        mistakes.extend(placed(clashes_of(config, &bindings)?));
    }
    mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    Err(mistakes.into_iter().map(|mistake| in_mapping(config, mistake)).collect())
}

fn clashes_of(config: &Config, bindings: &[Located<BindingSpec>]) -> Result<Vec<Clash>, Vec<Mistake>> {
    let (_, _, mut scratch) = empty(config)?;
    Ok(scratch.replace(bindings).err().unwrap_or_default())
}

fn in_mapping(config: &Config, mistake: naming::Mistake) -> Mistake {
    let at = Position { line: mistake.line as usize, column: mistake.column as usize };
    Mistake { file: config.server.mapping.clone(), at: Some(at), message: mistake.message }
}
