//! How the points of a sweep stand.

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::folders;
use super::point::attempts;
use crate::attempt::{self, End, Last};
use crate::comm::Comm;
use crate::config::Sweep;
use crate::ending::Ending;
use crate::results::Summary;

/// How a point stands, with what there is to say of it.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    Done(String),
    Running(String),
    Failed(String),
    /// Failed without a word.
    Died(String),
    Missing(String),
}

impl State {
    /// What the tables call it.
    pub fn word(&self) -> &'static str {
        match self {
            State::Done(_) => "done",
            State::Running(_) => "running",
            State::Failed(_) | State::Died(_) => "failed",
            State::Missing(_) => "missing",
        }
    }

    /// What there is to say of it; may be empty.
    pub fn detail(&self) -> &str {
        let (State::Done(detail)
        | State::Running(detail)
        | State::Failed(detail)
        | State::Died(detail)
        | State::Missing(detail)) = self;
        detail
    }
}

/// How the point in `folder` stands. Rank-local.
///
/// # Errors
/// A folder that cannot be read.
pub fn state(folder: &Path) -> Result<State> {
    let last = attempt::state(&attempts(folder))?;
    if let Last::Running(record) = last {
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
        Last::Died(record) => State::Died(format!(
            "ended without a word, {record}: killed, out of memory, or its node failed; see the job's log"
        )),
        Last::Ended(_, End::Failed(reason)) => State::Failed(reason),
        Last::Ended(..) => State::Missing("stopped; goes on where it was".into()),
        Last::None | Last::Running(_) => State::Missing(String::new()),
    })
}

/// Prints how every point stands, as a table or as JSON.
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

/// Rows of words in columns that line up.
pub fn aligned(table: &[Vec<String>]) -> String {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = table.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in table {
        let cells = row.iter().zip(&widths);
        let line: String = cells.map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}
