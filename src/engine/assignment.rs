//! Which worker serves which queue (design section 5).

use crate::units::{PortId, QueueId};

/// The worker of a port's queue, of `workers`: single-queue ports spread among them, multi-queue ports over all.
pub(super) fn worker_of(port: PortId, queue: QueueId, workers: usize) -> usize {
    (queue.0 as usize + usize::from(port.0)) % workers.max(1)
}

/// The queue by which `worker` sends on a port of `queues` queues: its own, where it serves one, so that frames need not
/// cross to another worker.
pub(super) fn sending_queue(port: PortId, queues: u32, worker: usize, workers: usize) -> QueueId {
    let own = (0..queues).map(QueueId).find(|&queue| worker_of(port, queue, workers) == worker);
    own.unwrap_or(QueueId(worker as u32 % queues.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_queue_ports_spread_among_the_workers() {
        let workers: Vec<usize> = (0..4).map(|port| worker_of(PortId(port), QueueId(0), 2)).collect();
        assert_eq!(workers, [0, 1, 0, 1]);
    }

    #[test]
    fn a_port_with_a_queue_for_each_worker_is_sent_on_without_crossing() {
        for port in 0..3 {
            for worker in 0..4 {
                let queue = sending_queue(PortId(port), 4, worker, 4);
                assert_eq!(worker_of(PortId(port), queue, 4), worker);
            }
        }
    }

    #[test]
    fn a_worker_without_a_queue_picks_one_that_exists() {
        for worker in 0..4 {
            assert!(sending_queue(PortId(1), 2, worker, 4).0 < 2);
        }
        assert_eq!(sending_queue(PortId(0), 1, 3, 4), QueueId(0));
    }
}
