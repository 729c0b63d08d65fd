//! One line of the doctor's report.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    /// It works, but less well, or in some cases only.
    Warn,
    /// It does not work.
    Fail,
}

/// What was looked at, what was found, and the way out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) subject: String,
    pub(super) found: String,
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(subject: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, subject: subject.into(), found: found.into(), advice: None }
    }

    pub(super) fn warn(subject: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { level: Level::Warn, advice: Some(advice.into()), ..Finding::ok(subject, found) }
    }

    pub(super) fn fail(subject: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { level: Level::Fail, advice: Some(advice.into()), ..Finding::ok(subject, found) }
    }
}
