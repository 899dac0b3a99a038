//! The pixels that a training leaves out, as its checkpoint remembers them: a resumed training must leave out the same.

use std::collections::BTreeMap;

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::invalid::Invalid;
use crate::stream::Cube;

/// A digest of each cube's map, by the cube's id. Empty without `archive.train_without` and
/// `archive.verdicts`: everything else that leaves pixels
/// out is in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LeftOut(BTreeMap<String, String>);

impl LeftOut {
    /// For the `cubes` that are trained on. Rank-local.
    pub fn of(config: &Config, cubes: &[Cube]) -> LeftOut {
        if config.archive.train_without.is_none() && config.archive.verdicts.is_empty() {
            return LeftOut::default();
        }
        let cubes = cubes.iter();
        LeftOut(cubes.map(|cube| (cube.info().id.clone(), digest(cube.untrained.as_ref()))).collect())
    }

    /// Refuses to go on if `now` leaves out other pixels. Rank-local.
    ///
    /// # Errors
    /// [`Invalid`], with the first cube that differs.
    pub fn check(&self, now: &LeftOut) -> Result<(), Invalid> {
        let cubes = now.0.keys().chain(self.0.keys());
        let mut differing = cubes.filter(|id| self.0.get(*id) != now.0.get(*id));
        match differing.next() {
            Some(id) => Err(Invalid(format!(
                "{id}: archive.train_without or archive.verdicts leaves out other pixels than when the output's training \
                 began: its folder was scored anew, verdicts were added, or other cubes were set aside; use --fresh to train anew, or choose another output"
            ))),
            None => Ok(()),
        }
    }
}

fn digest(untrained: Option<&Array2<bool>>) -> String {
    let flags = untrained.into_iter().flatten();
    let flags: Vec<u8> = flags.map(|&flag| u8::from(flag)).collect();
    format!("{:.32x}", Sha256::digest(flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out(cubes: &[(&str, [usize; 2])]) -> LeftOut {
        let map = |place| {
            let mut map = Array2::from_elem((4, 5), false);
            map[place] = true;
            map
        };
        let cubes = cubes.iter();
        LeftOut(cubes.map(|(id, place)| (id.to_string(), digest(Some(&map(*place))))).collect())
    }

    #[test]
    fn other_pixels_or_cubes_are_refused_by_name() {
        let held = left_out(&[("a", [1, 2]), ("b", [0, 0])]);
        held.check(&held.clone()).unwrap();
        LeftOut::default().check(&LeftOut::default()).unwrap();
        for (now, id) in [
            (left_out(&[("a", [1, 2]), ("b", [3, 0])]), "b:"),
            (left_out(&[("b", [0, 0])]), "a:"),
            (LeftOut::default(), "a:"),
        ] {
            let message = held.check(&now).unwrap_err().to_string();
            assert!(message.starts_with(id) && message.contains("archive.train_without"), "{message}");
        }
    }
}
