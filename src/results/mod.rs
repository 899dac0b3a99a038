//! What a run leaves in its output folder, and how it is read again.

mod arrays;
mod cube_file;
mod energy;
pub mod folder;
mod pixels;
mod regions;
mod scored_cube;
mod set_aside;
mod summary;
mod thumbnail;
pub mod titles;

pub use cube_file::{finished, path, result_path, scored_before, told, write};
pub use energy::EnergySummary;
pub use folder::Start;
pub use pixels::ScoredPixels;
pub use scored_cube::{Method, ScoredCube, electrons};
pub use set_aside::{Failure, SetAside};
pub use summary::{CubeSummary, RegionSummary, ScoreSummary, Summary, region_columns};
pub use thumbnail::{Thumbnail, read_thumbnail};
