//! What a run leaves in its output folder, and how it is read again.

mod cube_file;
pub mod earlier;
mod edge_change;
mod energy_summary;
pub mod folder;
mod residual;
mod scored_pixels;
mod region_spectra;
mod region_table;
mod score_maps;
mod scored_cube;
mod set_aside;
mod stored;
mod summary;
pub mod surprise;
mod thumbnail;
pub mod titles;
pub mod verdicts;
mod write_cube;

pub use edge_change::EdgeChange;
pub use energy_summary::EnergySummary;
pub use folder::Start;
pub use residual::{Along, likeness, read_residuals};
pub use score_maps::meaning_of;
pub use scored_cube::{ENSEMBLE, Method, ScoredCube, WithoutNetwork, electrons};
pub use scored_pixels::ScoredPixels;
pub use set_aside::{FailedInput, Failure, SetAside};
pub use stored::{check_name, cube_path, finished, is_of, read_json, read_map, scored_before};
pub use summary::{CubeSummary, Difference, KindSummary, RegionSummary, ScoreSummary, Summary, region_columns};
pub use thumbnail::{Thumbnail, read_thumbnail};
pub use write_cube::write_cube;
