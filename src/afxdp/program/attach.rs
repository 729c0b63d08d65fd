//! Attaching to an interface, taking over what a former engine left there, and detaching for good.

use std::fmt;
use std::fs;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use aya::EbpfError;
use aya::programs::loaded_programs;

use super::foreign::Foreign;
use super::interface::{Installed, Interface};
use super::kernel::Link;
use super::object::{self, Program};
use super::pins::{self, LINK, Pinned};
use super::{Kind, Mode, Want};

/// A program on an interface, through a link. Dropped, it stays there if it is pinned, else it goes.
pub struct Attached {
    program: Program,
    link: Link,
    interface: String,
    ifindex: u32,
    mode: Mode,
    frags: bool,
    takeover: Takeover,
    fallback: Option<String>,
    pinned: Result<Pinned, String>,
    cleared: Vec<Pinned>,
}

/// What was on the interface before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takeover {
    /// Nothing.
    None,
    /// Our program of the same build: it was left as it is.
    Same,
    /// Our program of another build, kind or layout: it was replaced, atomically.
    Replaced,
}

/// Why a program could not be attached.
#[derive(Debug)]
pub enum AttachError {
    /// The interface is not there, or the kernel tells nothing about it.
    Interface(String, io::Error),
    /// Somebody else's program is on the interface. It is never replaced.
    Foreign(String, Foreign),
    /// The kernel did not take the program or its maps.
    Load(Box<EbpfError>),
    /// The kernel did not attach the program, in either mode.
    Attach(String, io::Error),
    /// The pins of a former engine could not be read, cleared or written.
    Pins(PathBuf, io::Error),
}

/// Attaches the program for that kind of port: natively, or else in generic mode, which `fallback` reports. Links, maps
/// and the program are pinned under `pin_dir` where that is possible, else `pinned` says why not. What a former engine
/// pinned for the interface is taken over with its claims and counters; stale pins are cleared.
///
/// Acts in the network namespace of the calling thread. Needs `CAP_BPF`, `CAP_NET_ADMIN` and, for pins, write access.
pub fn attach(interface: &str, kind: Kind, pin_dir: &Path, want: Want) -> Result<Attached, AttachError> {
    let interface =
        Interface::by_name(interface).map_err(|error| AttachError::Interface(interface.to_owned(), error))?;
    let at_pins = |error| AttachError::Pins(pin_dir.to_owned(), error);
    let mut pinned = pins::prepare(pin_dir);
    let mut cleared = Vec::new();
    if pinned.is_ok() {
        cleared = pins::clear_stale(pin_dir).map_err(at_pins)?;
    }
    let directory = pinned.clone().ok().map(|()| pins::directory_of(pin_dir, &interface)).transpose();
    let directory = directory.unwrap_or_else(|error| {
        pinned = Err(format!("{}: {error}", pin_dir.display()));
        None
    });

    let former = directory.as_ref().and_then(|directory| directory.link().ok());
    // A link that lost its interface holds nothing.
    let former = former.filter(|link| link.info().is_ok_and(|info| info.ifindex == interface.index));
    refuse_foreign(&interface, former.as_ref())?;
    let maps = directory.as_ref().map(|directory| directory.path.as_path());
    let frags = |mode| want.frags && mode == Mode::Native;
    let reopened = match (&former, interface.xdp, maps) {
        (Some(_), Some(installed), Some(maps)) => {
            Program::reopen(kind, want.tags, frags(installed.mode), maps, installed.program_id)
        }
        _ => None,
    };
    let is_loaded = reopened.is_none();
    if let (true, Some(maps)) = (is_loaded, maps) {
        for map in object::unusable_pins(kind, maps)? {
            fs::remove_file(maps.join(map)).map_err(at_pins)?;
        }
    }

    let (mut program, link, mode, takeover, fallback) = match (former, interface.xdp, reopened) {
        (Some(link), Some(installed), Some(program)) => (program, link, installed.mode, Takeover::Same, None),
        (Some(link), Some(installed), None) => {
            let program = Program::load_with(kind, want.tags, frags(installed.mode), maps)?;
            let takeover = take_over(&program, &link, installed, &interface)?;
            (program, link, installed.mode, takeover, None)
        }
        _ => {
            let (program, link, mode, fallback) = attach_anew(kind, &interface, want, maps)?;
            if let Some(directory) = &directory {
                replace_pin(&directory.path.join(LINK), |path| link.pin(path))?;
            }
            (program, link, mode, Takeover::None, fallback)
        }
    };
    if let (true, Some(directory)) = (is_loaded, &directory) {
        let pin = directory.path.join(object::pin_name(kind, frags(mode)));
        pin_program(&mut program, takeover, directory, &pin).map_err(|error| AttachError::Pins(pin, error))?;
    }
    Ok(Attached {
        program,
        link,
        interface: interface.name,
        ifindex: interface.index,
        mode,
        frags: frags(mode),
        takeover,
        fallback,
        pinned: pinned.and_then(|()| directory.ok_or_else(String::new)),
        cleared,
    })
}

/// Whether a program may be attached to an interface: it is there, and nobody else's program is on it.
///
/// # Errors
/// What [`attach`] would say.
pub fn check(interface: &str, pin_dir: &Path) -> Result<(), AttachError> {
    let interface =
        Interface::by_name(interface).map_err(|error| AttachError::Interface(interface.to_owned(), error))?;
    let at_pins = |error| AttachError::Pins(pin_dir.to_owned(), error);
    let pinned = pinned(pin_dir, &Scope::Namespace).map_err(at_pins)?;
    let former = pinned.iter().find(|pinned| pinned.ifindex == interface.index);
    refuse_foreign(&interface, former.and_then(|former| former.link().ok()).as_ref())
}

/// Who runs the XDP program on an interface, ours or not. None if there is none.
///
/// # Errors
/// The interface is not there, or the kernel tells nothing about it.
pub fn mode(interface: &str) -> io::Result<Option<Mode>> {
    Ok(Interface::by_name(interface)?.xdp.map(|installed| installed.mode))
}

/// An interface's program is ours if our pinned link holds it there.
fn refuse_foreign(interface: &Interface, former: Option<&Link>) -> Result<(), AttachError> {
    let Some(Installed { program_id, .. }) = interface.xdp else { return Ok(()) };
    if former.and_then(|link| link.info().ok()).is_some_and(|info| info.program_id == program_id) {
        return Ok(());
    }
    Err(AttachError::Foreign(interface.name.clone(), Foreign::describe(program_id)))
}

fn take_over(
    program: &Program,
    link: &Link,
    installed: Installed,
    interface: &Interface,
) -> Result<Takeover, AttachError> {
    let former = loaded_programs().filter_map(Result::ok).find(|info| info.id() == installed.program_id);
    if let Some(former) = former
        && program.is_same_as(&former)?
    {
        return Ok(Takeover::Same);
    }
    link.replace_program(program.fd()?).map_err(|error| AttachError::Attach(interface.name.clone(), error))?;
    Ok(Takeover::Replaced)
}

type Anew = (Program, Link, Mode, Option<String>);

fn attach_anew(kind: Kind, interface: &Interface, want: Want, maps: Option<&Path>) -> Result<Anew, AttachError> {
    let failed = |error| AttachError::Attach(interface.name.clone(), error);
    let program = Program::load_with(kind, want.tags, want.frags, maps)?;
    let error = match Link::create(program.fd()?, interface.index, Mode::Native) {
        Ok(link) => return Ok((program, link, Mode::Native, None)),
        Err(error) => error,
    };
    // Taken by somebody else in the meantime, or gone, or not for us: the other mode would not help.
    if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST | libc::ENODEV | libc::EPERM)) {
        return Err(failed(error));
    }
    // Generic mode is given whole packets, and has crashed kernels with the `frags` variant.
    let program = if want.frags { Program::load_with(kind, want.tags, false, maps)? } else { program };
    let link = Link::create(program.fd()?, interface.index, Mode::Generic).map_err(failed)?;
    Ok((program, link, Mode::Generic, Some(format!("the driver refused native XDP: {error}"))))
}

/// Leaves the interface's program under the name of its build, and no other beside it.
fn pin_program(program: &mut Program, takeover: Takeover, directory: &Pinned, pin: &Path) -> io::Result<()> {
    for former in directory.programs()? {
        match takeover {
            Takeover::Same => fs::rename(former, pin)?,
            Takeover::None | Takeover::Replaced => fs::remove_file(former)?,
        }
    }
    if takeover == Takeover::Same { Ok(()) } else { program.pin(pin).map_err(io::Error::other) }
}

fn replace_pin(path: &Path, pin: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), AttachError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => pin(path),
    }
    .map_err(|error| AttachError::Pins(path.to_owned(), error))
}

impl Attached {
    /// The interface's name when it was attached to.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The interface's index.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Who runs the program, the driver or the stack.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// True if frames of several buffers arrive as such; in generic mode they arrive whole.
    #[must_use]
    pub fn frags(&self) -> bool {
        self.frags
    }

    /// Why the mode is generic, if that was found out now.
    #[must_use]
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// What was on the interface before.
    #[must_use]
    pub fn takeover(&self) -> Takeover {
        self.takeover
    }

    /// Where the pins are, or why there are none: then the program goes with this process.
    pub fn pinned(&self) -> Result<&Pinned, &str> {
        self.pinned.as_ref().map_err(String::as_str)
    }

    /// The stale pins that were cleared.
    #[must_use]
    pub fn cleared(&self) -> &[Pinned] {
        &self.cleared
    }

    /// Takes the program off the interface for good, pins and all: from now on everything there is the kernel's.
    pub fn detach(self) -> io::Result<()> {
        self.link.detach()?;
        self.pinned.map_or(Ok(()), |pinned| pinned.remove())
    }
}

impl Deref for Attached {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Attached {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}

/// What `detach` detaches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Everything under the pin directory, whatever its network namespace.
    All,
    /// The network namespace of the calling thread.
    Namespace,
    /// One interface of that namespace, by the name in its pins.
    Interface(String),
}

/// Everything that is pinned under `pin_dir` and in scope, stale or not.
pub fn pinned(pin_dir: &Path, scope: &Scope) -> io::Result<Vec<Pinned>> {
    let here = pins::current_netns()?;
    let mut found = pins::all(pin_dir)?;
    found.retain(|pinned| match scope {
        Scope::All => true,
        Scope::Namespace => pinned.netns == here,
        Scope::Interface(name) => pinned.netns == here && pinned.interface == *name,
    });
    Ok(found)
}

/// Takes our programs off their interfaces for good, even from under a running engine, and says which those were.
/// Nothing to detach is no error.
pub fn detach(pin_dir: &Path, scope: &Scope) -> io::Result<Vec<Pinned>> {
    let found = pinned(pin_dir, scope)?;
    for pinned in &found {
        match pinned.link() {
            Ok(link) => link.detach()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        pinned.remove()?;
    }
    Ok(found)
}

impl From<EbpfError> for AttachError {
    fn from(error: EbpfError) -> AttachError {
        AttachError::Load(Box::new(error))
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttachError::Interface(name, error) => write!(f, "interface {name}: {error}"),
            AttachError::Foreign(name, foreign) => {
                write!(f, "interface {name} has a foreign {foreign}; it is not replaced")
            }
            AttachError::Load(error) => {
                write!(f, "the kernel did not take the XDP program: {error}")?;
                let mut cause = std::error::Error::source(&**error);
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
            AttachError::Attach(name, error) => write!(f, "interface {name}: cannot attach the XDP program: {error}"),
            AttachError::Pins(path, error) => write!(f, "pins at {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for AttachError {}
