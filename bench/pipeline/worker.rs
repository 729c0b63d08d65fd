//! An engine's worker without its rings.

use rustix::time::{ClockId, clock_gettime};
use sixway::frame::Frame;
use sixway::naming::Names;
use sixway::path::{BURST, Context, Verdict, WorkerState, walk_burst};
use sixway::table;
use sixway::units::PortId;

use super::traffic::{FRAMES, LEN};
use super::world::{NOW, Stage};

/// What the engine's own chunks are: room for a page, of which the kernel leaves this free before the packet.
const CHUNK: usize = 4096;
const HEADROOM: usize = 256;

/// Walks frames, in chunks of its own.
pub struct Bench<'a> {
    names: &'a Names,
    stage: Stage<'a>,
    worker: WorkerState,
    chunks: Vec<u8>,
}

impl<'a> Bench<'a> {
    pub fn new(names: &'a Names, stage: Stage<'a>) -> Bench<'a> {
        let worker = WorkerState::new(0, 1, stage.around.ports.len());
        Bench { names, stage, worker, chunks: vec![0; BURST * CHUNK] }
    }

    /// What `work` takes of this thread's time for each of [`FRAMES`] packets: what else runs on the core is not in it.
    pub fn nanoseconds(&mut self, work: impl FnOnce(&mut Self)) -> f64 {
        let begun = thread_time();
        work(self);
        (thread_time() - begun) / FRAMES as f64
    }

    /// Copies the frames into chunks, burst by burst.
    pub fn copy(&mut self, frames: &[[u8; LEN]]) {
        for burst in frames.chunks(BURST) {
            std::hint::black_box(fill(&mut self.chunks, burst));
        }
    }

    /// Walks the frames, burst by burst. `see` is told the generation of the mapping that each burst has.
    ///
    /// # Panics
    /// If any is not forwarded.
    pub fn walk(&mut self, port: PortId, frames: &[[u8; LEN]], mut see: impl FnMut(u64)) {
        let Stage { around, state, hops } = self.stage;
        let mut guard = table::pin();
        let mut verdicts = [Verdict::Consume; BURST];
        for burst in frames.chunks(BURST) {
            let mut chunks = fill(&mut self.chunks, burst);
            guard.repin();
            let cx = Context { names: self.names.view(&guard), around, state, hops, now: NOW, dry_run: false };
            see(cx.names.generation());
            let walked = walk_burst(&cx, &mut self.worker, port, &mut chunks[..burst.len()], &mut verdicts);
            let forwarded = |verdict: &Verdict| matches!(verdict, Verdict::Forward { .. });
            assert!(verdicts[..walked].iter().all(forwarded), "{verdicts:?}");
        }
    }
}

/// The burst as it comes from a ring.
fn fill<'c>(chunks: &'c mut [u8], burst: &[[u8; LEN]]) -> [Frame<'c>; BURST] {
    let mut chunks = chunks.chunks_exact_mut(CHUNK);
    let mut packets = burst.iter();
    std::array::from_fn(|_| {
        let chunk = chunks.next().unwrap_or_default();
        let Some(packet) = packets.next() else { return Frame::new(chunk, 0, 0) };
        chunk[HEADROOM..HEADROOM + LEN].copy_from_slice(packet);
        Frame::new(chunk, HEADROOM, LEN)
    })
}

/// Nanoseconds that this thread has run.
pub fn thread_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
