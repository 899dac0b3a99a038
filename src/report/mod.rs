//! The report of a run: one self-contained HTML page and the maps as PNGs; and the page that ranks a survey's cubes.
//!
//! `gather` reads what a run left into `contents`, which all else draws without knowing HDF5 or MPI.

mod across;
mod chart;
mod compare;
mod contents;
mod cube_figures;
mod explore;
mod figure;
mod folds;
mod frame;
mod gather;
mod models;
mod page;
mod picture;
mod plot;
mod ranking;
mod scale;
mod section;
mod spectra;
mod text;
mod verdict;
mod words;
mod write;

#[cfg(test)]
mod example;
#[cfg(test)]
mod tests;

pub use across::{KindMember, RankedKind};
pub use compare::{Line, comparison};
pub use figure::picture_png;
pub use gather::{write_first_look, write_run};
pub use picture::Quantity;
pub use ranking::{RankedCube, ranking_html};
