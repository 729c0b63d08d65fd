//! Packet memory that is made while all else is put up: zeroing its pages takes tens of milliseconds.

use std::io;
use std::thread::{self, JoinHandle};

use super::config::PortConfig;
use super::share::Share;
use crate::afxdp::Umem;

/// Memory for each worker, under way in a thread of its own.
pub struct Memory(Vec<Making>);

pub(super) type Making = JoinHandle<io::Result<Umem>>;

impl Memory {
    /// Begins to make what `workers` workers of these ports need, with rings of the default size, and `spare` queues each
    /// for live ports.
    ///
    /// # Errors
    /// No thread for it.
    pub fn begin(ports: &[PortConfig], workers: usize, spare: usize) -> io::Result<Memory> {
        let make = |index| {
            let frames = Share::of(index, workers, ports, spare, None).frames();
            thread::Builder::new().name(format!("memory-{index}")).spawn(move || Umem::new(frames))
        };
        (0..workers).map(make).collect::<io::Result<Vec<Making>>>().map(Memory)
    }

    pub(super) fn into_workers(self) -> impl Iterator<Item = Making> {
        self.0.into_iter()
    }
}
