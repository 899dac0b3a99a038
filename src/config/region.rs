//! Parts of cubes, as a user draws them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Some pixels of every cube, or of those that `cubes` names: a box (`y` and `x`) or a `polygon`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegionOfInterest {
    /// First and one-past-last scan line.
    #[serde(default)]
    pub y: Option<[usize; 2]>,
    /// First and one-past-last pixel of a line.
    #[serde(default)]
    pub x: Option<[usize; 2]>,
    /// Corners `[[y, x], ...]` in pixels, whole numbers being the centres of pixels. A pixel belongs to the polygon if
    /// its centre lies inside, by the even-odd rule where the polygon crosses itself.
    #[serde(default)]
    pub polygon: Option<Vec<[f64; 2]>>,
    /// A glob of the ids of the cubes that it applies to; all by default.
    #[serde(default)]
    pub cubes: Option<String>,
    /// `ignore` these pixels, or `train` on these only.
    pub r#use: RegionUse,
}

impl RegionOfInterest {
    /// # Errors
    /// What is wrong with the region, in words.
    pub fn validate(&self) -> Result<(), String> {
        match (self.y, self.x, &self.polygon) {
            (Some(y), Some(x), None) if y[0] < y[1] && x[0] < x[1] => (),
            (Some(_), Some(_), None) => return Err("y and x are [first, one past last]".into()),
            (None, None, Some(corners)) => {
                let finite = corners.iter().flatten().all(|number| number.is_finite());
                if corners.len() < 3 || !finite {
                    return Err("polygon: at least three corners [y, x]".into());
                }
            }
            _ => return Err("give y and x, or a polygon".into()),
        }
        match self.cubes.as_deref().map(glob::Pattern::new) {
            Some(Err(error)) => Err(format!("cubes is no valid glob: {error}")),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RegionUse {
    Ignore,
    Train,
}
