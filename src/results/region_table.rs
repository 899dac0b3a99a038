//! The table of a cube's flagged regions: where each lies, and which kind of anomaly most of its pixels belong to.

use std::cmp::Reverse;

use super::region_spectra::RegionSums;
use super::scored_cube::ScoredCube;
use super::summary::{Difference, KindSummary, RegionSummary};
use super::surprise;
use crate::score::{Family, Kind, Region};

/// A row for each of the regions `found` in `scored`. Rank-local, on the whole maps in C order.
///
/// `labels` holds the region of each pixel, `kind_of` the kind that it belongs to, from 1 and on root alone; `sums` the summed
/// spectra of the first regions.
pub fn region_table(
    scored: &ScoredCube,
    found: &[Region],
    labels: &[i32],
    (kinds, kind_of): (&[Kind], Option<&[f32]>),
    sums: &[RegionSums],
) -> Vec<RegionSummary> {
    let cube = scored.band.cube;
    let width = cube.size()[1];
    let pixels = cube.ignored.iter().filter(|&&ignored| !ignored).count();
    let row = |(index, region): (usize, &Region)| {
        let kind = kind_of.and_then(|kind_of| most_frequent_kind(region, labels, kind_of, kinds, width));
        let shift = kind.and_then(|kind| kind.shift_ev);
        let higher = kind.filter(|kind| kind.family == Family::Composition);
        let window = higher.and_then(|kind| scored.windows.iter().find(|window| window.name == kind.window));
        RegionSummary {
            label: region.label,
            y: region.centroid_yx[0],
            x: region.centroid_yx[1],
            area: region.area_px,
            rows: region.rows,
            columns: region.columns,
            max_score: region.max_score,
            mean_score: region.mean_score,
            estimated_shift_ev: shift.map(|shift| shift.0),
            shift_error_ev: shift.map(|shift| shift.1),
            kind: kind.map(|kind| KindSummary {
                window: kind.window.clone(),
                differs: match (kind.family, kind.shift_ev) {
                    (Family::Composition, _) => Difference::Height,
                    (Family::Shift, Some(_)) => Difference::Energy,
                    (Family::Shift, None) => Difference::Shape,
                },
                sigma: kind.strength,
            }),
            energies_ev: sums.get(index).map_or(Vec::new(), |sums| sums.differing(&cube.energy)),
            change: window.and_then(|window| sums.get(index)?.edge_change(&cube.energy, window)),
            surprise: Some(surprise::of_region(region.mean_score, region.area_px, pixels)),
        }
    };
    found.iter().enumerate().map(row).collect()
}

/// The kind that most pixels of a region belong to, the first of equals; none where no pixel belongs to one.
fn most_frequent_kind<'a>(
    region: &Region,
    labels: &[i32],
    kind_of: &[f32],
    kinds: &'a [Kind],
    width: usize,
) -> Option<&'a Kind> {
    let mut pixels = vec![0usize; kinds.len()];
    for y in region.rows[0]..=region.rows[1] {
        for pixel in y * width + region.columns[0]..=y * width + region.columns[1] {
            let kind = kind_of[pixel] as usize;
            if labels[pixel] == region.label && kind > 0 {
                pixels[kind - 1] += 1;
            }
        }
    }
    let most = (0..kinds.len()).max_by_key(|&kind| (pixels[kind], Reverse(kind)))?;
    (pixels[most] > 0).then(|| &kinds[most])
}
