//! Programs that people use, in a namespace.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::Value;

use super::namespace::Namespace;
use super::{Lab, SOON, until};

/// A running program; it ends with this value.
pub struct Program(pub(super) Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// nginx with a directory to serve and an access log.
pub struct Nginx {
    _program: Program,
    root: PathBuf,
}

impl Nginx {
    pub fn start(lab: &Lab, place: &str) -> Nginx {
        let root = lab.dir().join(format!("nginx-{place}"));
        fs::create_dir_all(root.join("www")).expect("a directory");
        let text = format!(
            "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log {root}/access.log combined; sendfile on; keepalive_timeout 0;\n\
             client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;\n\
             uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;\n\
             server {{ listen 80 backlog=4096; listen [::]:80 backlog=4096; root {root}/www;\n\
             client_max_body_size 0; dav_methods PUT; }} }}\n",
            root = root.display()
        );
        fs::write(root.join("nginx.conf"), text).expect("a configuration");
        let mut command = lab.at(place).command("nginx");
        command.arg("-p").arg(&root).arg("-c").arg(root.join("nginx.conf")).stderr(Stdio::null());
        let program = Program(command.spawn().expect("nginx starts"));
        let listens = || lab.at(place).run("ss", &["-Hltn", "sport", "=", "80"]).contains(":80").then_some(());
        until("nginx listens", SOON, listens);
        Nginx { _program: program, root }
    }

    /// Puts a file there.
    pub fn serve(&self, name: &str, content: &[u8]) {
        fs::write(self.root.join("www").join(name), content).expect("room for a file");
    }

    /// Puts a file of random bytes there and gives its SHA-256.
    pub fn serve_random(&self, name: &str, mebibytes: u64) -> String {
        let path = self.root.join("www").join(name);
        let mut random = File::open("/dev/urandom").expect("random bytes").take(mebibytes << 20);
        std::io::copy(&mut random, &mut File::create(&path).expect("a file")).expect("room for a file");
        self.sum(name)
    }

    /// Has curl send it a file from a place, by an address that it has there, and keeps that under a name.
    pub fn receive(&self, from: &Namespace, ip: IpAddr, name: &str, file: &Path) {
        let url = format!("http://{}/{name}", SocketAddr::new(ip, 80));
        from.run("curl", &["-sS", "--fail", "--max-time", "300", "-T", &file.to_string_lossy(), &url]);
    }

    /// The SHA-256 of a file there.
    pub fn sum(&self, name: &str) -> String {
        let sum = super::run("sha256sum", &[&self.directory().join(name).to_string_lossy()]);
        sum.split_whitespace().next().expect("a sum").to_owned()
    }

    /// Where its files are.
    pub fn directory(&self) -> PathBuf {
        self.root.join("www")
    }

    pub fn access_log(&self) -> String {
        fs::read_to_string(self.root.join("access.log")).unwrap_or_default()
    }
}

/// curl on its way.
pub struct Download {
    curl: Child,
    url: String,
}

impl Download {
    pub fn start(place: &Namespace, url: &str) -> Download {
        let mut command = place.command("curl");
        command.args(["-sS", "--fail", "--max-time", "300", url]).stdout(Stdio::piped());
        Download { curl: command.spawn().expect("curl starts"), url: url.to_owned() }
    }

    /// Reads to the end, tells `on_the_way` the bytes so far, and gives the SHA-256 that sha256sum finds.
    pub fn finish(mut self, mut on_the_way: impl FnMut(u64)) -> String {
        let mut command = std::process::Command::new("sha256sum");
        let mut sum = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sha256sum starts");
        let (mut from, mut to) = (self.curl.stdout.take().expect("piped"), sum.stdin.take().expect("piped"));
        let (mut buffer, mut total) = (vec![0; 1 << 18], 0);
        loop {
            let len = from.read(&mut buffer).expect("curl's output");
            if len == 0 {
                break;
            }
            to.write_all(&buffer[..len]).expect("sha256sum reads");
            total += len as u64;
            on_the_way(total);
        }
        drop(to);
        let status = self.curl.wait().expect("our own child");
        assert!(status.success(), "curl {} after {total} bytes: {status}", self.url);
        let output = sum.wait_with_output().expect("our own child");
        String::from_utf8_lossy(&output.stdout).split_whitespace().next().expect("a sum").to_owned()
    }
}

/// An iperf3 server that listens.
pub fn iperf_server(place: &Namespace) -> Program {
    let mut command = place.command("iperf3");
    command.args(["-s", "-p", "5201", "--forceflush"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("iperf3 starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening")), "iperf3 listens");
    std::thread::spawn(move || lines.for_each(drop)); // keeps the pipe empty
    Program(child)
}

/// An iperf3 client's report. A server that has not quite ended the run before is asked again.
pub fn iperf(place: &Namespace, arguments: &[&str]) -> Value {
    let mut all = vec!["-J", "-p", "5201"];
    all.extend(arguments);
    until("the iperf3 server is free", SOON, || {
        let report = place.attempt("iperf3", &all);
        let report: Value =
            serde_json::from_str(&report).unwrap_or_else(|error| panic!("iperf3's report: {error}\n{report}"));
        let is_busy = report["error"].as_str().is_some_and(|error| error.contains("busy"));
        (!is_busy).then_some(report)
    })
}
