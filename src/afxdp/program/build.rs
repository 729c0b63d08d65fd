//! Compiles the XDP programs to BPF objects in `OUT_DIR`.

use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::{env, fs};

const SOURCES: &str = "src/afxdp/program";
const PROGRAMS: [&str; 2] = ["uplink", "access"];
const HEADERS: [&str; 2] = ["frame.h", "handover.h"];
const PACKAGES: &str = "the XDP programs need clang, libbpf's headers and the kernel's; on Debian and Ubuntu: \
                        apt install clang libbpf-dev linux-libc-dev";

fn main() {
    let root = PathBuf::from(required("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(required("OUT_DIR"));
    for file in PROGRAMS.map(|name| format!("{name}.bpf.c")).into_iter().chain(HEADERS.map(String::from)) {
        println!("cargo::rerun-if-changed={SOURCES}/{file}");
    }
    println!("cargo::rerun-if-changed={SOURCES}/build.rs");
    println!("cargo::rerun-if-env-changed=CLANG");
    for name in PROGRAMS {
        compile(&root.join(SOURCES), name, &out.join(format!("{name}.bpf.o")));
    }
}

fn compile(sources: &Path, name: &str, object: &Path) {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let mut command = Command::new(&clang);
    // Paths are relative to the sources, so that the object is the same wherever it is built.
    command.current_dir(sources);
    command.args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror", "-fdebug-compilation-dir=."]);
    // Debian keeps <asm/types.h> in a directory of the architecture, which clang leaves out for the bpf target.
    let multiarch = format!("/usr/include/{}-linux-gnu", required("CARGO_CFG_TARGET_ARCH"));
    if fs::exists(&multiarch).unwrap_or(false) {
        command.args(["-idirafter", &multiarch]);
    }
    command.args(["-c", &format!("{name}.bpf.c"), "-o"]).arg(object);
    match command.output() {
        Err(error) => fail(&format!("cannot run {clang}: {error}; {PACKAGES}")),
        Ok(output) if !output.status.success() => {
            let complaint = String::from_utf8_lossy(&output.stderr);
            let missing = complaint.contains("file not found") || complaint.contains("unable to create target");
            let advice = if missing { PACKAGES } else { "see its message" };
            fail(&format!("{clang} refused {name}.bpf.c; {advice}\n{complaint}"));
        }
        Ok(_) => {}
    }
}

fn required(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| fail(&format!("cargo did not set {variable}")))
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    exit(1)
}
