//! Large texts are read by two threads.

use std::sync::mpsc::sync_channel;
use std::thread::{Builder, available_parallelism, scope};

/// Pieces that may be read and not yet taken.
const AHEAD: usize = 4;

/// Reads pieces by this thread and another, every second one each, and takes what was read in order, until `take` says
/// that it is enough. One piece, or one core, needs no second thread.
pub fn in_turns<P: Sync, T: Send>(pieces: &[P], read: impl Fn(&P) -> T + Sync, mut take: impl FnMut(T) -> bool) {
    if pieces.len() < 2 || available_parallelism().map_or(1, usize::from) < 2 {
        pieces.iter().map(read).all(take);
        return;
    }
    scope(|scope| {
        let (give, given) = sync_channel(AHEAD);
        let read = &read;
        let every_second = move || {
            // Nobody takes any more: it was enough.
            let _ = pieces.iter().skip(1).step_by(2).map(read).try_for_each(|part| give.send(part));
        };
        // Where there can't be another thread, nothing is given, and this one reads all.
        let _ = Builder::new().spawn_scoped(scope, every_second);
        for (nth, piece) in pieces.iter().enumerate() {
            let given = if nth % 2 == 1 { given.recv().ok() } else { None };
            if !take(given.unwrap_or_else(|| read(piece))) {
                break;
            }
        }
        drop(given);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_taken_in_order_until_it_is_enough() {
        for count in [0, 1, 2, 3, 100] {
            let pieces: Vec<usize> = (0..count).collect();
            let mut taken = Vec::new();
            in_turns(
                &pieces,
                |piece| piece * 2,
                |read| {
                    taken.push(read);
                    read < 40
                },
            );
            assert_eq!(taken, (0..count.min(21)).map(|piece| piece * 2).collect::<Vec<_>>());
        }
    }
}
