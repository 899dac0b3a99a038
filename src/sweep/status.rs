//! The state of the points of a sweep.

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::folders::{attempts, folders};
use super::text_table::aligned;
use crate::attempt::{End, LastAttempt, last_attempt};
use crate::comm::Comm;
use crate::config::Sweep;
use crate::ending::Ending;
use crate::results::Summary;

/// The state of a point, with a remark.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    Done(String),
    Running(String),
    Failed(String),
    /// Ended without recording how.
    Died(String),
    Missing(String),
}

impl State {
    /// The word for it in tables and JSON.
    pub fn word(&self) -> &'static str {
        match self {
            State::Done(_) => "done",
            State::Running(_) => "running",
            State::Failed(_) | State::Died(_) => "failed",
            State::Missing(_) => "missing",
        }
    }

    /// The remark; may be empty.
    pub fn detail(&self) -> &str {
        let (State::Done(detail)
        | State::Running(detail)
        | State::Failed(detail)
        | State::Died(detail)
        | State::Missing(detail)) = self;
        detail
    }
}

/// The state of the point in `folder`. Rank-local.
///
/// # Errors
/// A folder that cannot be read.
pub fn state(folder: &Path) -> Result<State> {
    let last = last_attempt(&attempts(folder))?;
    if let LastAttempt::Running(record) = last {
        return Ok(State::Running(format!("by {record}")));
    }
    if let Ok(summary) = Summary::read(folder) {
        let flagged = summary.cubes.iter().filter(|cube| !cube.regions.is_empty());
        let aside = summary.failed_inputs.len();
        let mut detail = format!("{} of {} cubes flagged", flagged.count(), summary.cubes.len());
        if aside > 0 {
            detail += &format!(", {aside} set aside");
        }
        return Ok(State::Done(detail));
    }
    Ok(match last {
        LastAttempt::Died(record) => State::Died(format!(
            "ended without a word, {record}: killed, out of memory, or its node failed; see the job's log"
        )),
        LastAttempt::Ended(_, End::Failed(reason)) => State::Failed(reason),
        LastAttempt::Ended(..) => State::Missing("stopped; goes on where it was".into()),
        LastAttempt::None | LastAttempt::Running(_) => State::Missing(String::new()),
    })
}

/// Prints the state of every point, as a table or as JSON.
///
/// # Collective
/// # Errors
/// A folder that cannot be read.
pub fn status(comm: &Comm, sweep: &Sweep, json: bool) -> Result<Ending> {
    comm.on_root(|| print(sweep, json))?;
    Ok(Ending::Done)
}

fn print(sweep: &Sweep, json: bool) -> Result<()> {
    let mut table = vec![["index", "state", "point", ""].map(String::from).to_vec()];
    let mut points = Vec::new();
    let mut counts = Map::new();
    for word in ["done", "running", "failed", "missing"] {
        counts.insert(word.into(), 0.into());
    }
    for (index, (point, folder)) in sweep.points.iter().zip(folders(sweep)).enumerate() {
        let state = state(&folder)?;
        let count = counts[state.word()].as_u64().unwrap_or(0);
        counts.insert(state.word().into(), (count + 1).into());
        let values = sweep.columns.iter().zip(&point.values);
        let values: Map<String, Value> = values.map(|(column, value)| (column.clone(), value.clone().into())).collect();
        points.push(json!({
            "index": index,
            "state": state.word(),
            "detail": state.detail(),
            "folder": folder,
            "values": values,
        }));
        table.push(vec![index.to_string(), state.word().into(), point.label.clone(), state.detail().into()]);
    }
    if json {
        println!("{}", json!({"output": sweep.output, "counts": counts, "points": points}));
    } else {
        print!("{}", aligned(&table));
        let counts: Vec<String> = counts.iter().map(|(word, n)| format!("{n} {word}")).collect();
        println!("{}", counts.join(", "));
    }
    Ok(())
}
