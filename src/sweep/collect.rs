//! The results of all points in one table and its figures; points without results are named there too.

use std::fs;

use anyhow::{Context, Result};

use super::figures::{default_plot, draw, figure_name};
use super::folders::folders;
use super::repeats;
use super::rows::{read_rows, table};
use crate::comm::Comm;
use crate::config::Sweep;
use crate::durable;
use crate::ending::Ending;
use crate::output::{write_csv, write_tables};

/// Writes `table.csv`, `table.h5` and a figure for each plot into the sweep's folder.
///
/// # Collective
/// # Errors
/// A folder that cannot be written.
pub fn collect(comm: &Comm, sweep: &Sweep) -> Result<Ending> {
    comm.on_root(|| write(sweep))?;
    Ok(Ending::Done)
}

fn write(sweep: &Sweep) -> Result<()> {
    let folder = &sweep.output;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut rows = Vec::new();
    for (point, folder) in folders(sweep).iter().enumerate() {
        rows.extend(read_rows(sweep, point, folder)?);
    }
    let done = rows.iter().filter(|row| row.state == "done");
    let mut done: Vec<usize> = done.map(|row| row.point).collect();
    done.dedup();
    let path = |name: &str| folder.join(name);
    write_csv(&path("table.csv"), &table(sweep, &rows))?;
    write_tables(&path("table.h5"), &[("table", table(sweep, &rows))])?;
    println!(
        "{} of {} points, {} rows: {} and table.h5",
        done.len(),
        sweep.points.len(),
        rows.len(),
        path("table.csv").display()
    );
    let plots = match sweep.plots.is_empty() {
        true => default_plot(sweep).into_iter().collect(),
        false => sweep.plots.clone(),
    };
    if !sweep.repeats.is_empty() {
        let pooled = repeats::pool(sweep, &folders(sweep), &rows)?;
        write_csv(&path("medians.csv"), &pooled.table())?;
        print!("{}", pooled.text());
        println!("{}", path("medians.csv").display());
    }
    for plot in &plots {
        let target = path(&format!("{}.svg", figure_name(sweep, plot)?));
        durable::write(&target, draw(sweep, plot, &rows)?)?;
        println!("{}", target.display());
    }
    Ok(())
}
