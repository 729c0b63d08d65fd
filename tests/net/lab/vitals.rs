//! What an engine says of itself that must not grow.

use std::time::Duration;

use serde_json::json;

use super::api::post_once;
use super::engine::Engine;
use super::{SOON, until};

/// Enough for a listing of the mapping and a rest after one that failed.
const A_WHILE: Duration = Duration::from_secs(30);

/// From `/v1/status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vitals {
    pub generation: u64,
    pub bindings: u64,
    /// Records of its tables.
    pub records: u64,
    pub table_bytes: u64,
    pub grace_periods: u64,
    pub resident_bytes: u64,
    pub open_files: u64,
    pub journal_bytes: u64,
}

impl Vitals {
    /// Once it has changed something, and so has its journal open: a binding came and went.
    pub fn after_a_change(engine: &Engine) -> Vitals {
        let container = json!({"ip": "10.99.99.99", "port": 80});
        let server = json!({"ip": "192.168.99.99", "port": 20_480});
        let put = json!({"network": "blue", "proto": "tcp", "server": server, "container": container});
        let key = json!({"network": "blue", "proto": "tcp", "container": container});
        for set in [json!({"put": [put]}), json!({"delete": [key]})] {
            let (status, answer) = post_once(&engine.socket(), &set);
            assert_eq!(status, 200, "{answer}");
        }
        Vitals::settled(engine)
    }

    /// Once nothing is retired any more, and the journal is as short as it gets.
    pub fn settled(engine: &Engine) -> Vitals {
        until("what was retired is freed, the journal is whole", A_WHILE, || {
            let status = engine.get("/v1/status");
            let journal = &status["journal"];
            let is_whole = journal["bytes"] == 0 || journal["complete"] == true;
            (status["tables"]["retired"] == 0 && is_whole).then_some(())
        });
        Vitals::of(engine)
    }

    /// As it is.
    pub fn of(engine: &Engine) -> Vitals {
        let status = engine.get("/v1/status");
        let number = |pointer: &str| {
            status.pointer(pointer).and_then(|value| value.as_u64()).unwrap_or_else(|| panic!("{pointer}: {status}"))
        };
        Vitals {
            generation: number("/generation"),
            bindings: number("/bindings"),
            records: number("/tables/records"),
            table_bytes: number("/tables/bytes"),
            grace_periods: number("/tables/grace_periods"),
            resident_bytes: number("/process/resident_bytes"),
            open_files: number("/process/open_files"),
            journal_bytes: number("/journal/bytes"),
        }
    }
}

/// Waits until the engine has no more descriptors than before.
pub fn until_closed(engine: &Engine, before: &Vitals) {
    until("connections are closed", SOON, || (Vitals::of(engine).open_files <= before.open_files).then_some(()));
}
