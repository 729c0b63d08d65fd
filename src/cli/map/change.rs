//! `sixway map add` and `sixway map remove`: change sets of one binding.

use serde_json::{Value, json};

use super::super::client::{Client, broken};
use super::super::output::Output;
use super::{Add, Condition, Failure, Remove, show_changed};
use crate::naming::{Mistake, parse_key, parse_mapping};

pub(super) fn add(client: &Client, add: &Add, output: &mut Output) -> Result<(), Failure> {
    let line = add.binding.join(" ");
    let bindings = parse_mapping(&line).map_err(|mistakes| shown(&line, &mistakes))?;
    let put: Vec<_> = bindings.iter().map(|binding| &binding.value).collect();
    carry_out(client, json!({ "put": put }), &add.condition, output)
}

pub(super) fn remove(client: &Client, remove: &Remove, output: &mut Output) -> Result<(), Failure> {
    let line = remove.key.join(" ");
    let key = parse_key(&line).map_err(|mistakes| shown(&line, &mistakes))?;
    carry_out(client, json!({ "delete": [key] }), &remove.condition, output)
}

fn carry_out(client: &Client, mut set: Value, condition: &Condition, output: &mut Output) -> Result<(), Failure> {
    set["force"] = condition.force.into();
    if let Some(generation) = condition.if_generation {
        set["if_generation"] = generation.into();
    }
    let changed = client.post("/v1/changes", &set)?;
    show_changed(serde_json::from_value(changed).map_err(|error| broken(&error))?, output);
    Ok(())
}

pub(super) fn shown(line: &str, mistakes: &[Mistake]) -> Failure {
    Failure::Mistakes(mistakes.iter().map(|mistake| mistake.render("the arguments", line.as_bytes())).collect())
}
