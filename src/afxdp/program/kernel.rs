//! The `bpf(2)` calls that aya keeps to itself: XDP links. Structures: `union bpf_attr` and `struct bpf_link_info` in
//! `include/uapi/linux/bpf.h`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Mode;

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;
const BPF_XDP: u32 = 37;
const BPF_LINK_TYPE_XDP: u32 = 6;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// An XDP link: what holds a program on an interface. It goes when its last descriptor and pin go.
#[derive(Debug)]
pub(super) struct Link(OwnedFd);

/// What the kernel tells about a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkInfo {
    /// The program that the link holds on its interface.
    pub program_id: u32,
    /// 0 once the interface is gone.
    pub ifindex: u32,
}

impl Link {
    /// Attaches a program to an interface of the caller's network namespace.
    pub(super) fn create(program: impl AsFd, ifindex: u32, mode: Mode) -> io::Result<Link> {
        #[repr(C)]
        struct LinkCreate {
            program: i32,
            ifindex: u32,
            attach_type: u32,
            flags: u32,
        }
        let flags = match mode {
            Mode::Native => XDP_FLAGS_DRV_MODE,
            Mode::Generic => XDP_FLAGS_SKB_MODE,
        };
        let program = program.as_fd();
        let mut attr = LinkCreate { program: program.as_raw_fd(), ifindex, attach_type: BPF_XDP, flags };
        // SAFETY: `LinkCreate` is the head of `bpf_attr.link_create` and holds no pointer.
        let fd = unsafe { bpf(BPF_LINK_CREATE, &mut attr)? };
        // SAFETY: BPF_LINK_CREATE returned a new descriptor, which nothing else owns.
        Ok(Link(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Opens a pinned link.
    pub(super) fn open(path: &Path) -> io::Result<Link> {
        let path = c_path(path)?;
        let mut attr = Pin { path: path.as_ptr() as u64, fd: 0, flags: 0 };
        // SAFETY: `Pin` is the head of the part of `bpf_attr` that BPF_OBJ_* use; `path` lives until the call returns.
        let fd = unsafe { bpf(BPF_OBJ_GET, &mut attr)? };
        // SAFETY: BPF_OBJ_GET returned a new descriptor, which nothing else owns.
        Ok(Link(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Pins the link at a path on a bpffs, whose last part may hold no dot.
    pub(super) fn pin(&self, path: &Path) -> io::Result<()> {
        let path = c_path(path)?;
        let mut attr = Pin { path: path.as_ptr() as u64, fd: self.0.as_raw_fd(), flags: 0 };
        // SAFETY: as in `open`.
        unsafe { bpf(BPF_OBJ_PIN, &mut attr) }.map(drop)
    }

    /// Puts another program in the place of the present one; every packet sees one of the two.
    pub(super) fn replace_program(&self, program: impl AsFd) -> io::Result<()> {
        #[repr(C)]
        struct LinkUpdate {
            link: i32,
            program: i32,
            flags: u32,
            old_program: u32,
        }
        let program = program.as_fd();
        let (link, program) = (self.0.as_raw_fd(), program.as_raw_fd());
        let mut attr = LinkUpdate { link, program, flags: 0, old_program: 0 };
        // SAFETY: `LinkUpdate` is the head of `bpf_attr.link_update` and holds no pointer.
        unsafe { bpf(BPF_LINK_UPDATE, &mut attr) }.map(drop)
    }

    /// Takes the program off the interface now, whoever else holds the link.
    pub(super) fn detach(&self) -> io::Result<()> {
        let mut attr = self.0.as_raw_fd();
        // SAFETY: `bpf_attr.link_detach` is one descriptor.
        unsafe { bpf(BPF_LINK_DETACH, &mut attr) }.map(drop)
    }

    /// What the kernel tells about the link. Errors with `InvalidData` if it is no XDP link.
    pub(super) fn info(&self) -> io::Result<LinkInfo> {
        #[repr(C)]
        struct InfoByFd {
            fd: i32,
            length: u32,
            info: u64,
        }
        #[repr(C, align(8))]
        #[derive(Default)]
        struct XdpLinkInfo {
            kind: u32,
            id: u32,
            program_id: u32,
            padding: u32,
            ifindex: u32,
            rest: [u32; 11],
        }
        let mut info = XdpLinkInfo::default();
        let length = size_of::<XdpLinkInfo>() as u32;
        let mut attr = InfoByFd { fd: self.0.as_raw_fd(), length, info: &raw mut info as u64 };
        // SAFETY: `InfoByFd` is the head of `bpf_attr.info`; the kernel writes at most `length` bytes to `info`, which
        // is as long, lives until the call returns and may hold any bits.
        unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)? };
        if info.kind == BPF_LINK_TYPE_XDP {
            Ok(LinkInfo { program_id: info.program_id, ifindex: info.ifindex })
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the pinned object is no XDP link"))
        }
    }
}

#[repr(C)]
struct Pin {
    path: u64,
    fd: i32,
    flags: u32,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// # Safety
/// `T` must be the head of the kernel's attribute for `command`, and memory that it points to must live and be writable
/// as the command wants it.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `attr` and takes the rest for zero; the caller vouches for
    // what they say.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
