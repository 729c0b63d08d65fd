//! Pinning threads to cores.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::config::StartError;

/// Whether threads of this process may run on all of `cores`, isolated ones included. Nothing is moved to find out: the
/// calling thread asks for its own cores and these, and sees which of them the kernel grants (cpusets, offline cores).
pub(super) fn can_pin(cores: &[Option<usize>]) -> Result<(), StartError> {
    let Some(first) = cores.iter().flatten().next() else { return Ok(()) };
    let refused = |core: usize, error: io::Error| StartError::Core(core, error);
    let before = sched_getaffinity(None).map_err(|error| refused(*first, error.into()))?;
    let mut asked = before;
    for &core in cores.iter().flatten() {
        if core >= CpuSet::MAX_CPU {
            return Err(refused(core, io::Error::new(io::ErrorKind::InvalidInput, "there is no such core")));
        }
        asked.set(core);
    }
    let granted = sched_setaffinity(None, &asked).and_then(|()| sched_getaffinity(None));
    // What was granted before is granted again.
    let _ = sched_setaffinity(None, &before);
    let granted = granted.map_err(|error| refused(*first, error.into()))?;
    match cores.iter().flatten().find(|&&core| !granted.is_set(core)) {
        Some(&core) => Err(refused(core, io::Error::new(io::ErrorKind::InvalidInput, "it is offline or not granted"))),
        None => Ok(()),
    }
}

/// That core alone.
pub(super) fn only(core: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(core);
    set
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_is_not_there_is_refused_and_the_thread_stays_where_it_may_run() {
        let before = sched_getaffinity(None).unwrap();
        let one = (0..CpuSet::MAX_CPU).find(|&core| before.is_set(core));
        assert!(can_pin(&[one, None]).is_ok());
        for missing in [CpuSet::MAX_CPU - 1, CpuSet::MAX_CPU] {
            assert!(matches!(can_pin(&[one, Some(missing)]), Err(StartError::Core(core, _)) if core == missing));
        }
        assert!(before == sched_getaffinity(None).unwrap());
    }
}
