//! The last phase: report and summary of all cubes.

use anyhow::Result;

use super::run::Run;
use crate::ending::Ending;
use crate::report;
use crate::results::{CubeSummary, SetAside, Summary};

/// Writes `report.html`, then `summary.json`, whose presence says that the run is finished; prints what was found.
///
/// # Collective
/// # Errors
/// An output folder that cannot be written any more.
pub fn summarise(run: &Run, found: Vec<CubeSummary>, set_aside: &SetAside) -> Result<Ending> {
    let summary = Summary::new(run.comm, found, set_aside, run.clock.laps());
    run.comm.on_root(|| {
        report::write_run(run.config, &summary)?;
        summary.write(&run.config.output.dir)
    })?;
    if run.comm.is_root() {
        summary.print(run.config);
    }
    Ok(set_aside.ending())
}
