//! Dumps of the kernel's tables. A table that changes while it is dumped comes out torn: the kernel says so
//! (NLM_F_DUMP_INTR), and the dump is repeated.

use std::io;

use futures_util::StreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;

/// How often a dump that was interrupted is repeated before the last one is taken as it is. The watcher hears of the
/// changes that interrupt a dump, so a busy table heals by itself.
const ATTEMPTS: usize = 8;

/// All answers to `request`, whole. The connection must forward `Done` messages, which may carry the flag too.
///
/// # Errors
/// What the kernel answers, or a connection that is gone.
pub(super) async fn dump(handle: &Handle, request: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut answers = Vec::new();
    for _ in 0..ATTEMPTS {
        answers.clear();
        let mut message = NetlinkMessage::from(request.clone());
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut stream = handle.clone().request(message).map_err(io::Error::other)?;
        let mut interrupted = false;
        while let Some(answer) = stream.next().await {
            interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                // Lost answers: as bad as a torn dump.
                NetlinkPayload::Overrun(_) => interrupted = true,
                _ => {}
            }
        }
        if !interrupted {
            break;
        }
    }
    Ok(answers)
}
