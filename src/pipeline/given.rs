//! Reconstructions by other programs: `methods.given`.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use ndarray::{Array3, ArrayView3, s};
use ndarray_npy::ViewNpyExt;

use crate::archive::{Options, Reader};
use crate::invalid::Invalid;
use crate::stream::Cube;

/// One reconstruction of one cube, read line by line.
pub struct Given {
    path: PathBuf,
    stored: Stored,
    /// The channels of the array that are scored.
    channels: Range<usize>,
}

/// Where the values lie.
enum Stored {
    Cube(Box<Reader>),
    /// A `.npy` file: mapped, so that only what is asked for is read.
    Npy(Mmap, Number),
}

/// The numbers of a `.npy` file.
#[derive(Clone, Copy)]
enum Number {
    F32,
    F64,
}

impl Given {
    /// Opens the reconstruction of `cube` at `pattern`, in which `{}` stands for the cube's id. Rank-local.
    ///
    /// # Errors
    /// A file that is not there or cannot be read, or one of another size than the cube; names both sizes.
    pub fn open(pattern: &str, cube: &Cube) -> Result<Given> {
        let path = PathBuf::from(pattern.replace("{}", &cube.info().id));
        let place = || format!("methods.given: {}", path.display());
        let (stored, shape) = if path.extension().is_some_and(|extension| extension == "npy") {
            open_npy(&path).with_context(place)?
        } else {
            let reader = Reader::open(&path, &Options::default()).with_context(place)?;
            let shape = reader.info().shape();
            (Stored::Cube(Box::new(reader)), shape)
        };
        let [rows, columns, energy] = cube.shape();
        // The array has either the energies that are scored, or all that the file of the cube has.
        let whole = cube.info().energy.size;
        let channels = match cube.stored_channels() {
            _ if shape[2] == energy => Some(0..energy),
            Some(channels) if shape[2] == whole => Some(channels),
            _ => None,
        };
        let Some(channels) = channels.filter(|_| shape[..2] == [rows, columns]) else {
            return Err(Invalid(format!(
                "{}: holds {} x {} x {} values (y, x, energy), and the cube is scored as {rows} x {columns} x {energy}; give an \
                 array of that size, or one with all {whole} channels of the cube's file if its energies are neither aligned \
                 nor rebinned",
                place(),
                shape[0],
                shape[1],
                shape[2]
            ))
            .into());
        };
        Ok(Given { path, stored, channels })
    }

    /// Whole lines `[y, x, energy]`, in the unit of the array. Rank-local.
    ///
    /// # Errors
    /// Unreadable data; values that are not finite, or negative.
    pub fn lines(&self, rows: Range<usize>) -> Result<Array3<f32>> {
        let place = || format!("methods.given: {}", self.path.display());
        let values = match &self.stored {
            Stored::Cube(reader) => {
                let width = reader.info().x.size;
                reader.read(rows.clone(), 0..width, self.channels.clone()).with_context(place)?
            }
            Stored::Npy(map, Number::F32) => {
                let all = ArrayView3::<f32>::view_npy(map).with_context(place)?;
                all.slice(s![rows.clone(), .., self.channels.clone()]).to_owned()
            }
            Stored::Npy(map, Number::F64) => {
                let all = ArrayView3::<f64>::view_npy(map).with_context(place)?;
                all.slice(s![rows.clone(), .., self.channels.clone()]).mapv(|value| value as f32)
            }
        };
        if let Some(((y, x, channel), value)) = values.indexed_iter().find(|(_, v)| !(v.is_finite() && **v >= 0.0)) {
            bail!(
                "{}: {value} at line {}, column {x}, channel {}: electrons and shares are finite and not negative",
                place(),
                rows.start + y,
                self.channels.start + channel
            );
        }
        Ok(values)
    }
}

fn open_npy(path: &Path) -> Result<(Stored, [usize; 3])> {
    let file = File::open(path)?;
    // SAFETY: the map is read only; a file that another program cuts short meanwhile is a mistake of the user's.
    let map = unsafe { Mmap::map(&file)? };
    let shape = |(y, x, energy)| [y, x, energy];
    if let Ok(values) = ArrayView3::<f32>::view_npy(&map) {
        let shape = shape(values.dim());
        return Ok((Stored::Npy(map, Number::F32), shape));
    }
    let values = ArrayView3::<f64>::view_npy(&map);
    ensure!(values.is_ok(), "no array [y, x, energy] of float32 or float64: {}", values.unwrap_err());
    let shape = shape(values?.dim());
    Ok((Stored::Npy(map, Number::F64), shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray_npy::write_npy;

    #[test]
    fn arrays_of_both_widths_are_read_by_lines() {
        let folder = tempfile::tempdir().unwrap();
        let values = Array3::from_shape_fn((4, 3, 5), |(y, x, e)| (y * 100 + x * 10 + e) as f64);
        let path = folder.path().join("a.npy");
        for wide in [true, false] {
            match wide {
                true => write_npy(&path, &values).unwrap(),
                false => write_npy(&path, &values.mapv(|v| v as f32)).unwrap(),
            }
            let (stored, shape) = open_npy(&path).unwrap();
            assert_eq!(shape, [4, 3, 5]);
            let given = Given { path: path.clone(), stored, channels: 1..4 };
            let lines = given.lines(2..4).unwrap();
            assert_eq!(lines.dim(), (2, 3, 3));
            assert_eq!(lines[[1, 2, 0]], 321.0);
        }
    }

    #[test]
    fn what_is_no_number_of_electrons_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let mut values = Array3::<f32>::zeros((2, 2, 3));
        values[[1, 0, 2]] = -1.0;
        write_npy(&path, &values).unwrap();
        let (stored, _) = open_npy(&path).unwrap();
        let given = Given { path, stored, channels: 0..3 };
        let error = given.lines(0..2).unwrap_err().to_string();
        assert!(error.contains("line 1, column 0, channel 2"), "{error}");
        std::fs::write(folder.path().join("b.npy"), "text").unwrap();
        assert!(open_npy(&folder.path().join("b.npy")).is_err());
    }
}
