//! Reading requests' bodies, within limits of size and time.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Bytes;

use super::Problem;

/// The longest pause within a body.
const PATIENCE: Duration = Duration::from_secs(30);

/// A body as it comes in.
pub(super) struct Incoming {
    body: Body,
    /// Bytes that may still come.
    left: usize,
    limit: usize,
}

impl Incoming {
    /// At most `limit` bytes.
    pub(super) fn new(body: Body, limit: usize) -> Incoming {
        Incoming { body, left: limit, limit }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// 413 for too much, 408 for too slow, 400 if the peer breaks off.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Problem> {
        // What announces itself as too much is not waited for.
        if self.body.size_hint().lower() > self.left as u64 {
            return Err(too_large(self.limit));
        }
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.map_err(|_| {
                Problem::new(StatusCode::REQUEST_TIMEOUT, format!("nothing came for {} s", PATIENCE.as_secs()))
            })?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|err| Problem::malformed(format!("the body broke off: {err}")))?;
            let Ok(piece) = frame.into_data() else { continue };
            self.left = self.left.checked_sub(piece.len()).ok_or_else(|| too_large(self.limit))?;
            return Ok(Some(piece));
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`Incoming::piece`].
    pub(super) async fn whole(mut self) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body's length limit exceeded: {limit} bytes"))
}
