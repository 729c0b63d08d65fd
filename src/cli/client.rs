//! The client's end of the control socket.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::control::server::Problem;

/// How long an answer may take: the engine gathers its counters in microseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// An engine's control socket. Each request is a connection of its own.
#[derive(Clone, Debug)]
pub(super) struct Client {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum ClientError {
    /// Nobody listens, or nobody may ask.
    Unreachable(PathBuf, io::Error),
    /// The connection broke, or what came is no answer.
    Broken(String),
    /// The engine said no.
    Refused(Problem),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unreachable(socket, error) => write!(f, "no engine at {}: {error}", socket.display()),
            ClientError::Broken(reason) => write!(f, "the engine's answer broke off: {reason}"),
            ClientError::Refused(problem) => write!(f, "{}: {}", problem.title, problem.detail),
        }
    }
}

impl Client {
    pub(super) fn new(socket: &Path) -> Client {
        Client { socket: socket.to_owned() }
    }

    /// `GET path`: its JSON.
    pub(super) fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.ask(Method::GET, path, None)
    }

    /// `POST path` with a JSON body: the answer's JSON.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.ask(Method::POST, path, Some(body))
    }

    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| ClientError::Broken(error.to_string()))?;
        runtime.block_on(async {
            let answer = tokio::time::timeout(PATIENCE, self.exchange(method, path, body));
            answer.await.unwrap_or_else(|_| Err(ClientError::Broken(format!("none in {PATIENCE:?}"))))
        })
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let broken = |error: &dyn fmt::Display| ClientError::Broken(error.to_string());
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|error| ClientError::Unreachable(self.socket.clone(), error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| broken(&error))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "sixway")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.map(Value::to_string).unwrap_or_default())))
            .map_err(|error| broken(&error))?;
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| broken(&error))?.to_bytes();
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|error| broken(&error));
        }
        Err(match serde_json::from_slice(&body) {
            Ok(problem) => ClientError::Refused(problem),
            Err(_) => ClientError::Broken(format!("status {status}")),
        })
    }
}
