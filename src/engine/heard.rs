//! What workers hand to the control side: answers to its probes, and hints at whom to probe, over two single-producer rings
//! a worker.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rtrb::{Consumer, Producer, RingBuffer};

use super::wake::Wake;
use super::worker::INJECTED_MAX;
use crate::path::Hint;
use crate::units::PortId;

/// Frames of one worker that the control side has not taken yet; more are lost, as on any wire.
const DEPTH: usize = 128;
/// The same of hints.
const HINTS: usize = 64;

/// What a worker has heard.
pub enum Word<'a> {
    /// A frame that may be the answer to a probe, and the port that it came in by.
    Answer(PortId, &'a mut [u8]),
    Hint(Hint),
}

/// A frame on its way. It has its bytes in itself, so that nobody allocates.
struct Answer {
    port: PortId,
    bytes: [u8; INJECTED_MAX],
    len: usize,
}

/// The near end: a worker's.
pub(super) struct Mouth {
    answers: Producer<Answer>,
    hints: Producer<Hint>,
    wake: Arc<Wake>,
}

/// The far end: what all workers have handed over. For the control side: it takes a lock.
pub struct Heard {
    rings: Mutex<Vec<(Consumer<Answer>, Consumer<Hint>)>>,
    wake: Arc<Wake>,
}

impl Heard {
    /// # Errors
    /// No eventfd.
    pub(super) fn new() -> io::Result<Heard> {
        Ok(Heard { rings: Mutex::default(), wake: Arc::new(Wake::new()?) })
    }

    /// The end of one more worker.
    pub(super) fn mouth(&self) -> Mouth {
        let ((answers, far_answers), (hints, far_hints)) = (RingBuffer::new(DEPTH), RingBuffer::new(HINTS));
        self.rings.lock().unwrap_or_else(PoisonError::into_inner).push((far_answers, far_hints));
        Mouth { answers, hints, wake: Arc::clone(&self.wake) }
    }

    /// Takes what there is. False if there was nothing.
    pub fn take(&self, mut each: impl FnMut(Word<'_>)) -> bool {
        let mut any = false;
        for (answers, hints) in &mut *self.rings.lock().unwrap_or_else(PoisonError::into_inner) {
            while let Ok(mut answer) = answers.pop() {
                any = true;
                if let Some(bytes) = answer.bytes.get_mut(..answer.len) {
                    each(Word::Answer(answer.port, bytes));
                }
            }
            while let Ok(hint) = hints.pop() {
                any = true;
                each(Word::Hint(hint));
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

    /// Hands hints over, as far as there is room. The same.
    pub(super) fn hint(&mut self, hints: &[Hint]) {
        for hint in hints {
            if self.hints.push(*hint).is_ok() {
                self.wake.up();
            }
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
        let hint = Hint { check: 1, port: PortId(3), ..Hint::default() };
        mouths[1].hint(&[hint; HINTS + 1]);
        let mut hints = 0;
        assert!(heard.take(|word| match word {
            Word::Answer(port, frame) => taken.push((port, frame.to_vec())),
            Word::Hint(given) => hints += u32::from(given == hint),
        }));
        assert_eq!(taken, [(PortId(3), vec![1, 2]), (PortId(4), vec![5; INJECTED_MAX])]);
        assert_eq!(hints as usize, HINTS);
        assert!(!heard.take(|_| panic!("nothing is left")));
        (0..=DEPTH).for_each(|_| mouths[0].tell(PortId(3), &[7]));
        let mut count = 0;
        heard.take(|_| count += 1);
        assert_eq!(count, DEPTH);
    }
}
