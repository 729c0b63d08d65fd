//! Carrying verdicts out: every packet is sent, held or released here, and counted once.

use std::mem;

use super::crossing::Sent;
use super::held::{Held, Holding};
use super::worker::{Queue, Route, Worker};
use crate::afxdp::{Refused, Segment, Umem};
use crate::frame::{self, ETHERNET_LEN, Frame};
use crate::path::{BURST, Context, Reason, Verdict};
use crate::units::{Mac, PortId, VlanTags};

/// Bytes before an injected frame, as the kernel leaves them before a received one.
pub(super) const HEADROOM: u16 = 256;

impl Worker {
    /// Carries a verdict on a packet that came in by `from` out, and counts it. `chain` is empty afterwards.
    pub(super) fn settle(&mut self, cx: &Context<'_>, from: PortId, verdict: Verdict, chain: &mut Vec<Segment>) {
        match verdict {
            Verdict::Forward { port } => self.send(chain, from, port, Sent::Forwarded),
            Verdict::Cut { port, mtu } => self.send_in_pieces(chain, from, port, mtu),
            Verdict::Answer { port, answer } => self.send(chain, from, port, Sent::Answered(answer)),
            Verdict::Drop(reason) => self.discard(chain, from, reason),
            Verdict::Consume => {
                self.cells.ports[usize::from(from.0)].consumed.add(1);
                self.release(chain);
            }
            Verdict::Heard => {
                self.cells.ports[usize::from(from.0)].consumed.add(1);
                if let [only] = &mut chain[..] {
                    let bounds = usize::from(only.offset)..usize::from(only.offset) + usize::from(only.len);
                    if let Some(frame) = self.umem.bytes(&mut only.buffer).get(bounds) {
                        self.mouth.tell(from, frame);
                    }
                }
                self.release(chain);
            }
            Verdict::Host => self.hand_back(cx, from, chain),
            Verdict::Await { key } => self.await_first(cx, from, key, chain),
            Verdict::Hold { port, hop } => match self.scratch.waiting.hold(chain, from, port, hop, cx.now) {
                Holding::Refused => self.discard(chain, from, Reason::Unresolved),
                first_or_joined => {
                    self.cells.ports[usize::from(from.0)].held.add(1);
                    if matches!(first_or_joined, Holding::First) {
                        // If the question gets lost, the packet that comes after this one has gone asks again.
                        (self.resolve)(port, hop);
                    }
                }
            },
        }
    }

    /// Sends a packet that came in by `from` out of `to`, or drops it if there is no room.
    pub(super) fn send(&mut self, chain: &mut Vec<Segment>, from: PortId, to: PortId, sent: Sent) {
        match self.routes.get(usize::from(to.0)).copied().unwrap_or(Route::Nowhere) {
            Route::Here(at) => self.send_here(chain, at, from, sent),
            Route::There(worker) => {
                let pushed = match self.outgoing.get_mut(worker) {
                    Some(Some(outgoing)) => outgoing.push(chain, from, to, sent),
                    _ => false,
                };
                if !pushed {
                    self.not_sent(chain, from, sent, Reason::TransmitFull);
                }
            }
            Route::Nowhere => self.not_sent(chain, from, sent, Reason::NoPort),
        }
    }

    /// Drops what could not be sent.
    fn not_sent(&mut self, chain: &mut Vec<Segment>, from: PortId, sent: Sent, reason: Reason) {
        match sent {
            Sent::Forwarded | Sent::Answered(_) => self.discard(chain, from, reason),
            Sent::Part => self.release(chain),
        }
    }

    fn send_here(&mut self, chain: &mut Vec<Segment>, at: usize, from: PortId, sent: Sent) {
        let bytes = chain.iter().map(|segment| u64::from(segment.len)).sum();
        match stage(&mut self.queues[at], &mut self.umem, chain) {
            Ok(()) => {
                self.queues[at].cells.tx_packets.add(1);
                self.queues[at].cells.tx_bytes.add(bytes);
                let verdicts = &self.cells.ports[usize::from(from.0)];
                match sent {
                    Sent::Forwarded => verdicts.forwarded.add(1),
                    Sent::Answered(answer) => verdicts.answered[answer.index()].add(1),
                    Sent::Part => {}
                }
            }
            Err(Refused::Full) => self.not_sent(chain, from, sent, Reason::TransmitFull),
            Err(Refused::Invalid) => self.not_sent(chain, from, sent, Reason::TooBig),
        }
    }

    pub(super) fn discard(&mut self, chain: &mut Vec<Segment>, from: PortId, reason: Reason) {
        self.cells.ports[usize::from(from.0)].dropped.add(reason);
        self.release(chain);
    }

    pub(super) fn release(&mut self, chain: &mut Vec<Segment>) {
        for segment in chain.drain(..) {
            self.umem.release(segment.buffer);
        }
    }

    /// Sends what other workers have passed over, a burst from each. True if there was anything.
    pub(super) fn take_arrivals(&mut self) -> bool {
        let mut any = false;
        for worker in 0..self.incoming.len() {
            for _ in 0..BURST {
                if !self.take_arrival(worker) {
                    break;
                }
                any = true;
            }
        }
        any
    }

    /// The same, when nothing comes after it.
    pub(super) fn take_arrivals_to_the_end(&mut self) {
        while self.take_arrivals() {
            self.flush();
        }
    }

    pub(super) fn take_arrival(&mut self, worker: usize) -> bool {
        let mut chain = mem::take(&mut self.scratch.arriving[worker]);
        let arrival = self.incoming[worker].take(&mut self.umem, &mut chain);
        if let Some(arrival) = &arrival {
            match self.routes.get(usize::from(arrival.to.0)) {
                Some(&Route::Here(at)) if arrival.copied => self.send_here(&mut chain, at, arrival.from, arrival.sent),
                Some(Route::Here(_)) => self.not_sent(&mut chain, arrival.from, arrival.sent, Reason::TransmitFull),
                _ => self.not_sent(&mut chain, arrival.from, arrival.sent, Reason::NoPort),
            }
        }
        self.scratch.arriving[worker] = chain;
        arrival.is_some()
    }

    /// Sends what the control side has injected. True if there was anything.
    pub(super) fn take_injected(&mut self) -> bool {
        let mut any = false;
        for _ in 0..BURST {
            let Ok(injected) = self.injected.pop() else { break };
            any = true;
            let Some(&Route::Here(at)) = self.routes.get(usize::from(injected.port.0)) else { continue };
            let (Some(bytes), Some(mut buffer)) = (injected.bytes.get(..injected.len), self.umem.take()) else {
                continue;
            };
            let place = usize::from(HEADROOM)..usize::from(HEADROOM) + bytes.len();
            if let Some(place) = self.umem.bytes(&mut buffer).get_mut(place) {
                place.copy_from_slice(bytes);
            }
            let segment = Segment { buffer, offset: HEADROOM, len: bytes.len() as u16, more: false };
            let mut chain = mem::take(&mut self.scratch.chain);
            chain.push(segment);
            if stage(&mut self.queues[at], &mut self.umem, &mut chain).is_ok() {
                self.queues[at].cells.tx_packets.add(1);
                self.queues[at].cells.tx_bytes.add(injected.len as u64);
            }
            self.release(&mut chain);
            self.scratch.chain = chain;
        }
        any
    }

    /// Sends the packets whose next hop is known by now, and drops those that have waited too long.
    pub(super) fn look_after_held(&mut self, cx: &Context<'_>) {
        for _ in 0..self.scratch.waiting.len() {
            let Some(held) = self.scratch.waiting.next() else { break };
            match cx.hops.station(held.hop, Some(held.to)) {
                Some(mac) => self.send_held(cx, held, mac),
                None if !held.is_overdue(cx.now) => self.scratch.waiting.keep(held),
                None => self.drop_one_held(held, Reason::Unresolved),
            }
        }
    }

    fn send_held(&mut self, cx: &Context<'_>, mut held: Held, mac: Mac) {
        let (own, mtu, tags) = match cx.around.port(held.to) {
            Some(port) => (port.mac, port.mtu, port.tags),
            None => (Mac::ZERO, u32::MAX, VlanTags::NONE),
        };
        let len: usize = held.chain.iter().map(|segment| usize::from(segment.len)).sum();
        if let Some(first) = held.chain.first_mut() {
            let (start, len) = (usize::from(first.offset), usize::from(first.len));
            frame::set_macs(&mut Frame::new(self.umem.bytes(&mut first.buffer), start, len), mac, own);
        }
        self.cells.ports[usize::from(held.from.0)].held.sub(1);
        if len > ETHERNET_LEN + tags.byte_len() + mtu as usize {
            self.send_in_pieces(&mut held.chain, held.from, held.to, mtu);
        } else {
            self.send(&mut held.chain, held.from, held.to, Sent::Forwarded);
        }
        self.scratch.waiting.recycle(held.chain);
    }

    fn drop_one_held(&mut self, mut held: Held, reason: Reason) {
        self.cells.ports[usize::from(held.from.0)].held.sub(1);
        self.discard(&mut held.chain, held.from, reason);
        self.scratch.waiting.recycle(held.chain);
    }

    /// Gives up on all that waits and is as said.
    pub(super) fn drop_held_if(&mut self, reason: Reason, is_meant: impl Fn(&Held) -> bool) {
        for _ in 0..self.scratch.waiting.len() {
            match self.scratch.waiting.next() {
                Some(held) if is_meant(&held) => self.drop_one_held(held, reason),
                Some(held) => self.scratch.waiting.keep(held),
                None => break,
            }
        }
    }
}

/// Stages a packet of one or several segments; `chain` is empty if it went.
fn stage(queue: &mut Queue, umem: &mut Umem, chain: &mut Vec<Segment>) -> Result<(), Refused> {
    queue.dirty = true;
    if chain.len() != 1 {
        return queue.socket.stage_chain(umem, chain);
    }
    let Some(segment) = chain.pop() else { return Err(Refused::Invalid) };
    queue.socket.stage(umem, segment).map_err(|(refused, segment)| {
        chain.push(segment);
        refused
    })
}
