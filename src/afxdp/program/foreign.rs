//! Naming an XDP program that is not ours, so that its owner can be asked to leave.

use std::{fmt, fs};

use aya::programs::loaded_programs;

/// An XDP program that somebody else attached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Foreign {
    /// Its name, as the kernel keeps it (15 characters at most); empty if the kernel has none or does not tell.
    pub name: String,
    /// Its id, as `bpftool prog show id` takes it.
    pub id: u32,
    /// A process that holds a descriptor of it or of its link: pid and command name.
    pub owner: Option<(u32, String)>,
}

impl Foreign {
    /// Finds out about the program of that id.
    pub(super) fn describe(id: u32) -> Foreign {
        let program = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id);
        let name = program.as_ref().and_then(|program| program.name_as_str()).unwrap_or_default().to_owned();
        Foreign { name, id, owner: holder_of(id) }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XDP program `{}` (id {})", self.name, self.id)?;
        match &self.owner {
            Some((pid, command)) => write!(f, ", held by {command} (pid {pid})"),
            None => f.write_str(", held by no process that we can see"),
        }
    }
}

/// The first process with a descriptor whose fdinfo names the program.
fn holder_of(program_id: u32) -> Option<(u32, String)> {
    let ours = std::process::id();
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.filter(|&pid| pid != ours) {
        // Processes come and go, and some may not be looked into: they are skipped.
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { continue };
        let infos = descriptors.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
        if infos.into_iter().any(|info| names_program(&info, program_id)) {
            let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Some((pid, command.trim_end().to_owned()));
        }
    }
    None
}

fn names_program(fdinfo: &str, program_id: u32) -> bool {
    fdinfo.lines().filter_map(|line| line.strip_prefix("prog_id:")).any(|id| id.trim().parse() == Ok(program_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_is_read_by_whole_numbers() {
        let info = "pos:\t0\nflags:\t02000002\nprog_type:\t6\nprog_tag:\t61f99a88fa31f7fc\nprog_id:\t102\n";
        assert!(names_program(info, 102));
        assert!(!names_program(info, 10) && !names_program(info, 6));
    }

    #[test]
    fn a_foreign_program_is_named_with_its_owner() {
        let foreign = Foreign { name: "theirs".to_owned(), id: 7, owner: Some((12, "cilium".to_owned())) };
        assert_eq!(foreign.to_string(), "XDP program `theirs` (id 7), held by cilium (pid 12)");
    }
}
