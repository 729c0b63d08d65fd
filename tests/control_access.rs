//! Who may do what over the control socket. Needs root, to be somebody else for once.

#[allow(dead_code)]
#[path = "cli/engine.rs"]
mod engine;
#[allow(dead_code)]
#[path = "cli/support.rs"]
mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use engine::with_engine_for;
use sixway::control::config::Control;

/// Numbers that no account here has.
const READERS: &str = "54321";
const WRITERS: &str = "54322";

/// What a peer of these groups is answered: to a look and to a change. 0: it can't even connect.
fn answers(socket: &str, primary: &str, more: &str) -> (u16, u16) {
    let ask = |path: &str, body: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", primary]);
        match more {
            "" => command.arg("--clear-groups"),
            more => command.args(["--groups", more]),
        };
        command.args(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", socket]);
        let answer = command.arg(format!("http://sixway{path}")).args(body).output().expect("setpriv and curl");
        String::from_utf8(answer.stdout).unwrap().parse().expect("a status")
    };
    (ask("/v1/bindings", &[]), ask("/v1/changes", &["-d", "{}"]))
}

#[test]
fn a_group_reads_and_another_writes() {
    assert!(rustix::process::geteuid().is_root(), "run this test as root");
    let some = |group: &str| Some(group.to_owned());
    let both = Control { read_group: some(READERS), write_group: some(WRITERS), ..Control::default() };
    with_engine_for("access-both", &both, |socket| {
        assert_eq!(std::fs::metadata(socket).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(answers(socket, READERS, ""), (200, 403));
        assert_eq!(answers(socket, "65534", READERS), (200, 403), "a supplementary group");
        assert_eq!(answers(socket, WRITERS, ""), (200, 200));
        assert_eq!(answers(socket, "65534", &format!("{READERS},{WRITERS}")), (200, 200));
        assert_eq!(answers(socket, "65534", ""), (0, 0));
        // Whatever the file's mode comes to be, the credentials decide.
        std::fs::set_permissions(socket, PermissionsExt::from_mode(0o666)).unwrap();
        assert_eq!(answers(socket, "65534", ""), (403, 403));
    });
    let readers = Control { read_group: some(READERS), ..Control::default() };
    with_engine_for("access-readers", &readers, |socket| {
        assert_eq!(answers(socket, READERS, ""), (200, 403));
        assert_eq!(answers(socket, WRITERS, ""), (0, 0));
    });
    with_engine_for("access-nobody", &Control::default(), |socket| {
        assert_eq!(answers(socket, READERS, ""), (0, 0));
    });
}
