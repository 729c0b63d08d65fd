//! A pair of veth interfaces by which the engine gives the kernel what an uplink's XDP program took from it. No route
//! leads there; it outlives the process, and the next engine uses it on.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::{Handle, LinkUnspec, LinkVeth};

use super::link::{Link, links};
use crate::units::Mac;

/// What the names of the two ends begin with.
const KERNEL_END: &str = "sixk-";
const ENGINE_END: &str = "sixe-";
/// The longest name of an interface: `IFNAMSIZ` of linux/if.h without its zero.
const LONGEST: usize = 15;
/// The largest that veth takes: whatever came by the uplink fits.
const MTU: u32 = 65535;

/// The address for interfaces that want one and are not to be reached (RFC 7600 section 4.8).
const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// A pair that is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pair {
    /// What the kernel's end takes in is for this MAC.
    pub kernel: Mac,
    /// The index of the engine's end.
    pub engine: u32,
}

/// The pair of the interface of this name: the one that is there, or a new one. Blocks the calling thread.
///
/// Answers to what the kernel's end takes in leave by another interface: its reverse path filter is loose, and since the
/// kernel lets nothing pass a filter where there is no address (`__fib_validate_source` of net/ipv4/fib_frontend.c), it has
/// the [`DUMMY`] one.
///
/// # Errors
/// Netlink's, an interface of another kind under one of the names, or a setting that can't be made.
pub fn pair(interface: &str) -> io::Result<Pair> {
    let [kernel, engine] = names(interface);
    let find = |name: &str| Ok::<_, io::Error>(links()?.into_iter().find(|link| link.name == name));
    let kernel_end = match (find(&kernel)?, find(&engine)?) {
        (Some(there), Some(other)) if is_veth(&there) && is_veth(&other) => there,
        (None, None) => {
            ask(async |handle| handle.link().add(LinkVeth::new(&kernel, &engine).build()).execute().await)?;
            find(&kernel)?.ok_or(io::ErrorKind::NotFound)?
        }
        _ => {
            let message = format!("{kernel} and {engine} are not the two ends of a veth pair");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
    };
    let engine_end = find(&engine)?.ok_or(io::ErrorKind::NotFound)?;
    set("ipv4", &kernel, "rp_filter", "2")?;
    // Where there is no IPv6, nothing of it comes.
    let of_interface = std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"));
    let _ = set("ipv6", &kernel, "disable_ipv6", of_interface.as_deref().unwrap_or("0"));
    let _ = set("ipv6", &kernel, "addr_gen_mode", "1");
    let _ = set("ipv6", &kernel, "accept_ra", "0");
    let _ = set("ipv6", &engine, "disable_ipv6", "1");
    ask(async |handle| {
        let mut request = handle.address().add(kernel_end.index, DUMMY.into(), 32).replace();
        // Nothing that the kernel sends gets it as its source.
        request.message_mut().header.scope = AddressScope::Host;
        request.execute().await
    })?;
    for index in [kernel_end.index, engine_end.index] {
        let up = LinkUnspec::new_with_index(index).mtu(MTU).up().build();
        ask(async |handle| handle.link().set(up).execute().await)?;
    }
    let mac = kernel_end.mac.ok_or(io::ErrorKind::InvalidData)?;
    Ok(Pair { kernel: mac, engine: engine_end.index })
}

/// Removes all such pairs of this network namespace, and says whether there was one. Blocks the calling thread.
///
/// # Errors
/// Netlink's.
pub fn remove_pairs() -> io::Result<bool> {
    let ours: Vec<Link> =
        links()?.into_iter().filter(|link| link.name.starts_with(KERNEL_END) && is_veth(link)).collect();
    for link in &ours {
        ask(async |handle| handle.link().del(link.index).execute().await)?;
    }
    Ok(!ours.is_empty())
}

/// The names of both ends, the kernel's first: with the interface's own, or its beginning and a digest where that is
/// long.
fn names(interface: &str) -> [String; 2] {
    let room = LONGEST - KERNEL_END.len();
    let own = if interface.len() <= room {
        interface.to_owned()
    } else {
        // FNV-1a: the same in every build.
        let digest =
            interface.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let beginning: String = interface.chars().filter(char::is_ascii_graphic).take(room - 5).collect();
        format!("{beginning}{:05x}", digest & 0xf_ffff)
    };
    [KERNEL_END, ENGINE_END].map(|end| format!("{end}{own}"))
}

fn is_veth(link: &Link) -> bool {
    link.kind.as_deref() == Some("veth")
}

/// Makes a setting of one interface (Documentation/networking/ip-sysctl.rst).
fn set(family: &str, interface: &str, setting: &str, value: &str) -> io::Result<()> {
    let path: PathBuf =
        [Path::new("/proc/sys/net"), family.as_ref(), "conf".as_ref(), interface.as_ref(), setting.as_ref()]
            .into_iter()
            .collect();
    std::fs::write(&path, value).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Asks the kernel for a change.
fn ask(change: impl AsyncFnOnce(Handle) -> Result<(), rtnetlink::Error>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        change(handle).await.map_err(|error| match error {
            rtnetlink::Error::NetlinkError(refused) => refused.to_io(),
            other => io::Error::other(other),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn names_tell_their_interface_and_are_short_enough() {
        assert_eq!(names("eth1"), ["sixk-eth1", "sixe-eth1"]);
        assert_eq!(names("enp129s0f1")[0], "sixk-enp129s0f1");
        let long = ["enp129s0f1np1", "enp129s0f1np2", "enp129s0f1np1x"].map(|name| names(name)[0].clone());
        assert!(long.iter().all(|name| name.len() == LONGEST && name.starts_with("sixk-enp12")), "{long:?}");
        assert!(long[0] != long[1] && long[0] != long[2]);
    }

    /// Set in a process that has a network namespace of its own.
    const INSIDE: &str = "SIXWAY_TEST_INSIDE_NAMESPACE";

    #[test]
    fn a_pair_is_made_once_found_again_and_removed() {
        if std::env::var_os(INSIDE).is_none() {
            let mut command = Command::new("unshare");
            command.arg(if rustix::process::geteuid().is_root() { "-n" } else { "-rn" });
            let test = "control::kernel::pair::tests::a_pair_is_made_once_found_again_and_removed";
            command.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
            assert!(command.status().unwrap().success());
            return;
        }
        let first = pair("eth1").unwrap();
        assert_eq!(pair("eth1").unwrap(), first, "the next engine finds it");
        let all = links().unwrap();
        let ends: Vec<&Link> = all.iter().filter(|link| link.name.ends_with("-eth1")).collect();
        assert!(ends.len() == 2 && ends.iter().all(|link| link.up && link.running && link.mtu == MTU));
        let setting = |path: &str| std::fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap();
        assert_eq!(setting("ipv4/conf/sixk-eth1/rp_filter"), "2\n");
        assert_eq!(setting("ipv6/conf/sixk-eth1/addr_gen_mode"), "1\n");
        assert!(remove_pairs().unwrap() && !remove_pairs().unwrap());
        assert!(links().unwrap().iter().all(|link| link.name == "lo"));
    }
}
