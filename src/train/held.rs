//! The pixels of the archive's lines in the memory of a GPU, which cuts patches from them.

use ndarray::Array3;
use tch::{Device, Kind, Tensor};

use super::micro_batch::CropOrigin;
use crate::shard::Lines;

/// The lines that a GPU holds; none at first.
#[derive(Default)]
pub struct HeldLines {
    runs: Vec<Run>,
    /// Electrons `[pixels, energy]`, 0 where training does not look.
    pixels: Option<Tensor>,
}

/// Adjacent lines of one cube.
struct Run {
    lines: Lines,
    /// Index of their first pixel among all that are held.
    first: i64,
    /// Pixels of a line.
    width: i64,
}

impl HeldLines {
    /// Adds `lines` with their electrons `[y, x, energy]`.
    pub fn add(&mut self, lines: Vec<(Lines, Array3<f32>)>, device: Device) {
        let mut parts: Vec<Tensor> = self.pixels.take().into_iter().collect();
        let mut first = parts.first().map_or(0, |pixels| pixels.size()[0]);
        for (lines, counts) in lines {
            let [rows, columns, energy] = <[usize; 3]>::from(counts.dim()).map(|n| n as i64);
            let counts = counts.as_standard_layout();
            let values = counts.as_slice().expect("the standard layout is one slice");
            parts.push(Tensor::from_slice(values).view([rows * columns, energy]).to_device(device));
            self.runs.push(Run { lines, first, width: columns });
            first += rows * columns;
        }
        self.pixels = Some(Tensor::cat(&parts, 0));
    }

    /// The index of a patch's first pixel, and the pixels of a line there.
    pub fn locate(&self, origin: &CropOrigin) -> (i64, i64) {
        let holds = |run: &&Run| run.lines.cube == origin.cube && run.lines.rows.contains(&origin.y);
        let run = self.runs.iter().find(holds).expect("a lane's lines are held");
        let row = (origin.y - run.lines.rows.start) as i64;
        (run.first + row * run.width + origin.x as i64, run.width)
    }

    /// Patches `[batch, y, x, energy]` of `patch` `[y, x]` pixels, where [`locate`](Self::locate) says: `[2, batch, 1, 1]`.
    pub fn cut(&self, located: &Tensor, patch: [usize; 2]) -> Tensor {
        let pixels = self.pixels.as_ref().expect("lines are held");
        let [height, width] = patch.map(|n| n as i64);
        let range = |n: i64| Tensor::arange(n, (Kind::Int64, pixels.device()));
        let rows = range(height).view([height, 1]) * located.get(1);
        let indices = located.get(0) + rows + range(width);
        pixels.index_select(0, &indices.view(-1)).view([located.size()[1], height, width, pixels.size()[1]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::s;

    #[test]
    fn patches_are_cut_from_lines_of_any_width() {
        let cube = |rows, columns| Array3::from_shape_fn((rows, columns, 3), |(y, x, e)| (100 * y + 10 * x + e) as f32);
        // Lines 4 to 9 of cube 0, and all of cube 2, which is wider.
        let lines = [(0, 4, cube(6, 5)), (2, 0, cube(4, 8))];
        let mut held = HeldLines::default();
        let added = lines.iter().map(|(cube, first, counts)| {
            let rows = *first..first + counts.dim().0;
            (Lines { cube: *cube, rows }, counts.clone())
        });
        held.add(added.collect(), Device::Cpu);
        let origins = [(0, 7, 1), (2, 2, 6), (0, 4, 0), (2, 0, 3)];
        let origins = origins.map(|(cube, y, x)| CropOrigin { cube, y, x });
        let (starts, widths): (Vec<i64>, Vec<i64>) = origins.iter().map(|origin| held.locate(origin)).unzip();
        let located = Tensor::from_slice(&[starts, widths].concat()).view([2, 4, 1, 1]);
        let found: Vec<f32> = held.cut(&located, [2, 2]).view(-1).try_into().unwrap();
        let expected = origins.iter().flat_map(|origin| {
            let (_, first, counts) = lines.iter().find(|lines| lines.0 == origin.cube).unwrap();
            let (y, x) = (origin.y - first, origin.x);
            let patch = counts.slice(s![y..y + 2, x..x + 2, ..]);
            patch.iter().copied().collect::<Vec<f32>>()
        });
        assert_eq!(found, expected.collect::<Vec<f32>>());
    }
}
