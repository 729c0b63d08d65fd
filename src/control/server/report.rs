//! What the engine tells of itself.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::{Flow, Problem};
use crate::control::changes::{Asked, History, Refused};
use crate::control::health::Tally;
use crate::control::journal::{JournalReport, Outcome};
use crate::naming::{Change, Names};

/// The engine, as the control socket sees it. Called on the control thread, never on a worker.
pub trait Observed: Send + Sync + 'static {
    fn status(&self) -> Status;
    fn ports(&self) -> Vec<PortReport>;
    fn workers(&self) -> Vec<WorkerReport>;
    /// Every (port, reason) that has dropped something.
    fn drops(&self) -> Vec<DropCount>;
    /// Some connections that are translated, from a place on, and the place to go on at; 0 is the first.
    fn flows(&self, place: u32) -> (Vec<Flow>, Option<u32>);
    /// What is probed on this server, and what came of it.
    fn probing(&self) -> Probing {
        Probing::default()
    }
    /// What would happen to a packet, step by step.
    ///
    /// # Errors
    /// 404 for a port that is not there, 400 for a packet that cannot be.
    fn explain(&self, request: &ExplainRequest) -> Result<serde_json::Value, Problem>;
}

/// A change set that is being carried out.
pub type Changing = Pin<Box<dyn Future<Output = Result<Change, Refused>> + Send>>;

/// The mapping, as the control socket sees and changes it. Called on the control thread, never on a worker.
pub trait Mapped: Send + Sync + 'static {
    /// The live tables.
    fn names(&self) -> &Arc<Names>;
    /// What has changed lately.
    fn history(&self) -> &History;
    /// Puts a change set in force when its turn has come, or says why not: see [`Refused`]. The mapping then stays as it
    /// was.
    fn change(self: Arc<Self>, asked: Asked) -> Changing;
    /// Tells once all that was put in force so far is on disk, or was taken back because it could not be. `None`: there
    /// is nothing to wait for.
    fn kept(&self) -> Option<oneshot::Receiver<Outcome>> {
        None
    }
}

/// A port that is being attached.
pub type Attaching = Pin<Box<dyn Future<Output = Result<PortReport, Problem>> + Send>>;

/// The ports, as they come and go. Called on the control thread, never on a worker.
pub trait Ports: Send + Sync + 'static {
    /// Attaches an access port while the mapping is not being changed: packets come when it is done. `form` has the keys of
    /// `[[port]]`. 400 and 422 with every mistake, 500 or 503 where the host does not do its part; all is then as before.
    fn attach(self: Arc<Self>, form: Map<String, Value>) -> Attaching;
    /// Detaches the port of this name: no packet of it is in the engine when this returns.
    ///
    /// # Errors
    /// 404 if there is none, 409 if it is the configuration's.
    fn detach(&self, name: &str) -> Result<(), Problem>;
}

/// All that the control socket serves.
pub trait Served: Observed + Mapped + Ports {}

impl<T: Observed + Mapped + Ports> Served for T {}

/// `GET /v1/status`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    /// The engine's process.
    pub pid: u32,
    /// How long it has run, in seconds.
    pub uptime_s: u64,
    /// Which change set of the mapping packets see.
    pub generation: u64,
    /// How many bindings that is.
    pub bindings: u64,
    /// True if the XDP programs outlive the process.
    pub pinned: bool,
    /// True if someone keeps the descriptors for the next engine.
    pub holder: bool,
    /// Wire names that rest because their owner changed.
    pub quarantine: Vec<Quarantined>,
    /// Flows that stay on their replica.
    #[serde(default)]
    pub affinity: AffinityReport,
    /// Packets in fragments.
    #[serde(default)]
    pub fragments: FragmentsReport,
    /// The tables of the mapping.
    #[serde(default)]
    pub tables: TablesReport,
    #[serde(default)]
    pub process: ProcessReport,
    /// Where accepted change sets are kept; none, if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalReport>,
}

/// Room for flows to names that several bindings hold, in `GET /v1/status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AffinityReport {
    /// Flows that have an entry now.
    pub used: u64,
    pub capacity: u64,
    /// Packets of flows that there was no room for: the hash alone decided.
    pub full: u64,
}

/// Packets in fragments, in `GET /v1/status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FragmentsReport {
    /// Packets that are remembered now.
    pub used: u64,
    pub capacity: u64,
    /// Packets that lost their place to newer ones before they were complete.
    pub forgotten: u64,
    /// Ports that give fragments back to the kernel which are its own and came before their first.
    pub ways_back: u64,
}

/// What the mapping costs, in `GET /v1/status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TablesReport {
    /// Bindings, and what they refer to.
    pub records: u64,
    /// Records that changes have replaced, and that are not freed yet since a packet may still be looking at them.
    pub retired: u64,
    /// Times that all workers were seen to have let go of what had been retired until then.
    pub grace_periods: u64,
    pub bytes: u64,
}

/// The process, as the kernel counts, in `GET /v1/status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProcessReport {
    /// Memory in use, that of packets included.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub open_files: u64,
}

/// A wire name, or a range of them, that rests.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Quarantined {
    pub proto: String,
    pub server: String,
    /// A port, or a range like `20736-20991`.
    pub ports: String,
    /// How long it still rests, in seconds.
    pub remaining_s: u64,
}

/// Packets and bytes both ways, as the engine counts them: with Ethernet header, without FCS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Traffic {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    /// Received packets that were dropped, for whatever reason.
    pub drops: u64,
}

/// An element of `GET /v1/ports`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PortReport {
    pub name: String,
    pub interface: String,
    /// `uplink`, `access` or `external`.
    pub role: String,
    /// The network of an access port.
    pub network: Option<String>,
    /// The identifiers of the VLAN tags that its frames bear, the outer first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlan: Vec<u16>,
    pub mac: String,
    pub mtu: u16,
    pub up: bool,
    /// It was attached while the engine ran, and may be detached.
    #[serde(default)]
    pub live: bool,
    /// How the XDP program is attached: `native` or `generic`.
    pub attach: String,
    /// How packets get to the engine: `zero-copy` or `copy`.
    pub mode: String,
    pub queues: Vec<QueueReport>,
    #[serde(flatten)]
    pub traffic: Traffic,
    /// What became of the packets that it received: these, `answered`, `consumed`, `host`, `held` and `drops` add up to
    /// `rx_packets`.
    pub forwarded: u64,
    pub answered: u64,
    /// What the answers were.
    pub answers: BTreeMap<String, u64>,
    /// Taken in without an answer.
    pub consumed: u64,
    /// Passed to the kernel.
    pub host: u64,
    /// Waiting for their next hop.
    pub held: u64,
}

/// One queue of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct QueueReport {
    pub queue: u32,
    /// The worker that it belongs to.
    pub worker: u32,
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Packets that the kernel could not hand over because the receive ring was full (XDP_STATISTICS).
    pub rx_ring_full: u64,
    /// Packets that the kernel had no empty frame for (XDP_STATISTICS).
    pub fill_ring_empty: u64,
}

/// An element of `GET /v1/workers`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WorkerReport {
    pub worker: u32,
    /// The core that it is pinned to.
    pub core: Option<u32>,
    /// Turns of its loop, and those of them that found packets.
    pub polls: u64,
    pub busy_polls: u64,
    /// Times that it slept.
    pub sleeps: u64,
    pub packets: u64,
    /// Frames of its UMEM: all, and those that are free now.
    pub frames: u32,
    pub frames_free: u32,
    /// Queues of ports to come that it still has memory for.
    #[serde(default)]
    pub spare_queues: u32,
}

/// What the health checks of this server do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Probing {
    /// Of all probes since the engine's start.
    pub totals: Tally,
    /// By the identity of the binding ([`View::identity`](crate::naming::View::identity)).
    pub by_binding: HashMap<u64, Vec<Probe>>,
}

/// How a binding is probed, and what came of it since its container came or the engine began.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Probe {
    /// `tcp` or `udp`.
    pub proto: String,
    /// `tcp`, `http`, `udp` or `icmp`.
    pub kind: String,
    #[serde(flatten)]
    pub tally: Tally,
}

/// An element of `GET /v1/drops`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DropCount {
    pub port: String,
    pub reason: String,
    pub packets: u64,
}

/// The body of `POST /v1/explain`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The port at which the packet arrives.
    pub port: String,
    /// A protocol's name or number.
    pub proto: String,
    /// `ADDRESS:PORT`, or an address for portless protocols.
    pub src: String,
    pub dst: String,
}
