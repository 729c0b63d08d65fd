//! Files of bindings, and `sixway map load`, which streams one to the engine.

use std::convert::Infallible;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{Method, Request};

use super::super::client::{Client, ClientError, broken};
use super::super::output::Output;
use super::super::table::thousands;
use super::{Condition, Failure, Load, show_changed};
use crate::control::server::Changed;
use crate::naming::{BindingSpec, Words, parse_mapping};

/// Bindings of one piece of a request.
const PIECE: usize = 512;
/// How often progress is shown.
const SHOWN_EVERY: Duration = Duration::from_millis(100);

pub(super) fn load(client: &Client, load: &Load, output: &mut Output) -> Result<(), Failure> {
    let bindings = read(&load.file)?;
    show_changed(put(client, bindings, &load.condition)?, output);
    Ok(())
}

/// Reads a mapping: lines of a mapping file, or NDJSON.
pub(super) fn read(file: &Path) -> Result<Vec<BindingSpec>, Failure> {
    let name = file.display().to_string();
    let read = || {
        let mut text = Vec::new();
        match name.as_str() {
            "-" => io::stdin().lock().read_to_end(&mut text).map(|_| text),
            _ => std::fs::read(file),
        }
    };
    let text = read().map_err(|error| Failure::Mistakes(vec![format!("{name}: {error}")]))?;
    if text.trim_ascii_start().starts_with(b"{") {
        return read_json(&name, &text);
    }
    let bindings = parse_mapping(&text)
        .map_err(|mistakes| Failure::Mistakes(mistakes.iter().map(|mistake| mistake.render(&name, &text)).collect()))?;
    Ok(bindings.into_iter().map(|binding| binding.value).collect())
}

fn read_json(name: &str, text: &[u8]) -> Result<Vec<BindingSpec>, Failure> {
    let (mut bindings, mut mistakes, mut words) = (Vec::new(), Vec::new(), Words::default());
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')).filter(|(_, line)| !line.trim_ascii().is_empty())
    {
        match serde_json::from_slice::<BindingSpec>(line) {
            Ok(mut binding) => {
                binding.network = words.intern(&binding.network);
                bindings.push(binding);
            }
            Err(error) => mistakes.push(format!("{name}:{number}: {error}")),
        }
    }
    if mistakes.is_empty() { Ok(bindings) } else { Err(Failure::Mistakes(mistakes)) }
}

/// Makes `bindings` the whole mapping. Shows on a terminal how far it is.
pub(super) fn put(client: &Client, bindings: Vec<BindingSpec>, condition: &Condition) -> Result<Changed, ClientError> {
    let all = bindings.len();
    let mut path = format!("/v1/bindings?force={}", condition.force);
    if let Some(generation) = condition.if_generation {
        path += &format!("&if_generation={generation}");
    }
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let pieces = stream::unfold(bindings.into_iter(), move |mut rest| {
        let mut lines = Vec::new();
        for binding in rest.by_ref().take(PIECE) {
            if serde_json::to_writer(&mut lines, &binding).is_ok() {
                lines.push(b'\n');
            }
        }
        counted.store(all - rest.len(), Relaxed);
        let piece = (!lines.is_empty()).then(|| (Ok::<_, Infallible>(Frame::data(Bytes::from(lines))), rest));
        std::future::ready(piece)
    });
    client.run(async {
        let request = client.request(Request::builder().method(Method::PUT).uri(path), StreamBody::new(pieces));
        let response = with_progress(request, &sent, all).await?;
        let body = response.into_body().collect().await.map_err(|error| broken(&error))?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| broken(&error))
    })
}

/// Shows how much has been sent while `work` goes on, on a terminal and only if it takes a while.
async fn with_progress<T>(work: impl Future<Output = T>, sent: &AtomicUsize, all: usize) -> T {
    if !io::stderr().is_terminal() {
        return work.await;
    }
    let begun = Instant::now();
    let mut every = tokio::time::interval(SHOWN_EVERY);
    let mut work = std::pin::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = every.tick() => {}
        }
        let sent = sent.load(Relaxed);
        let [shown, total] = [sent, all].map(|count| thousands(count as u64));
        let what = if sent < all { "sent" } else { "sent, being put in force" };
        let _ = write!(io::stderr(), "\r{shown} of {total} bindings {what}, {:.1} s ", begun.elapsed().as_secs_f32());
    };
    let _ = write!(io::stderr(), "\r\x1b[K");
    done
}
