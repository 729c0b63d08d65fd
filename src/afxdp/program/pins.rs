//! Where programs, maps and links stay when the process goes: `<pin_dir>/<netns inode>/<interface>-<index>/`.
//!
//! A bpffs keeps names with dots to itself, and interfaces may have them: a dot is written as a colon, which no
//! interface may have.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

use super::interface::Interface;
use super::kernel::Link;

/// `BPF_FS_MAGIC` in include/uapi/linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
pub(super) const LINK: &str = "link";
/// What the names of program pins begin with; the rest tells the build.
pub(super) const PROGRAM: &str = "program-";

/// A directory of pins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pinned {
    /// The directory.
    pub path: PathBuf,
    /// Inode of the network namespace.
    pub netns: u64,
    /// The interface, as it was called when the pins were made.
    pub interface: String,
    /// The interface's index.
    pub ifindex: u32,
}

impl Pinned {
    fn parse(path: PathBuf, netns: u64) -> Option<Pinned> {
        let (interface, ifindex) = path.file_name()?.to_str()?.rsplit_once('-')?;
        let (interface, ifindex) = (interface.replace(':', "."), ifindex.parse().ok()?);
        Some(Pinned { path, netns, interface, ifindex })
    }

    pub(super) fn link(&self) -> io::Result<Link> {
        Link::open(&self.path.join(LINK))
    }

    /// True if nothing of this directory works any more: its interface is gone, or has left `here`.
    fn is_stale(&self, here: u64) -> bool {
        match self.link().and_then(|link| link.info()) {
            Ok(info) => info.ifindex == 0 || (self.netns == here && info.ifindex != self.ifindex),
            // No link: an attachment that never came to be, if the interface is not there to be attached to.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.netns == here && Interface::by_index(self.ifindex).is_err()
            }
            Err(_) => false,
        }
    }

    /// The pins of programs.
    pub(super) fn programs(&self) -> io::Result<Vec<PathBuf>> {
        let is_program =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PROGRAM));
        let paths = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.path()));
        paths.filter(|path| !matches!(path, Ok(path) if !is_program(path))).collect()
    }

    /// Unpins everything. A link that nobody else holds goes with its pin.
    pub(super) fn remove(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            fs::remove_file(entry?.path())?;
        }
        fs::remove_dir(&self.path)?;
        if let Some(netns) = self.path.parent() {
            // It stays while it has other interfaces in it.
            let _ = fs::remove_dir(netns);
        }
        Ok(())
    }
}

/// Whether pins in `pin_dir` would persist; else why not. Makes the directory.
pub(super) fn prepare(pin_dir: &Path) -> Result<(), String> {
    let existing = pin_dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let shown = pin_dir.display();
    let statfs = rustix::fs::statfs(existing).map_err(|error| format!("{shown}: {error}"))?;
    if statfs.f_type as u64 & 0xffff_ffff != BPF_FS_MAGIC {
        return Err(format!("{shown} is not on a bpffs (mount -t bpf bpf /sys/fs/bpf)"));
    }
    let device = fs::metadata(existing).map_err(|error| format!("{shown}: {error}"))?.dev();
    // Where process 1 may not be looked at, nothing speaks against the mount.
    if let Ok(mounts) = fs::read_to_string("/proc/1/mountinfo")
        && !has_device(&mounts, major(device), minor(device))
    {
        return Err(format!(
            "{shown} is on a bpffs of a private mount namespace, where pins die with the last process \
             (`ip netns exec` makes one, `nsenter --net=` does not)"
        ));
    }
    fs::create_dir_all(pin_dir).map_err(|error| format!("{shown}: {error}"))
}

/// True if a line of proc(5) mountinfo has the device, in its third column.
fn has_device(mounts: &str, major: u32, minor: u32) -> bool {
    let wanted = format!("{major}:{minor}");
    mounts.lines().any(|line| line.split(' ').nth(2) == Some(&wanted))
}

/// The inode of the calling thread's network namespace.
pub(super) fn current_netns() -> io::Result<u64> {
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}

/// Everything that is pinned under `pin_dir`, in every network namespace. None, if there is no such directory.
pub(super) fn all(pin_dir: &Path) -> io::Result<Vec<Pinned>> {
    let mut found = Vec::new();
    for namespace in subdirectories(pin_dir)? {
        let Some(netns) = namespace.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
        let interfaces = subdirectories(&namespace)?;
        found.extend(interfaces.into_iter().filter_map(|path| Pinned::parse(path, netns)));
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn subdirectories(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => {
            entries.map(|entry| Ok(entry?.path())).filter(|path| !matches!(path, Ok(p) if !p.is_dir())).collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Clears what is stale, in every namespace, and says what that was.
pub(super) fn clear_stale(pin_dir: &Path) -> io::Result<Vec<Pinned>> {
    let here = current_netns()?;
    let mut stale = all(pin_dir)?;
    stale.retain(|pinned| pinned.is_stale(here));
    for pinned in &stale {
        pinned.remove()?;
    }
    Ok(stale)
}

/// The interface's directory in this namespace: made, or found by its index and given the present name.
pub(super) fn directory_of(pin_dir: &Path, interface: &Interface) -> io::Result<Pinned> {
    let netns = current_netns()?;
    let name = format!("{}-{}", interface.name.replace('.', ":"), interface.index);
    let path = pin_dir.join(netns.to_string()).join(name);
    let former = all(pin_dir)?.into_iter().find(|pinned| pinned.netns == netns && pinned.ifindex == interface.index);
    match former {
        Some(former) if former.path != path => fs::rename(&former.path, &path)?,
        Some(_) => {}
        None => fs::create_dir_all(&path)?,
    }
    Ok(Pinned { path, netns, interface: interface.name.clone(), ifindex: interface.index })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_names_its_interface() {
        let pinned = Pinned::parse(PathBuf::from("/pins/4026531833/eth-0:100-7"), 4_026_531_833).unwrap();
        assert_eq!((pinned.interface.as_str(), pinned.ifindex), ("eth-0.100", 7));
        assert_eq!(Pinned::parse(PathBuf::from("/pins/4026531833/eth0"), 1), None);
    }

    #[test]
    fn a_directory_that_is_no_bpffs_holds_no_pins() {
        let dir = std::env::temp_dir().join("sixway-no-bpffs");
        let reason = prepare(&dir).unwrap_err();
        assert!(reason.contains("is not on a bpffs"), "{reason}");
        assert!(!dir.exists());
    }

    #[test]
    fn a_mount_is_known_by_its_device() {
        let mounts = "22 27 0:21 / /proc rw - proc proc rw\n42 23 0:39 / /sys/fs/bpf rw,relatime - bpf bpf rw\n";
        assert!(has_device(mounts, 0, 39));
        assert!(!has_device(mounts, 0, 3) && !has_device(mounts, 0, 40));
    }
}
