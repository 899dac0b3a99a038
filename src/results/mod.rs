//! What a run leaves in its output folder, and how it is read again.

mod cube_file;
mod energy;
pub mod folder;
mod pixels;
mod region_spectra;
mod region_table;
mod score_maps;
mod scored_cube;
mod set_aside;
mod stored;
mod summary;
mod thumbnail;
pub mod titles;
mod write_cube;

pub use energy::EnergySummary;
pub use folder::Start;
pub use pixels::ScoredPixels;
pub use scored_cube::{Method, ScoredCube, electrons};
pub use set_aside::{FailedInput, Failure, SetAside};
pub use stored::{cube_path, finished, read_json, scored_before};
pub use summary::{CubeSummary, Difference, KindSummary, RegionSummary, ScoreSummary, Summary, region_columns};
pub use thumbnail::{Thumbnail, read_thumbnail};
pub use write_cube::write_cube;
