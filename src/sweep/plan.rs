//! What a sweep file asks for: its points, read and listed.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::folders::folders;
use super::text_table::aligned;
use crate::comm::Comm;
use crate::config::{Made, Sweep, SweepFile};
use crate::ending::Ending;
use crate::invalid::Invalid;

/// Reads a sweep file and the base that it names; root reads, all ranks parse the same bytes.
///
/// # Collective
/// # Errors
/// [`Invalid`]: files that cannot be read, and what [`SweepFile::expand`] refuses.
pub fn open(comm: &Comm, path: &Path, overrides: &[String]) -> Result<Sweep> {
    let read = |path: &Path| {
        comm.from_root(|| {
            fs::read_to_string(path).map_err(|error| {
                let path = path.display();
                Invalid(format!("cannot read the sweep's {path}: {error}")).into()
            })
        })
    };
    let name = path.display().to_string();
    let file = comm.agree(SweepFile::parse(&name, &read(path)?))?;
    let base = file.base_path().map(read).transpose()?;
    comm.agree(file.expand(&name, base.as_deref(), overrides))
}

/// Prints the table of points, and what they share.
///
/// # Collective
pub fn plan(comm: &Comm, sweep: &Sweep) -> Result<Ending> {
    if comm.is_root() {
        let mut table = vec![vec!["index".to_string()]];
        table[0].extend(sweep.columns.iter().cloned());
        table[0].push("folder".into());
        for (index, (point, folder)) in sweep.points.iter().zip(folders(sweep)).enumerate() {
            let mut row = vec![index.to_string()];
            row.extend(point.values.iter().cloned());
            row.push(folder.display().to_string());
            table.push(row);
        }
        print!("{}", aligned(&table));
        let count = |mut names: Vec<&str>| {
            names.sort_unstable();
            names.dedup();
            names.len()
        };
        let points = &sweep.points;
        let cubes = points.iter().flat_map(|point| &point.made);
        println!(
            "{} points, {} trainings, {} cubes to make; sbatch --array=0-{} jobs/sweep.sbatch runs them",
            points.len(),
            if sweep.train { count(points.iter().map(|point| &point.training[..]).collect()) } else { 0 },
            count(cubes.map(Made::name).collect()),
            points.len() - 1
        );
    }
    Ok(Ending::Done)
}
