//! `coreloss export`: results for programs that do not read HyperSpy files.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ndarray::{Array2, ArrayD, Ix2};

use crate::comm::Comm;
use crate::cube::Axis;
use crate::durable;
use crate::ending::Ending;
use crate::invalid::Invalid;
use crate::output::{
    NexusWriter, read_learning_results, read_signal_plane, read_text, signal_axes, signal_titles, write_csv, write_zspy,
};
use crate::report::{Quantity, picture_png};
use crate::results::folder::result_files;
use crate::results::titles::{PCA, PCA_COMPONENTS, PCA_LOADINGS};
use crate::results::{CubeSummary, RegionSummary, region_columns};

#[derive(Args)]
#[command(after_help = "Examples:
  coreloss export out/demo --csv --png -o tables      every cube of a run
  coreloss export out/demo/demo.coreloss.hspy --npy   numpy.load reads the maps")]
pub struct ExportArguments {
    /// *.coreloss.hspy files, or output folders.
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// Folder to write to.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Writes tables: maps as rows of pixels, spectra by energy (eV), regions, PCA factors.
    #[arg(long)]
    csv: bool,
    /// Writes all signals as NumPy arrays.
    #[arg(long)]
    npy: bool,
    /// Writes a picture of each map.
    #[arg(long)]
    png: bool,
    /// Writes one NeXus file (NXdata) for each cube.
    #[arg(long)]
    nexus: bool,
    /// Writes one .zspy folder, HyperSpy's Zarr store, for each cube.
    #[arg(long)]
    zspy: bool,
}

impl ExportArguments {
    fn forms(&self) -> Vec<Form> {
        let asked = [(self.csv, Form::Csv), (self.npy, Form::Npy), (self.png, Form::Png), (self.nexus, Form::Nexus)];
        asked.into_iter().filter(|(asked, _)| *asked).map(|(_, form)| form).collect()
    }
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A table of each map and of all spectra, and of the regions.
    Csv,
    /// An array of each signal, float32 in C order.
    Npy,
    /// Writes a picture of each map.
    Png,
    /// One file with all signals, `NXdata` each.
    Nexus,
}

/// One signal of a result file.
struct StoredSignal<'a> {
    path: &'a Path,
    title: String,
    axes: Vec<Axis>,
}

/// Writes the signals of result files, given as files or folders, in the forms asked for, as `NAME.SIGNAL.EXTENSION`.
/// Prints the paths. Holds one plane of an array in memory at a time.
///
/// # Collective
/// Root works; all ranks write Zarr's chunks.
/// # Errors
/// No result file; two with the same name; one that cannot be read; a folder that cannot be written.
pub fn export(comm: &Comm, arguments: &ExportArguments) -> Result<Ending> {
    let forms = arguments.forms();
    if forms.is_empty() && !arguments.zspy {
        return Err(Invalid("say what to write: --csv, --npy, --png, --nexus or --zspy".into()).into());
    }
    let folder = &arguments.output;
    let files = comm.from_root(|| {
        let files = list(&arguments.results)?;
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        for (path, name) in &files {
            for &form in &forms {
                export_file(path, &folder.join(name), form).with_context(|| path.display().to_string())?;
            }
        }
        Ok(files)
    })?;
    for (path, name) in files.iter().filter(|_| arguments.zspy) {
        let target = folder.join(format!("{name}.results.zspy"));
        write_zspy(comm, path, &target, |_| Ok(()))?;
        comm.on_root(|| say(&target))?;
    }
    Ok(Ending::Done)
}

/// The result files that `inputs` are or hold, with the names under which they are exported.
fn list(inputs: &[PathBuf]) -> Result<Vec<(PathBuf, String)>> {
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for input in inputs {
        let name = |path: &Path| {
            let below = path.strip_prefix(input).unwrap_or(path);
            let below = if below.as_os_str().is_empty() {
                path.file_name().unwrap_or_default().to_string_lossy()
            } else {
                below.to_string_lossy()
            };
            below.trim_end_matches(".coreloss.hspy").replace('/', "__")
        };
        if input.is_dir() {
            let mut found = result_files(input)?;
            found.sort();
            files.extend(found.into_iter().map(|path| (path.clone(), name(&path))));
        } else {
            files.push((input.clone(), name(input)));
        }
    }
    if files.is_empty() {
        return Err(
            Invalid("none of these is or holds a *.coreloss.hspy file: give the results of a run".into()).into()
        );
    }
    for (path, _) in &files {
        if path.exists() && read_text(path, "summary").is_err() {
            return Err(Invalid(format!(
                "{} holds no results: give a *.coreloss.hspy file, or the output folder of a run",
                path.display()
            ))
            .into());
        }
    }
    check_names(&files)?;
    Ok(files)
}

/// Refuses files that would be exported under the same name: the last would replace the others.
fn check_names(files: &[(PathBuf, String)]) -> Result<()> {
    let mut taken: HashMap<&str, &Path> = HashMap::new();
    for (path, name) in files {
        // The same file may be named twice.
        if let Some(other) = taken.insert(name, path).filter(|other| other != path) {
            return Err(Invalid(format!(
                "{} and {} would both be exported as {name}: export them one after the other, into folders of their own \
                 (-o)",
                other.display(),
                path.display()
            ))
            .into());
        }
    }
    Ok(())
}

/// Exports one file to `stem`, which lacks signal and extension.
fn export_file(path: &Path, stem: &Path, form: Form) -> Result<()> {
    let target = |what: &str, extension: &str| {
        let mut name = stem.as_os_str().to_owned();
        name.push(format!(".{what}.{extension}"));
        PathBuf::from(name)
    };
    let mut nexus = match form {
        Form::Nexus => Some(NexusWriter::create(&target("results", "nxs"))?),
        _ => None,
    };
    for title in signal_titles(path)? {
        // Its data are zeros in target of the cube.
        if title == PCA {
            continue;
        }
        // Tables and arrays of the components are written below, those of HyperSpy's layout.
        if [PCA_COMPONENTS, PCA_LOADINGS].contains(&&title[..]) && form != Form::Nexus {
            continue;
        }
        let signal = StoredSignal { axes: signal_axes(path, &title)?, path, title };
        let title = &signal.title;
        match (form, signal.axes.len()) {
            (Form::Csv, 1 | 2) => {
                let text = signal.table()?;
                save(&target(title, "csv"), text)?;
            }
            (Form::Npy, _) => signal.write_npy(&target(title, "npy"))?,
            (Form::Png, 2) if signal.energy().is_none() => {
                let values = signal.plane(0)?.into_dimensionality::<Ix2>()?;
                let quantity = if title.starts_with("10_") { Quantity::Score } else { Quantity::Property };
                let png = picture_png(&values, quantity, title)?;
                save(&target(title, "png"), png)?;
            }
            _ => (),
        }
        if let Some(nexus) = &mut nexus {
            nexus.add(title, &signal.axes, |plane| signal.plane(plane))?;
        }
    }
    match form {
        Form::Csv => {
            let summary: CubeSummary = serde_json::from_str(&read_text(path, "summary")?)?;
            let regions: Vec<&RegionSummary> = summary.regions.iter().collect();
            let regions_file = target("regions", "csv");
            write_csv(&regions_file, &region_columns(&regions))?;
            say(&regions_file)?;
            let factors = table_of_factors(path)?;
            save(&target("pca_factors", "csv"), factors)
        }
        Form::Npy => {
            let (results, loadings) = read_learning_results(path, PCA)?;
            for (what, values) in [("pca_factors", &results.factors), ("pca_loadings", &loadings)] {
                let values: Array2<f32> = values.mapv(|value| value as f32);
                write_npy(&target(what, "npy"), values.shape(), 1, |_| Ok(values.clone().into_dyn()))?;
            }
            Ok(())
        }
        Form::Png => Ok(()),
        Form::Nexus => nexus.map_or(Ok(()), |nexus| {
            nexus.finish()?;
            say(&target("results", "nxs"))
        }),
    }
}

impl StoredSignal<'_> {
    /// The whole signal if it has one or two dimensions, else plane `plane` of the first of three.
    fn plane(&self, plane: usize) -> Result<ArrayD<f32>> {
        read_signal_plane(self.path, &self.title, plane)
    }

    fn energy(&self) -> Option<usize> {
        self.axes.iter().position(|axis| axis.units == "eV")
    }

    /// Spectra as columns by energy, or a map as rows of pixels.
    fn table(&self) -> Result<String> {
        let values = self.plane(0)?;
        if self.energy() != Some(self.axes.len() - 1) {
            let map = values.into_dimensionality::<Ix2>()?;
            return Ok(rows(map.outer_iter().map(|row| row.to_vec())));
        }
        let energies = self.axes[self.axes.len() - 1].values();
        let name = if self.axes.len() == 1 { "counts".into() } else { self.axes[0].name.clone() };
        let channels = energies.len();
        let spectra = values.into_shape_with_order((self.axes_before(), channels))?;
        Ok(spectra_table(&energies, &spectra, &name))
    }

    /// Number of spectra.
    fn axes_before(&self) -> usize {
        let before = &self.axes[..self.axes.len() - 1];
        before.iter().map(|axis| axis.size).product()
    }

    fn write_npy(&self, path: &Path) -> Result<()> {
        let shape: Vec<usize> = self.axes.iter().map(|axis| axis.size).collect();
        let planes = if shape.len() > 2 { shape[0] } else { 1 };
        write_npy(path, &shape, planes, |plane| self.plane(plane))
    }
}

fn rows(rows: impl Iterator<Item = Vec<f32>>) -> String {
    let mut text = String::new();
    for row in rows {
        let row: Vec<String> = row.iter().map(f32::to_string).collect();
        text.push_str(&row.join(","));
        text.push('\n');
    }
    text
}

/// A column of energies, and one for each row of `spectra`.
fn spectra_table(energies: &[f64], spectra: &Array2<f32>, name: &str) -> String {
    let mut text = "energy_ev".to_string();
    for i in 1..=spectra.nrows() {
        let _ = match spectra.nrows() {
            1 => write!(text, ",{name}"),
            _ => write!(text, ",{name} {i}"),
        };
    }
    text.push('\n');
    for (energy, values) in energies.iter().zip(spectra.columns()) {
        let _ = write!(text, "{energy}");
        for value in values {
            let _ = write!(text, ",{value}");
        }
        text.push('\n');
    }
    text
}

fn table_of_factors(path: &Path) -> Result<String> {
    let (results, _) = read_learning_results(path, PCA)?;
    let axes = signal_axes(path, PCA)?;
    let energies = axes.last().map(Axis::values).unwrap_or_default();
    let factors = results.factors.t().mapv(|value| value as f32);
    Ok(spectra_table(&energies, &factors, "factor"))
}

/// Writes a float32 array of `shape` that comes in `planes` parts.
///
/// # Source
/// NumPy Enhancement Proposal 1, version 1.0 of the format.
fn write_npy(path: &Path, shape: &[usize], planes: usize, plane: impl Fn(usize) -> Result<ArrayD<f32>>) -> Result<()> {
    let sizes: Vec<String> = shape.iter().map(|size| format!("{size},")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", sizes.join(" "));
    // Values start at a multiple of 64 bytes; ten come before the header, a line feed ends it.
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    durable::replace(path, |file| {
        file.write_all(b"\x93NUMPY\x01\x00")?;
        file.write_all(&(header.len() as u16).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for index in 0..planes {
            for value in &plane(index)? {
                file.write_all(&value.to_le_bytes())?;
            }
        }
        Ok(())
    })?;
    say(path)
}

/// Writes a whole file and says where it is.
fn save(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    durable::write(path, bytes)?;
    say(path)
}

fn say(path: &Path) -> Result<()> {
    println!("{}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_that_cannot_be_read_whole_gets_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let plane = |index| match index {
            0 => Ok(ArrayD::zeros(vec![2, 3])),
            _ => anyhow::bail!("plane {index} is damaged"),
        };
        let error = write_npy(&path, &[2, 2, 3], 2, plane).unwrap_err();
        assert!(format!("{error:#}").contains("plane 1 is damaged"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn files_of_one_name_are_refused_by_both() {
        let file = |path: &str, name: &str| (PathBuf::from(path), name.to_string());
        let first = file("out/first/a.coreloss.hspy", "a");
        check_names(&[first.clone(), file("out/second/b.coreloss.hspy", "b")]).unwrap();
        let error = check_names(&[first, file("out/second/a.coreloss.hspy", "a")]).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("out/first/a") && message.contains("out/second/a"), "{message}");
    }
}
