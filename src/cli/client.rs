//! The client's end of the control socket.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::arguments::RunningEngine;
use super::check::show_mistakes;
use super::output::Output;
use crate::control::config::Config;
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
    /// The engine that the arguments name; `None` if their configuration has mistakes, which are shown.
    pub(super) fn of(engine: &RunningEngine, output: &mut Output) -> Option<Client> {
        let Some(file) = &engine.config else { return Some(Client::new(&engine.socket)) };
        match Config::load(file) {
            Ok(config) => Some(Client::new(&config.control.socket)),
            Err(mistakes) => {
                show_mistakes(&mistakes, output);
                None
            }
        }
    }

    pub(super) fn new(socket: &Path) -> Client {
        Client { socket: socket.to_owned() }
    }

    /// `GET path`: its JSON.
    pub(super) fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.ask(Request::builder().method(Method::GET).uri(path), None)
    }

    /// `POST path` with a JSON body: the answer's JSON.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.ask(Request::builder().method(Method::POST).uri(path), Some(body))
    }

    /// The same, answered as soon as packets see what it changes, and before it is on disk.
    pub(super) fn post_in_haste(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let request = Request::builder().method(Method::POST).uri(path).header("prefer", "respond-async");
        self.ask(request, Some(body))
    }

    /// `DELETE path`, which is answered with nothing.
    pub(super) fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.ask(Request::builder().method(Method::DELETE).uri(path), None).map(|_| ())
    }

    /// The answer's JSON; null for none.
    fn ask(&self, request: Builder, body: Option<&Value>) -> Result<Value, ClientError> {
        let body = Full::new(Bytes::from(body.map(Value::to_string).unwrap_or_default()));
        self.run(async {
            let answer = async {
                let response = self.request(request, body).await?;
                let body = response.into_body().collect().await.map_err(|error| broken(&error))?.to_bytes();
                if body.is_empty() {
                    return Ok(Value::Null);
                }
                serde_json::from_slice(&body).map_err(|error| broken(&error))
            };
            let answer = tokio::time::timeout(PATIENCE, answer).await;
            answer.unwrap_or_else(|_| Err(ClientError::Broken(format!("none in {PATIENCE:?}"))))
        })
    }

    /// Runs an exchange with the engine to its end.
    pub(super) fn run<T>(&self, exchange: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| broken(&error))?.block_on(exchange)
    }

    /// Sends a request, and returns the answer as soon as its head is there.
    pub(super) async fn request<B>(&self, request: Builder, body: B) -> Result<Response<Incoming>, ClientError>
    where
        B: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
    {
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|error| ClientError::Unreachable(self.socket.clone(), error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| broken(&error))?;
        tokio::spawn(connection);
        let request = request
            .header(header::HOST, "sixway")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| broken(&error))?;
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await.map_err(|error| broken(&error))?.to_bytes();
        Err(match serde_json::from_slice(&body) {
            Ok(problem) => ClientError::Refused(problem),
            Err(_) => ClientError::Broken(format!("status {status}")),
        })
    }
}

pub(super) fn broken(error: &dyn fmt::Display) -> ClientError {
    ClientError::Broken(error.to_string())
}
