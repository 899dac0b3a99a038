//! The regions of interest of a configuration, as masks of pixels.

use anyhow::{Result, ensure};
use ndarray::{Array2, s};

use crate::config::{RegionOfInterest, RegionUse};

/// Marks in `ignored` `[y, x]` the pixels of the cube `id` to ignore. Returns those that are not to be trained on; none if
/// no region says what to train on. Rank-local.
///
/// # Errors
/// A box that reaches beyond the cube; a polygon without any of its pixels.
pub fn mark(regions: &[RegionOfInterest], id: &str, ignored: &mut Array2<bool>) -> Result<Option<Array2<bool>>> {
    let mut untrained: Option<Array2<bool>> = None;
    for region in regions.iter().filter(|region| applies_to(region, id)) {
        let inside = pixels(region, ignored.dim())?;
        let marked = match region.r#use {
            RegionUse::Ignore => ndarray::Zip::from(&mut *ignored).and(&inside),
            RegionUse::Train => {
                let all = Array2::from_elem(inside.dim(), true);
                ndarray::Zip::from(untrained.get_or_insert(all)).and(&inside)
            }
        };
        let mark = region.r#use == RegionUse::Ignore;
        marked.for_each(|flag, &inside| {
            if inside {
                *flag = mark;
            }
        });
    }
    Ok(untrained)
}

fn applies_to(region: &RegionOfInterest, id: &str) -> bool {
    let pattern = region.cubes.as_deref().map(glob::Pattern::new);
    // The configuration has refused invalid patterns.
    pattern.is_none_or(|pattern| pattern.is_ok_and(|pattern| pattern.matches(id)))
}

/// True for the pixels `[y, x]` of `region`.
fn pixels(region: &RegionOfInterest, (rows, columns): (usize, usize)) -> Result<Array2<bool>> {
    let mut inside = Array2::from_elem((rows, columns), false);
    if let (Some(y), Some(x)) = (region.y, region.x) {
        ensure!(
            y[1] <= rows && x[1] <= columns,
            "archive.regions: y {y:?}, x {x:?} reach beyond its {rows} x {columns} pixels"
        );
        inside.slice_mut(s![y[0]..y[1], x[0]..x[1]]).fill(true);
    }
    if let Some(corners) = &region.polygon {
        inside = Array2::from_shape_fn((rows, columns), |(y, x)| is_inside(corners, [y as f64, x as f64]));
        ensure!(
            inside.iter().any(|&inside| inside),
            "archive.regions: the polygon {corners:?} ([y, x] each) holds the centre of none of its {rows} x {columns} \
             pixels"
        );
    }
    Ok(inside)
}

/// Whether the point `[y, x]` lies inside the closed polygon of `corners`, `[y, x]` each, by the even-odd rule.
///
/// A ray from a point inside towards larger x crosses the boundary an odd number of times. Where two edges meet on the
/// ray, exactly one of them counts as crossed, so that adjacent polygons neither share points nor leave any out.
fn is_inside(corners: &[[f64; 2]], [y, x]: [f64; 2]) -> bool {
    let mut inside = false;
    let mut before = corners[corners.len() - 1];
    for &corner in corners {
        if (corner[0] > y) != (before[0] > y) {
            let part = (y - corner[0]) / (before[0] - corner[0]);
            if x < corner[1] + part * (before[1] - corner[1]) {
                inside = !inside;
            }
        }
        before = corner;
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn polygon(corners: &[[f64; 2]], r#use: RegionUse) -> RegionOfInterest {
        RegionOfInterest { y: None, x: None, polygon: Some(corners.to_vec()), cubes: None, r#use }
    }

    fn drawn(inside: &Array2<bool>) -> Vec<String> {
        let line = |line: ndarray::ArrayView1<bool>| line.iter().map(|&p| if p { '#' } else { '.' }).collect();
        inside.outer_iter().map(line).collect()
    }

    #[test]
    fn a_triangle_and_a_star_by_hand() {
        let triangle = polygon(&[[-0.5, -0.5], [-0.5, 4.5], [4.5, -0.5]], RegionUse::Ignore);
        let found = pixels(&triangle, (5, 6)).unwrap();
        assert_eq!(drawn(&found), ["####..", "###...", "##....", "#.....", "......"]);
        // Two turns about the middle: its middle is outside by the even-odd rule.
        let square = [[-0.5, -0.5], [-0.5, 4.5], [4.5, 4.5], [4.5, -0.5]];
        let inner = [[1.5, 1.5], [1.5, 3.5], [3.5, 3.5], [3.5, 1.5]];
        let ring: Vec<[f64; 2]> = [&square[..], &square[..1], &inner[..], &inner[..1]].concat();
        let found = pixels(&polygon(&ring, RegionUse::Ignore), (5, 5)).unwrap();
        assert_eq!(drawn(&found), ["#####", "#####", "##..#", "##..#", "#####"]);
    }

    #[test]
    fn what_lies_beyond_the_cube_is_refused() {
        let far = polygon(&[[10.0, 10.0], [10.0, 20.0], [20.0, 20.0]], RegionUse::Ignore);
        let message = pixels(&far, (5, 5)).unwrap_err().to_string();
        assert!(message.contains("holds the centre of none"), "{message}");
    }

    #[test]
    fn regions_add_up_and_are_for_the_cubes_they_name() {
        let square = |from: f64, r#use| {
            let to = from + 2.0;
            polygon(&[[from, from], [from, to], [to, to], [to, from]], r#use)
        };
        let other = RegionOfInterest { cubes: Some("tuesday/*".into()), ..square(-0.5, RegionUse::Train) };
        let regions =
            [square(-0.5, RegionUse::Ignore), square(1.5, RegionUse::Train), square(3.5, RegionUse::Train), other];
        let mut ignored = Array2::from_elem((6, 6), false);
        let untrained = mark(&regions, "monday/a", &mut ignored).unwrap().unwrap();
        assert_eq!(ignored.iter().filter(|&&flag| flag).count(), 4);
        assert_eq!(untrained.iter().filter(|&&flag| !flag).count(), 8);
        let untrained = mark(&regions, "tuesday/a", &mut ignored).unwrap().unwrap();
        assert_eq!(untrained.iter().filter(|&&flag| !flag).count(), 12);
        let mut ignored = Array2::from_elem((6, 6), false);
        assert!(mark(&regions[3..], "monday/a", &mut ignored).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn a_cut_polygon_is_its_two_parts(
            a in (0f64..8.0, 0f64..8.0), b in (0f64..8.0, 0f64..8.0), c in (0f64..8.0, 0f64..8.0), cut in 0f64..1.0,
        ) {
            let [a, b, c] = [a, b, c].map(|(y, x)| [y.round(), x.round()]);
            let middle = [a[0] + cut * (b[0] - a[0]), a[1] + cut * (b[1] - a[1])].map(|v| (4.0 * v).round() / 4.0);
            let inside = |corners: &[[f64; 2]], y: usize, x: usize| is_inside(corners, [y as f64, x as f64]) as u8;
            for (y, x) in (0..9).flat_map(|y| (0..9).map(move |x| (y, x))) {
                let parts = inside(&[a, middle, c], y, x) + inside(&[middle, b, c], y, x);
                // A corner put into an edge changes nothing.
                prop_assert_eq!(parts % 2, inside(&[a, middle, b, c], y, x));
            }
        }
    }
}
