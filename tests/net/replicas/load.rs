//! Short connections, one after the other, from many clients at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Result};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::lab::namespace;
use crate::lab::peers::{PATIENCE, says_back};
use crate::lab::{Lab, SOON, until};

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// By replica.
    done: Mutex<BTreeMap<String, u32>>,
    /// By replica, which may not be known, and why.
    failed: Mutex<Vec<(String, String)>>,
}

impl Load {
    /// A client for each of these places.
    pub fn start(lab: &Lab, name: (Ipv4Addr, u16), places: &[&str]) -> Load {
        let shared = Arc::new(Shared::default());
        let client = |place: &&str| {
            let place = File::open(format!("/run/netns/{}", lab.at(place).name())).expect("a namespace");
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.run(&place, name))
        };
        let clients = places.iter().map(client).collect();
        Load { shared, clients }
    }

    /// Waits for a hundred connections more.
    pub fn goes_on(&self) {
        let done = || self.shared.done.lock().unwrap().values().sum::<u32>();
        let before = done();
        until("more load", SOON, || (done() > before + 100).then_some(()));
    }

    /// These replicas were removed: what was under way to them ends.
    pub fn forget_those_to(&self, gone: Range<usize>) {
        let is_gone = |replica: &str| gone.clone().any(|nth| replica == format!("r{nth}"));
        self.shared.failed.lock().unwrap().retain(|(replica, _)| !is_gone(replica));
    }

    /// How many connections were done, by replica, and how those that failed did.
    pub fn end(self) -> (BTreeMap<String, u32>, Vec<String>) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().expect("no panic"));
        let failed = std::mem::take(&mut *self.shared.failed.lock().unwrap());
        let failed = failed.into_iter().map(|(replica, error)| format!("{replica:?}: {error}")).collect();
        (std::mem::take(&mut self.shared.done.lock().unwrap()), failed)
    }
}

impl Shared {
    fn run(&self, place: &File, name: (Ipv4Addr, u16)) {
        namespace::enter(place);
        while !self.stop.load(Ordering::Relaxed) {
            let mut met = String::new();
            match talk(name, &mut met) {
                Ok(()) => *self.done.lock().unwrap().entry(met).or_default() += 1,
                Err(error) => self.failed.lock().unwrap().push((met, error.to_string())),
            }
        }
    }
}

/// A connection with a few exchanges.
fn talk(name: (Ipv4Addr, u16), met: &mut String) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&name.into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::with_capacity(1, &stream).read_line(&mut line)?;
    *met = name_of(&line);
    (0..3).try_for_each(|_| says_back(&mut stream, &[7; 500]))
}

/// Who says this greeting.
pub fn name_of(greeting: &str) -> String {
    greeting.split([' ', ',']).nth(2).unwrap_or_default().to_owned()
}
