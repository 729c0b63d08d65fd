//! An explanation as JSON: what `POST /v1/explain` answers and `sixway explain` shows.

use serde_json::{Value, json};

use crate::engine::explain::{Explanation, decode, describe, verdict_text};
use crate::path::{Surroundings, Verdict};

/// `{"before", "steps": [{"step", "text"}], "verdict", "reason", "out", "after"}`.
#[must_use]
pub fn to_json(explanation: &Explanation, around: &Surroundings) -> Value {
    let steps: Vec<Value> = explanation
        .steps
        .iter()
        .map(|step| {
            let (step, text) = describe(step, around);
            json!({"step": step, "text": text})
        })
        .collect();
    let reason = match explanation.verdict {
        Verdict::Drop(reason) => Some(reason.as_str()),
        Verdict::Answer { answer, .. } => Some(answer.as_str()),
        _ => None,
    };
    let out = explanation.after.as_ref().and_then(|(port, _)| around.port(*port)).map(|port| &port.name);
    json!({
        "before": decode(&explanation.before),
        "steps": steps,
        "verdict": verdict_text(&explanation.verdict, around),
        "reason": reason,
        "out": out,
        "after": explanation.after.as_ref().map(|(_, bytes)| decode(bytes)),
    })
}
