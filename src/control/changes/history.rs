//! What has changed lately, for those who watch.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use crate::naming::{BindingKey, BindingSpec, HealthReport, Prepared};
use crate::table;

/// Bindings that are kept, over all change sets: some ten megabytes. A watcher that falls back further reads the mapping
/// anew.
const KEPT: usize = 65_536;

/// The change sets of late, oldest first. Written by the control thread; read by every watcher.
pub struct History {
    kept: Mutex<Kept>,
    latest: watch::Sender<u64>,
    over: AtomicBool,
}

struct Kept {
    /// What the mapping was before the first of `events`.
    since: u64,
    events: VecDeque<Arc<Event>>,
    bindings: usize,
}

/// One change set, in the form in which it could be asked for again.
pub struct Event {
    generation: u64,
    /// `None`: too much to be kept.
    what: Option<What>,
    json: OnceLock<String>,
}

#[derive(Serialize)]
struct What {
    put: Vec<BindingSpec>,
    delete: Vec<BindingKey>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    health: Vec<HealthReport>,
}

/// What came after this generation is no longer known in full, or the generation is not known at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone;

impl Event {
    /// What a prepared change set does.
    pub(super) fn of(prepared: &Prepared<'_>) -> Event {
        let change = prepared.change();
        let small = prepared.put().len() + change.removed + change.health <= KEPT / 2;
        let what = small.then(|| {
            let put: Vec<BindingSpec> = prepared.put().cloned().collect();
            // A binding in the place of another has its key, but for blocks of equal numbers that got others.
            let replaced: HashSet<BindingKey> = put.iter().map(BindingSpec::exact_key).collect();
            let guard = table::pin();
            let gone = prepared.gone(&guard).map(|binding| binding.exact_key());
            let delete = gone.filter(|key| !replaced.contains(key)).collect();
            What { put, delete, health: prepared.health() }
        });
        Event { generation: change.generation, what, json: OnceLock::new() }
    }

    /// The generation that it made.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// `{"generation":N,"put":[…],"delete":[…]}`, and `"health":[…]` if there is any
    #[must_use]
    pub fn json(&self) -> &str {
        #[derive(Serialize)]
        struct Form<'a> {
            generation: u64,
            #[serde(flatten)]
            what: &'a Option<What>,
        }
        let form = Form { generation: self.generation, what: &self.what };
        self.json.get_or_init(|| serde_json::to_string(&form).unwrap_or_default())
    }

    fn bindings(&self) -> usize {
        self.what.as_ref().map_or(0, |what| what.put.len() + what.delete.len() + what.health.len())
    }
}

impl History {
    /// That of a mapping that is of this generation now.
    #[must_use]
    pub fn new(generation: u64) -> History {
        let kept = Kept { since: generation, events: VecDeque::new(), bindings: 0 };
        History { kept: Mutex::new(kept), latest: watch::Sender::new(generation), over: AtomicBool::new(false) }
    }

    /// Change sets after that generation, in order, as many as there are now.
    ///
    /// # Errors
    /// They are not all known any more.
    pub fn since(&self, generation: u64) -> Result<Vec<Arc<Event>>, Gone> {
        let kept = self.kept();
        let latest = kept.events.back().map_or(kept.since, |event| event.generation);
        if generation < kept.since || generation > latest {
            return Err(Gone);
        }
        let first = kept.events.partition_point(|event| event.generation <= generation);
        Ok(kept.events.iter().skip(first).cloned().collect())
    }

    /// The latest generation, and a way to wait for the next.
    #[must_use]
    pub fn latest(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// Nothing more will come: watchers are woken to see it.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.latest.send_modify(|_| {});
    }

    /// True if nothing more will come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, generation: u64, event: Event) {
        let mut kept = self.kept();
        if event.what.is_none() {
            *kept = Kept { since: generation, events: VecDeque::new(), bindings: 0 };
        } else {
            kept.bindings += event.bindings();
            kept.events.push_back(Arc::new(event));
            while kept.bindings > KEPT {
                let Some(oldest) = kept.events.pop_front() else { break };
                kept.since = oldest.generation;
                kept.bindings -= oldest.bindings();
            }
        }
        drop(kept);
        self.latest.send_replace(generation);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
