//! The table of a cube's flagged regions: where each lies, and which kind of anomaly most of its pixels belong to.

use std::cmp::Reverse;

use super::summary::{Difference, KindSummary, RegionSummary};
use crate::score::{Family, Kind, Region};

/// A row for each of the regions `found`. Rank-local, on the whole maps (C order, `width` pixels a line).
///
/// `labels` holds the region of each pixel, `kind_of` the kind that it belongs to, from 1 and on root alone; `energies_ev`
/// the energies at which the first regions differ.
pub fn region_table(
    found: &[Region],
    labels: &[i32],
    (kinds, kind_of): (&[Kind], Option<&[f32]>),
    energies_ev: &[Vec<[f64; 2]>],
    width: usize,
) -> Vec<RegionSummary> {
    let row = |(index, region): (usize, &Region)| {
        let kind = kind_of.and_then(|kind_of| most_frequent_kind(region, labels, kind_of, kinds, width));
        let shift = kind.and_then(|kind| kind.shift_ev);
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
            energies_ev: energies_ev.get(index).cloned().unwrap_or_default(),
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
