//! Frames that workers hand to the control side: answers to its probes, over one single-producer ring a worker.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rtrb::{Consumer, Producer, RingBuffer};

use super::wake::Wake;
use super::worker::INJECTED_MAX;
use crate::units::PortId;

/// Frames of one worker that the control side has not taken yet; more are lost, as on any wire.
const DEPTH: usize = 128;

/// A frame on its way. It has its bytes in itself, so that nobody allocates.
struct Answer {
    port: PortId,
    bytes: [u8; INJECTED_MAX],
    len: usize,
}

/// The near end: a worker's.
pub(super) struct Mouth {
    answers: Producer<Answer>,
    wake: Arc<Wake>,
}

/// The far end: what all workers have handed over. For the control side: it takes a lock.
pub struct Heard {
    answers: Mutex<Vec<Consumer<Answer>>>,
    wake: Arc<Wake>,
}

impl Heard {
    /// # Errors
    /// No eventfd.
    pub(super) fn new() -> io::Result<Heard> {
        Ok(Heard { answers: Mutex::default(), wake: Arc::new(Wake::new()?) })
    }

    /// The end of one more worker.
    pub(super) fn mouth(&self) -> Mouth {
        let (near, far) = RingBuffer::new(DEPTH);
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(far);
        Mouth { answers: near, wake: Arc::clone(&self.wake) }
    }

    /// Takes what there is: each frame, and the port that it came in by. False if there was nothing.
    pub fn take(&self, mut each: impl FnMut(PortId, &mut [u8])) -> bool {
        let mut any = false;
        for answers in &mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner) {
            while let Ok(mut answer) = answers.pop() {
                any = true;
                if let Some(bytes) = answer.bytes.get_mut(..answer.len) {
                    each(answer.port, bytes);
                }
            }
        }
        any
    }

    /// To be called before the last look: from then on the descriptor becomes readable when something comes.
    pub fn going_to_sleep(&self) {
        self.wake.going_to_sleep();
    }

    /// Called when the sleep is over, or was none.
    pub fn awake(&self) {
        self.wake.awake();
    }
}

impl AsFd for Heard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Mouth {
    /// Hands a frame over, if it is short enough for an answer and there is room. A system call only if the control side
    /// sleeps.
    pub(super) fn tell(&mut self, port: PortId, frame: &[u8]) {
        let mut bytes = [0; INJECTED_MAX];
        let Some(place) = bytes.get_mut(..frame.len()) else { return };
        place.copy_from_slice(frame);
        if self.answers.push(Answer { port, bytes, len: frame.len() }).is_ok() {
            self.wake.up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_with_their_ports_and_long_ones_are_lost() {
        let heard = Heard::new().unwrap();
        let mut mouths = [heard.mouth(), heard.mouth()];
        mouths[0].tell(PortId(3), &[1, 2]);
        mouths[1].tell(PortId(4), &[5; INJECTED_MAX]);
        mouths[1].tell(PortId(4), &[6; INJECTED_MAX + 1]);
        let mut taken = Vec::new();
        assert!(heard.take(|port, frame| taken.push((port, frame.to_vec()))));
        assert_eq!(taken, [(PortId(3), vec![1, 2]), (PortId(4), vec![5; INJECTED_MAX])]);
        assert!(!heard.take(|_, _| panic!("nothing is left")));
        (0..=DEPTH).for_each(|_| mouths[0].tell(PortId(3), &[7]));
        let mut count = 0;
        heard.take(|_, _| count += 1);
        assert_eq!(count, DEPTH);
    }
}
