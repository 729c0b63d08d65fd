//! The holder's side: the process that does nothing but keep descriptors.

use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::net::{SocketFlags, accept_with};

use super::{ALL, BUSY, END, KEEP, KEPT, Sets, TAKE, add};
use crate::afxdp::handover::{receive, send};
use crate::control::peer::{is_ours, listen_at};

/// Connections at a time; who comes beyond that waits.
const CLIENTS_MAX: usize = 16;

/// Keeps descriptors for engines until it is told to end. The socket that it listens on is the standard input, if that
/// is one; else it is made at `path`. Its file is removed at the end.
///
/// # Errors
/// The socket could not be made or fails.
pub fn keep(path: &Path) -> io::Result<()> {
    let input = io::stdin();
    let given = FileType::from_raw_mode(fstat(&input)?.st_mode) == FileType::Socket;
    let listener = if given { input.as_fd().try_clone_to_owned()? } else { listen_at(path)? };
    // A signal to the engine's terminal is none of its business. It fails for the leader of a group: started by hand.
    let _ = rustix::process::setsid();
    serve(listener)?;
    fs::remove_file(path)
}

/// Keeps until it is told to end.
pub(super) fn serve(listener: OwnedFd) -> io::Result<()> {
    Keeper { listener, sets: Sets::new(), clients: Vec::new() }.run()
}

struct Keeper {
    listener: OwnedFd,
    sets: Sets,
    /// In the order in which they came.
    clients: Vec<Client>,
}

struct Client {
    connection: OwnedFd,
    /// It has asked for what is kept: it is the engine.
    is_engine: bool,
    /// What it hands in, until that is complete.
    staged: Sets,
}

enum Heard {
    /// Nothing more for now.
    Silence,
    /// It is gone, or talks nonsense.
    Bye,
    End,
}

impl Keeper {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            // Those who left before those who came: a dead engine's place is free for the next.
            let mut at = 0;
            for ready in &ready[1..] {
                match if *ready { self.hear(at) } else { Heard::Silence } {
                    Heard::Silence => at += 1,
                    Heard::Bye => drop(self.clients.remove(at)),
                    Heard::End => return Ok(()),
                }
            }
            if ready[0] {
                self.admit();
            }
        }
    }

    /// Which of the listener and all clients have something to say.
    fn wait(&self) -> io::Result<Vec<bool>> {
        let listening = if self.clients.len() < CLIENTS_MAX { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = vec![PollFd::new(&self.listener, listening)];
        fds.extend(self.clients.iter().map(|client| PollFd::new(&client.connection, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect()),
            Err(error) => Err(error.into()),
        }
    }

    fn admit(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Whoever hung up in the meantime, or is a stranger, is not let in.
        let Ok(connection) = accept_with(&self.listener, flags) else { return };
        if is_ours(connection.as_fd()).unwrap_or(false) {
            self.clients.push(Client { connection, is_engine: false, staged: Sets::new() });
        }
    }

    /// Hears out one client.
    fn hear(&mut self, at: usize) -> Heard {
        loop {
            let answered = match receive(&self.clients[at].connection) {
                Ok(Some((word, _))) if word == END => return Heard::End,
                Ok(Some((word, _))) if word == TAKE => self.give(at),
                Ok(Some((word, _))) if word == KEPT => self.store(at),
                Ok(Some((words, fds))) => match words.strip_prefix(KEEP) {
                    Some(name) if self.clients[at].is_engine => {
                        add(&mut self.clients[at].staged, name, fds);
                        Ok(())
                    }
                    _ => return Heard::Bye,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Silence,
                Ok(None) | Err(_) => return Heard::Bye,
            };
            if answered.is_err() {
                return Heard::Bye;
            }
        }
    }

    /// Gives all that is kept to the client, unless another is the engine.
    fn give(&mut self, at: usize) -> io::Result<()> {
        let taken = self.clients.iter().enumerate().any(|(other, client)| other != at && client.is_engine);
        let client = &mut self.clients[at];
        if taken {
            return send(&client.connection, BUSY, &[]);
        }
        client.is_engine = true;
        for (name, fds) in &self.sets {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            send(&client.connection, name, &fds)?;
        }
        send(&client.connection, ALL, &[])?;
        // What the engine refuses must be free for it to bind.
        self.sets.clear();
        Ok(())
    }

    /// Keeps what the engine has handed in, in place of all else.
    fn store(&mut self, at: usize) -> io::Result<()> {
        let client = &mut self.clients[at];
        if !client.is_engine {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.sets = mem::take(&mut client.staged);
        send(&client.connection, KEPT, &[])
    }
}
