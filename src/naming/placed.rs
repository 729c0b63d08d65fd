//! Which put of a change set each binding stands for.

use std::collections::HashMap;

use crate::table::Handle;

/// Puts by the handles of their bindings: an array as long as the table for a change set of its size, a map for a small
/// one, so that one binding among a million costs no more than one among ten.
pub(super) enum Placed {
    Few(HashMap<Handle, u32>),
    /// The put, plus one.
    Many(Vec<u32>),
}

/// A change set of fewer puts than one in so many bindings is small.
const SMALL: usize = 16;

impl Placed {
    /// For `puts` puts to a table of `bindings`.
    pub(super) fn new(puts: usize, bindings: usize) -> Placed {
        if puts < bindings / SMALL { Placed::Few(HashMap::with_capacity(puts)) } else { Placed::Many(Vec::new()) }
    }

    pub(super) fn place(&mut self, handle: Handle, put: usize) {
        match self {
            Placed::Few(puts) => {
                puts.insert(handle, put as u32);
            }
            Placed::Many(puts) => {
                let at = handle.0 as usize;
                if puts.len() <= at {
                    puts.resize((at + 1).next_power_of_two(), 0);
                }
                puts[at] = put as u32 + 1;
            }
        }
    }

    pub(super) fn put_of(&self, handle: Handle) -> Option<usize> {
        match self {
            Placed::Few(puts) => puts.get(&handle).map(|&put| put as usize),
            Placed::Many(puts) => (puts.get(handle.0 as usize).copied().unwrap_or(0) as usize).checked_sub(1),
        }
    }
}
