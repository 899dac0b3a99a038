//! Who works on which scan lines: pure arithmetic, nothing is read here.
//!
//! * *Shard*: what one rank owns: whole lanes in training, a band in scoring.
//! * *Lane*: a chunk-aligned run of scan lines of the archive from which training draws crops; a crop belongs to the lane
//!   that its first line is in.
//! * *Block*: scan lines of a cube that are read, summed and written together.
//! * *Band*: the contiguous lines of a cube that one rank scores: whole blocks.
//! * *Halo*: the lines around a block or band that its results depend on; its width belongs to each operation
//!   ([`HALO`](crate::preprocess::prepare::HALO) in preprocessing).
//!
//! Lanes and blocks follow from the data and the configuration alone. So the number of ranks decides who computes what,
//! never what is computed.

use std::ops::Range;

/// The indices, out of `count`, that `rank` of `size` owns.
pub fn owned(count: usize, rank: usize, size: usize) -> Range<usize> {
    count * rank / size..count * (rank + 1) / size
}

/// The index into `size` samples that mirroring at the first and last sample puts at `i`, which may lie beyond the ends.
pub fn reflect(i: isize, size: usize) -> usize {
    if size == 1 {
        return 0;
    }
    let period = 2 * (size - 1);
    let i = i.rem_euclid(period as isize) as usize;
    i.min(period - i)
}

/// The size of a cube, as far as lanes depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub rows: usize,
    pub columns: usize,
    /// Scan lines of a stored chunk.
    pub chunk_rows: usize,
}

impl Extent {
    /// The same with `border` `[y, x]` pixels on each side.
    pub fn with_border(self, border: [usize; 2]) -> Extent {
        Extent { rows: self.rows + 2 * border[0], columns: self.columns + 2 * border[1], ..self }
    }

    /// The numbers `[y, x]` of positions where a patch of `[y, x]` pixels can begin. A cube smaller than the patch has one
    /// along that axis, as it is mirrored to the size of the patch.
    fn origins(&self, patch: [usize; 2]) -> [usize; 2] {
        [self.rows.saturating_sub(patch[0]) + 1, self.columns.saturating_sub(patch[1]) + 1]
    }
}

/// A run of scan lines of one cube.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    pub cube: usize,
    pub rows: Range<usize>,
}

/// The scan lines on which the crops of one lane begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    pub runs: Vec<Lines>,
}

/// How an archive is cut for training.
#[derive(Clone, Debug)]
pub struct LanePlan {
    pub lanes: Vec<Lane>,
    /// Runs as high as a patch that no training crop touches; empty if the archive is too small.
    pub validation: Vec<Lines>,
    extents: Vec<Extent>,
    patch: [usize; 2],
}

/// The largest share of the training lines that validation may cost.
const VALIDATION_COST: f64 = 0.12;

impl LanePlan {
    /// Sets `validation`, a share of the lines, apart and cuts the rest of the archive into at most `lanes` lanes.
    pub fn new(extents: &[Extent], patch: [usize; 2], lanes: usize, validation: f64) -> LanePlan {
        let validation = validation_runs(extents, patch, validation);
        let runs = training_runs(extents, patch, &validation);
        LanePlan { lanes: cut_lanes(extents, &runs, lanes), validation, extents: extents.to_vec(), patch }
    }

    /// The lane from which micro-batch `slot` of `slots` is drawn at `step`: the lanes are divided evenly among the slots,
    /// each of which goes through its own in a fixed rotation.
    pub fn lane_of(&self, step: usize, slot: usize, slots: usize) -> usize {
        let first = slot * self.lanes.len() / slots;
        let end = ((slot + 1) * self.lanes.len() / slots).max(first + 1);
        first + step % (end - first)
    }

    /// The crop `(cube, y, x)` of lane `lane` at `position`, uniform in [0, 1) over all crops that begin in the lane.
    pub fn crop(&self, lane: usize, position: f64) -> (usize, usize, usize) {
        let runs = &self.lanes[lane].runs;
        let width = |run: &Lines| self.extents[run.cube].origins(self.patch)[1];
        let total: usize = runs.iter().map(|run| run.rows.len() * width(run)).sum();
        let mut index = ((position * total as f64) as usize).min(total - 1);
        for run in runs {
            let here = run.rows.len() * width(run);
            if index < here {
                return (run.cube, run.rows.start + index / width(run), index % width(run));
            }
            index -= here;
        }
        unreachable!("the index is below the number of crops")
    }

    /// The lines that the crops of `lanes` read, those that are mirrored left out.
    pub fn lines_read(&self, lanes: Range<usize>) -> Vec<Lines> {
        let mut read: Vec<Lines> = Vec::new();
        for run in self.lanes[lanes].iter().flat_map(|lane| &lane.runs) {
            let end = (run.rows.end - 1 + self.patch[0]).min(self.extents[run.cube].rows);
            match read.last_mut() {
                Some(last) if last.cube == run.cube && run.rows.start <= last.rows.end => {
                    last.rows.end = last.rows.end.max(end)
                }
                _ => read.push(Lines { cube: run.cube, rows: run.rows.start..end }),
            }
        }
        read
    }
}

/// Runs as high as a patch, spread evenly over the tall cubes of the archive.
fn validation_runs(extents: &[Extent], patch: [usize; 2], share: f64) -> Vec<Lines> {
    let height = patch[0];
    let origins: usize = extents.iter().map(|e| e.origins(patch)[0]).sum();
    // A run keeps away every crop that would touch it or, by the 3 x 3 mean, one of its neighbours.
    let cost = (2 * height + 1) as f64 / origins as f64;
    let tall: Vec<usize> = (0..extents.len()).filter(|&cube| extents[cube].rows >= 4 * height).collect();
    if share <= 0.0 || cost > VALIDATION_COST || tall.is_empty() {
        return Vec::new();
    }
    let wanted = (share * origins as f64 / height as f64) as usize;
    let affordable = (VALIDATION_COST / cost) as usize;
    let count = wanted.clamp(1, affordable).min(tall.len());
    (0..count)
        .map(|i| {
            let cube = tall[i * tall.len() / count];
            let start = (extents[cube].rows - height) / 2;
            Lines { cube, rows: start..start + height }
        })
        .collect()
}

/// The lines on which training crops may begin.
fn training_runs(extents: &[Extent], patch: [usize; 2], validation: &[Lines]) -> Vec<Lines> {
    let mut runs = Vec::new();
    for (cube, extent) in extents.iter().enumerate() {
        let origins = extent.origins(patch)[0];
        let run = validation.iter().find(|run| run.cube == cube);
        let apart = run
            .map_or(origins..origins, |run| run.rows.start.saturating_sub(patch[0])..(run.rows.end + 1).min(origins));
        let parts = [0..apart.start, apart.end..origins];
        runs.extend(parts.into_iter().filter(|rows| !rows.is_empty()).map(|rows| Lines { cube, rows }));
    }
    runs
}

/// Cuts the runs, end to end, into lanes of about equally many pixels.
fn cut_lanes(extents: &[Extent], runs: &[Lines], lanes: usize) -> Vec<Lane> {
    let lines: usize = runs.iter().map(|run| run.rows.len()).sum();
    let pixels: usize = runs.iter().map(|run| run.rows.len() * extents[run.cube].columns).sum();
    let lanes = lanes.min(lines).max(1);
    let mut cut: Vec<Lane> = vec![Lane { runs: Vec::new() }];
    let (mut passed_lines, mut passed_pixels) = (0, 0);
    for run in runs {
        let extent = extents[run.cube];
        let mut start = run.rows.start;
        for row in run.rows.clone() {
            let open = cut.len();
            let full = passed_pixels * lanes >= open * pixels;
            // Each lane still to be opened needs a line.
            let pressed = lines - passed_lines <= lanes - open;
            let lane_rows = pixels / lanes / extent.columns;
            let aligned = extent.chunk_rows * 2 > lane_rows || row % extent.chunk_rows == 0;
            let begun = row > start || !cut[open - 1].runs.is_empty();
            if open < lanes && begun && (pressed || (full && aligned)) {
                push_run(&mut cut[open - 1], run.cube, start..row);
                cut.push(Lane { runs: Vec::new() });
                start = row;
            }
            passed_lines += 1;
            passed_pixels += extent.columns;
        }
        let last = cut.len() - 1;
        push_run(&mut cut[last], run.cube, start..run.rows.end);
    }
    cut
}

fn push_run(lane: &mut Lane, cube: usize, rows: Range<usize>) {
    if !rows.is_empty() {
        lane.runs.push(Lines { cube, rows });
    }
}

/// How the lines of a cube are cut into blocks.
#[derive(Clone, Copy, Debug)]
pub struct Blocks {
    rows: usize,
    block_rows: usize,
}

/// Approximate number of voxels in a block: enough for matrix products, few enough to hold many blocks.
const BLOCK_VOXELS: usize = 1 << 19;

impl Blocks {
    /// The blocks of a cube of `shape` `[y, x, energy]`.
    pub fn new(shape: [usize; 3]) -> Blocks {
        let [rows, columns, channels] = shape;
        let fitting = BLOCK_VOXELS / (columns * channels).max(1);
        // At least 16 blocks, where there are lines enough, so that ranks can share a small cube.
        let block_rows = fitting.min(rows.div_ceil(16)).max(1);
        Blocks { rows, block_rows }
    }

    pub fn count(&self) -> usize {
        self.rows.div_ceil(self.block_rows)
    }

    /// The lines of block `i`.
    pub fn rows(&self, i: usize) -> Range<usize> {
        i * self.block_rows..((i + 1) * self.block_rows).min(self.rows)
    }

    /// The blocks of `rank`.
    pub fn owned(&self, rank: usize, size: usize) -> Range<usize> {
        owned(self.count(), rank, size)
    }

    /// The band of `rank`: the lines of its blocks.
    pub fn band(&self, rank: usize, size: usize) -> Range<usize> {
        let blocks = self.owned(rank, size);
        (blocks.start * self.block_rows).min(self.rows)..(blocks.end * self.block_rows).min(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extent(rows: usize, columns: usize) -> Extent {
        Extent { rows, columns, chunk_rows: 1 }
    }

    #[test]
    fn a_mirror_repeats_no_end_sample() {
        let places: Vec<usize> = (-3..6).map(|i| reflect(i, 3)).collect();
        assert_eq!(places, [1, 2, 1, 0, 1, 2, 1, 0, 1]);
        assert_eq!(reflect(7, 1), 0);
    }

    #[test]
    fn a_cube_smaller_than_a_patch_has_one_crop() {
        let plan = LanePlan::new(&[extent(2, 2)], [12, 12], 64, 0.05);
        assert_eq!(plan.lanes.len(), 1);
        assert_eq!(plan.crop(0, 0.999), (0, 0, 0));
        assert!(plan.validation.is_empty());
        assert_eq!(plan.lines_read(0..1), [Lines { cube: 0, rows: 0..2 }]);
    }

    #[test]
    fn no_training_crop_touches_validation() {
        let plan = LanePlan::new(&[extent(400, 64)], [12, 12], 64, 0.05);
        let block = &plan.validation[0];
        for run in plan.lanes.iter().flat_map(|lane| &lane.runs) {
            assert!(run.rows.end - 1 + 12 <= block.rows.start || run.rows.start > block.rows.end);
        }
    }

    #[test]
    fn lanes_begin_on_chunks_where_lanes_are_tall() {
        let tall = Extent { rows: 4096, columns: 8, chunk_rows: 15 };
        let plan = LanePlan::new(&[tall], [12, 12], 64, 0.0);
        assert!(plan.lanes.iter().all(|lane| lane.runs[0].rows.start % 15 == 0));
    }

    proptest! {
        #[test]
        fn every_training_line_is_in_one_lane(
            sizes in prop::collection::vec((1usize..90, 1usize..40), 1..8),
            lanes in 1usize..70,
        ) {
            let extents: Vec<Extent> = sizes.iter().map(|&(y, x)| extent(y, x)).collect();
            let plan = LanePlan::new(&extents, [12, 12], lanes, 0.0);
            let laid: Vec<(usize, usize)> = plan.lanes.iter().flat_map(|lane| &lane.runs)
                .flat_map(|run| run.rows.clone().map(|row| (run.cube, row))).collect();
            let expected: Vec<(usize, usize)> = extents.iter().enumerate()
                .flat_map(|(cube, e)| (0..e.origins([12, 12])[0]).map(move |row| (cube, row))).collect();
            prop_assert_eq!(&laid, &expected);
            prop_assert_eq!(plan.lanes.len(), lanes.min(expected.len()));
            prop_assert!(plan.lanes.iter().all(|lane| !lane.runs.is_empty()));
        }

        #[test]
        fn slots_of_a_batch_go_up_through_the_lanes(lanes in 1usize..70, slots in 1usize..20, step in 0usize..500) {
            let plan = LanePlan::new(&[extent(200, 30)], [12, 12], lanes, 0.0);
            let drawn: Vec<usize> = (0..slots).map(|slot| plan.lane_of(step, slot, slots)).collect();
            prop_assert!(drawn.windows(2).all(|pair| pair[0] <= pair[1]));
            prop_assert!(drawn.iter().all(|&lane| lane < plan.lanes.len()));
        }

        #[test]
        fn bands_tile_the_cube(rows in 1usize..300, columns in 1usize..50, size in 1usize..9) {
            let blocks = Blocks::new([rows, columns, 256]);
            let mut next = 0;
            for rank in 0..size {
                let band = blocks.band(rank, size);
                prop_assert_eq!(band.start, next);
                next = band.end;
            }
            prop_assert_eq!(next, rows);
        }
    }
}
