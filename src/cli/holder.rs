//! `sixway holder`: the process that `sixway run --holder` leaves behind.

use super::Exit;
use super::arguments::Holder;
use super::output::complain;
use crate::control::holder::keep;

/// Runs until it is told to end.
pub(super) fn run(arguments: &Holder) -> Exit {
    match keep(&arguments.socket) {
        Ok(()) => Exit::Done,
        Err(error) => {
            complain(format_args!("{}: {error}", arguments.socket.display()));
            Exit::No
        }
    }
}
