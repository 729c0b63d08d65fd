//! The control socket: HTTP/1.1 with JSON over a Unix stream socket, so that `curl --unix-socket` is a client.

mod access;
mod bindings;
mod body;
mod change;
mod connections;
mod flows;
mod health;
mod metrics;
mod ports;
mod problem;
mod report;
mod routes;
mod socket;
mod watch;

pub use access::{Groups, Rights};
pub use bindings::GENERATION;
pub use change::Changed;
pub use flows::{End, Flow};
pub use health::HealthEntry;
pub use problem::{Fault, Problem};
pub use report::{
    AffinityReport, Attaching, Changing, DropCount, ExplainRequest, FragmentsReport, Mapped, Observed, PortReport,
    Ports, Probe, Probing, ProcessReport, Quarantined, QueueReport, Served, Status, TablesReport, Traffic,
    WorkerReport,
};
pub use routes::{ROUTES, router, serve};
pub use socket::{Bequest, ControlSocket};

#[cfg(test)]
mod tests;
