//! Connections to the control socket: how many, for how long, and by whom.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::access::{Groups, Rights};

/// Connections at a time. One more is told to come again.
const MOST: usize = 256;
/// A request's head must come within this time, and a connection without request is closed after it.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// Most bytes of a request's head, up to the end of one read; more are answered with 431. A connection reads its bodies in pieces of this size at most.
const LONGEST_HEAD: usize = 64 * 1024;
/// How long answers under way may take once the server is told to stop.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// After a connection could not be taken, for want of descriptors or the like.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `stop` completes, then until the answers under way are given.
pub(super) async fn serve(
    listener: UnixListener,
    router: Router,
    groups: Groups,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(MOST));
    let under_way = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(LONGEST_HEAD);
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(err) => {
                tracing::warn!("the control socket can't take a connection: {err}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tokio::spawn(turn_away(stream));
            continue;
        };
        let Ok(rights) = groups.rights_of(&stream) else { continue };
        let inner = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert::<Rights>(rights);
            inner.call(request)
        });
        let connection = under_way.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A peer that breaks off is its own affair.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(LAST_WORDS, under_way.shutdown()).await;
    Ok(())
}

async fn turn_away(mut stream: UnixStream) {
    const BODY: &str =
        "{\"status\":503,\"title\":\"Service Unavailable\",\"detail\":\"too many connections: try again\"}";
    let length = BODY.len();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n{BODY}"
    );
    let _ = tokio::time::timeout(LAST_WORDS, stream.write_all(answer.as_bytes())).await;
}
