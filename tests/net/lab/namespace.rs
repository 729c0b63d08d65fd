//! Network namespaces, and programs inside them.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use rustix::thread::LinkNameSpaceType;

/// A network namespace under `/run/netns`; it is removed with this value, its programs first.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    pub fn create(name: &str) -> Namespace {
        succeed(Command::new("ip").args(["netns", "add", name]));
        Namespace { name: name.to_owned() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Moves the calling thread into this namespace.
    pub fn enter(&self) {
        enter(&File::open(self.path()).expect("the namespace exists"));
    }

    /// Does `work` inside: sockets that it makes belong to this namespace for good.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A program inside. `nsenter`, for `ip netns exec` would hide bpffs mounts. It dies with the thread that starts it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]).arg(format!("--net={}", self.path().display())).arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a program inside, expects success, gives what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        succeed(self.command(program).args(arguments))
    }

    /// Runs a program inside and gives what it printed, whether it succeeded or not.
    pub fn attempt(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).output().expect("the program starts");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// `ip`, inside.
    pub fn ip(&self, words: &str) -> String {
        succeed(Command::new("ip").args(["-n", &self.name]).args(words.split_whitespace()))
    }

    /// Sets a sysctl of this namespace.
    pub fn set(&self, key: &str, value: &str) {
        self.run("sysctl", &["-qw", &format!("{key}={value}")]);
    }

    /// No IPv6 of the kernel's own (router solicitations, duplicate address detection) on interfaces made from now on.
    pub fn quiet(&self) {
        self.set("net.ipv6.conf.all.disable_ipv6", "1");
        self.set("net.ipv6.conf.default.disable_ipv6", "1");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Moves the calling thread into the namespace of an open `/proc/…/ns/net` or `/run/netns/…` file.
pub fn enter(namespace: &File) {
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may enter network namespaces");
}

/// Removes what labs of processes that are no more have left behind.
pub fn remove_abandoned() {
    let names = |directory: &Path| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| abandoned(name))
    };
    names(Path::new("/run/netns")).for_each(|name| remove(&name));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for lab in names(&std::env::temp_dir()).map(|name| std::env::temp_dir().join(name)) {
        let points = mounts.lines().filter_map(|mount| mount.split(' ').nth(1));
        points.filter(|point| Path::new(point).starts_with(&lab)).for_each(|point| quietly("umount", &["-l", point]));
        let _ = fs::remove_dir_all(lab);
    }
}

/// True for `sixway-PID-…` of a process that is no more.
fn abandoned(name: &str) -> bool {
    let owner = name.strip_prefix("sixway-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
    owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

fn remove(name: &str) {
    let pids = Command::new("ip").args(["netns", "pids", name]).output();
    for pid in String::from_utf8_lossy(&pids.map(|output| output.stdout).unwrap_or_default()).split_whitespace() {
        if pid != std::process::id().to_string() {
            quietly("kill", &["-KILL", pid]);
        }
    }
    quietly("ip", &["netns", "del", name]);
}

/// Runs a program whose failure is of no interest.
pub fn quietly(program: &str, arguments: &[&str]) {
    let _ = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Runs a program, expects success, gives what it printed.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {errors}{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
