//! The control socket: HTTP/1.1 with JSON over a Unix stream socket, so that `curl --unix-socket` is a client.

mod problem;
mod report;
mod routes;
mod socket;

pub use problem::Problem;
pub use report::{
    DropCount, ExplainRequest, Observed, PortReport, Quarantined, QueueReport, Status, Traffic, WorkerReport,
};
pub use routes::{router, serve};
pub use socket::{Bequest, ControlSocket};

#[cfg(test)]
mod tests;
