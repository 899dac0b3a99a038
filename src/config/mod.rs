//! What the user asked for: YAML read into types that the rest of the program can rely on.
//!
//! The only module that knows YAML. Every key has a default that works; [`Config::parse`] refuses what it does not
//! know, and it names everything that is wrong, not the first thing.

mod anomaly;
mod archive;
mod comm;
mod explain;
#[cfg(test)]
mod fuzz;
mod inject;
mod io;
mod material;
mod methods;
mod model;
mod names;
mod neutral;
mod output;
mod overrides;
mod parse;
mod pca;
mod places;
mod preprocess;
mod problems;
mod region;
mod score;
mod sections;
mod simulate;
mod stage;
mod survey;
mod sweep;
mod train;
mod tree;
mod values;
mod verdicts;

pub use anomaly::{Anomaly, AnomalyKind};
pub use archive::Archive;
pub use comm::{Backend, CommOptions};
pub use explain::{Explained, explain};
pub use inject::{EdgeAnomaly, Inject, InjectedCube};
pub use io::Io;
pub use material::{Material, MaterialChoice, MaterialEdge, Peak, Rise};
pub use methods::Methods;
pub use model::{Model, Preset};
pub use neutral::Work;
pub use output::{Output, Reconstruction};
pub use overrides::Overrides;
pub use pca::{Pca, PcaFit, PcaSolver};
pub use places::{Outline, Places};
pub use preprocess::{Align, Preprocess};
pub use region::{RegionOfInterest, RegionUse};
pub use score::{Rule, Score, Window, Windows};
pub use sections::Config;
pub use simulate::{CubeSpec, Layout, Protocol, SceneOptions, Simulate};
pub use stage::Stage;
pub use survey::{ModelScope, SurveyOptions};
pub use sweep::{METRICS, Made, Plot, Point, Sweep, SweepFile};
pub use train::{Device, Pace, Precision, Reduction, Train, TrainingLength};
pub use values::{Auto, OneOrMany};
pub use verdicts::{Judgement, Place, ResidualSpectrum, Verdict, VerdictFile, VerdictKind};
