//! `coreloss doctor`: finds common traps of machines and clusters before a run does, and says how to fix each.
//!
//! The checks that cost nothing are part of every run ([`at_start`]).

mod alike;
mod checks;
mod files;

pub use alike::refuse_others;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::comm::Comm;
use crate::config::Config;
use crate::ending::Ending;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Good,
    /// It works, but not well.
    Warning,
    /// It will fail.
    Bad,
}

/// What one check found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub verdict: Verdict,
    pub found: String,
    /// How to fix it; empty where all is well.
    pub mend: String,
}

impl Finding {
    fn good(check: &'static str, found: String) -> Finding {
        Finding { check, verdict: Verdict::Good, found, mend: String::new() }
    }

    fn of(verdict: Verdict, check: &'static str, found: String, mend: &str) -> Finding {
        Finding { check, verdict, found, mend: mend.into() }
    }
}

/// Warns on stderr that srun started this without PMIx, which Open MPI is about to fail on without saying so.
/// Rank-local.
pub fn before_mpi() {
    if checks::started_by_srun_without_pmi() && checks::is_first_of_many_alone() {
        eprintln!(
            "coreloss: srun started this without PMIx, and the ranks may not find each other: use `srun --mpi=pmix` \
             (`srun --mpi=list` shows what there is)"
        );
    }
}

/// Checks this machine and what `config` asks of it; prints the findings.
///
/// # Collective
/// # Errors
/// A bad finding, after all were printed.
pub fn doctor(comm: &Comm, config: &Config, json: bool) -> Result<Ending> {
    let mut findings = cheap(comm, config);
    findings.push(checks::gpus(comm, config));
    findings.push(checks::libtorch(comm));
    // Before a check that ends the job the rank that it fails on prints.
    let findings = files::checks(comm, config, findings, |findings| print(findings, json));
    let bad = count_bad(&findings);
    if comm.is_root() && checks::is_first_of_many_alone() {
        print(&findings, json);
    }
    if bad > 0 {
        bail!("{bad} of {} checks are bad", findings.len());
    }
    Ok(Ending::Done)
}

fn count_bad(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count()
}

fn print(findings: &[Finding], json: bool) {
    if json {
        return println!("{}", serde_json::json!({"ok": count_bad(findings) == 0, "checks": findings}));
    }
    for finding in findings {
        let word = match finding.verdict {
            Verdict::Good => "ok",
            Verdict::Warning => "warning",
            Verdict::Bad => "BAD",
        };
        println!("{word:<8} {:<10} {}", finding.check, finding.found);
        if !finding.mend.is_empty() {
            println!("{:19} -> {}", "", finding.mend);
        }
    }
}

/// The checks that cost nothing: a bad finding is an error, a warning is logged.
///
/// # Collective
/// # Errors
/// The first bad finding, with its fix.
pub fn at_start(comm: &Comm, config: &Config) -> Result<()> {
    for finding in cheap(comm, config) {
        match finding.verdict {
            Verdict::Good => (),
            Verdict::Bad => bail!("{}; {}", finding.found, finding.mend),
            Verdict::Warning if comm.is_root() => {
                log::warn!("{}; {}", finding.found, finding.mend);
            }
            Verdict::Warning => (),
        }
    }
    Ok(())
}

/// Checks ranks, nodes, threads and memory.
///
/// # Collective
fn cheap(comm: &Comm, config: &Config) -> Vec<Finding> {
    vec![checks::ranks(comm), checks::nodes(comm), checks::threads(comm), checks::memory(comm, config)]
}
