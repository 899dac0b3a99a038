//! `output`: where results go and what they hold.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;

/// Where results go and what they hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "OutputForm")]
#[schemars(!from)]
pub struct Output {
    /// Folder of the run; made if absent.
    pub dir: PathBuf,
    /// Reconstructed spectra to write.
    pub reconstruction: Reconstruction,
}

impl Default for Output {
    fn default() -> Self {
        Output { dir: "out/run".into(), reconstruction: Reconstruction::Regions }
    }
}

impl Output {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.require(!self.dir.as_os_str().is_empty(), "output: a folder");
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "output: a folder (in quotes if it looks like another type), or a mapping with `dir` and `reconstruction: \
                 regions|window|none`"
)]
enum OutputForm {
    Dir(PathBuf),
    /// A date, say.
    Number(i64),
    Full(OutputFields),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OutputFields {
    dir: PathBuf,
    reconstruction: Reconstruction,
}

impl Default for OutputFields {
    fn default() -> Self {
        let Output { dir, reconstruction } = Output::default();
        OutputFields { dir, reconstruction }
    }
}

impl From<OutputForm> for Output {
    fn from(form: OutputForm) -> Self {
        match form {
            OutputForm::Dir(dir) => Output { dir, ..Output::default() },
            OutputForm::Number(number) => Output { dir: number.to_string().into(), ..Output::default() },
            OutputForm::Full(OutputFields { dir, reconstruction }) => Output { dir, reconstruction },
        }
    }
}

/// Which reconstructed spectra are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reconstruction {
    /// The mean spectrum of each region.
    #[default]
    Regions,
    /// Every pixel, in the score windows' energies.
    Window,
    /// None.
    None,
}
