//! `coreloss sweep`: many configurations from one file, run one by one or as the tasks of an array.
//!
//! One folder holds everything: `LABEL-HASH/` for each point, a run like any other; `archive/` the cubes that the sweep
//! makes and `models/` the trainings, which points share. Processes that work on one sweep at once know of each other by
//! [`crate::attempt`].

mod collect;
mod figures;
mod folders;
mod plan;
mod point;
mod repeats;
mod rows;
mod run;
mod status;
mod text_table;

pub use collect::collect;
pub use plan::{open, plan};
pub use run::{Selection, run};
pub use status::status;
