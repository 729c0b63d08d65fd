//! Errors as RFC 9457 problem documents.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::control::changes::Refused;
use crate::naming::{Clash, Located, Wanted};

/// Most mistakes that one answer names.
pub(super) const MOST_FAULTS: usize = 100;

/// A problem document. Its type is `about:blank`: the status says what kind of problem it is (RFC 9457 section 4.2.1).
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The status in words.
    pub title: String,
    /// What is wrong with this request.
    pub detail: String,
    /// The generation that the mapping is of, where a change set was made for another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Everything that is wrong with the bindings, up to a hundred, or with the port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
}

/// One thing that is wrong with a binding or a port.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Fault {
    /// What is wrong, in words.
    pub detail: String,
    /// Its line in NDJSON, or its place in the list of the change set, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The binding, or the key that was to be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Value>,
    /// The other side of a clash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Value>,
    /// The other side's line or place; none if it was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_line: Option<u32>,
}

impl Problem {
    /// 400: the request cannot be understood.
    #[must_use]
    pub fn malformed(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404: there is no such thing.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    /// 403: not for this peer.
    pub(super) fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, detail)
    }

    /// 500: the host did not do its part.
    #[must_use]
    pub fn internal(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    /// 503: not now.
    #[must_use]
    pub fn busy(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// 409: not as things are.
    #[must_use]
    pub fn conflict(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, detail)
    }

    /// Everything that is wrong with a port: 400 if it can't be understood, 422 if it can't be attached.
    #[must_use]
    pub fn of_port(mistakes: Vec<String>, is_malformed: bool) -> Problem {
        let status = if is_malformed { StatusCode::BAD_REQUEST } else { StatusCode::UNPROCESSABLE_ENTITY };
        let detail = mistakes.join("; ");
        let errors = mistakes.into_iter().map(|detail| Fault { detail, ..Fault::default() }).collect();
        Problem { errors, ..Problem::new(status, detail) }
    }

    /// 409: the mapping is of another generation.
    pub(super) fn stale(generation: u64) -> Problem {
        let detail = format!("the mapping is of generation {generation} by now: look at it again");
        Problem { generation: Some(generation), ..Problem::new(StatusCode::CONFLICT, detail) }
    }

    /// 400: lines that are no bindings.
    pub(super) fn faulty_lines(errors: Vec<Fault>) -> Problem {
        let first = errors.first().map(|fault| format!("line {}: {}", fault.line.unwrap_or(0), fault.detail));
        Problem { errors, ..Problem::malformed(first.unwrap_or_default()) }
    }

    /// 422: bindings that cannot be together.
    pub(super) fn clashes(clashes: &[Clash]) -> Problem {
        let first = clashes.first().map(ToString::to_string).unwrap_or_default();
        let detail = match clashes.len() {
            1 => first,
            several => format!("{several} mistakes; the first: {first}"),
        };
        let errors = clashes.iter().take(MOST_FAULTS).map(Fault::of_clash).collect();
        Problem { errors, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        Problem { status: status.as_u16(), title, detail: detail.into(), ..Problem::default() }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        match refused {
            Refused::Stale(generation) => Problem::stale(generation),
            Refused::Clashes(clashes) => Problem::clashes(&clashes),
            Refused::NotKept(why) => Problem::busy(format!("the mapping stays as it was: {why}")),
            Refused::Host(err) => Problem::internal(format!("the mapping stays as it was: {err}")),
        }
    }
}

impl Fault {
    pub(super) fn of_line(line: u32, detail: String) -> Fault {
        Fault { detail, line: Some(line), ..Fault::default() }
    }

    fn of_clash(clash: &Clash) -> Fault {
        let Located { line, value } = &clash.binding;
        let binding = match value {
            Wanted::Put(binding) => serde_json::to_value(binding).ok(),
            Wanted::Delete(key) => serde_json::to_value(key).ok(),
            Wanted::Health(report) => serde_json::to_value(&report.binding).ok(),
        };
        let other = clash.other.as_ref();
        Fault {
            detail: clash.message.clone(),
            line: Some(*line),
            binding,
            other: other.and_then(|other| serde_json::to_value(&other.value).ok()),
            other_line: other.map(|other| other.line).filter(|&line| line > 0),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}
