//! The instrument and its settings: [`Microscope`], and where NeXus, EMD and other HDF5 files keep them.

use hdf5::{Container, File, Group};
use serde::{Deserialize, Serialize};

use super::attribute::{numbers, strings, text};
use super::dates;

/// What a file says of the instrument and of its values; each may be absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Microscope {
    pub title: Option<String>,
    pub instrument: Option<String>,
    /// Spectrometer or camera.
    pub detector: Option<String>,
    pub beam_energy_kev: Option<f64>,
    pub convergence_angle_mrad: Option<f64>,
    pub collection_angle_mrad: Option<f64>,
    pub camera_length_mm: Option<f64>,
    /// Entrance aperture of the spectrometer.
    pub aperture_mm: Option<f64>,
    /// Per pixel, all its frames together.
    pub exposure_s: Option<f64>,
    /// Camera frames summed in one pixel.
    pub frames: Option<f64>,
    pub operator: Option<String>,
    pub specimen: Option<String>,
    /// Start of the acquisition: `2021-03-12`.
    pub date: Option<String>,
    /// `15:16:22`, local time of the instrument.
    pub time: Option<String>,
    /// Scale of the intensity: `(stored - gain_offset) * gain_factor` is in `intensity_units`. HyperSpy's
    /// `Variance_linear_model.gain_factor`, which it takes from the same tag of Gatan files.
    pub gain_factor: Option<f64>,
    pub gain_offset: Option<f64>,
    /// `Counts`, `e-`, ...
    pub intensity_units: Option<String>,
}

/// Most members of a file that are looked at; real files have some thousand.
const MOST: usize = 1 << 13;
/// Most levels of groups.
const DEEPEST: usize = 16;
/// Beam energies come in V or kV, often without units: a larger number must be V.
const MOST_KEV: f64 = 3e3;

/// A single value found in a file.
struct Entry {
    /// In lower case, words joined by `_`: `entry/instrument/source/voltage`.
    path: String,
    value: Value,
    /// As in the file, but without brackets and underscores (EMD writes `[m_rad]`); empty if there are none.
    units: String,
}

enum Value {
    Number(f64),
    Text(String),
}

/// Names of units, each with its factor to the first of them, the unit of the field in [`Microscope`].
type Units = &'static [(&'static str, f64)];
const KEV: Units = &[("keV", 1.0), ("kV", 1.0), ("eV", 1e-3), ("V", 1e-3)];
const MRAD: Units = &[("mrad", 1.0), ("rad", 1e3), ("deg", 1e3 * std::f64::consts::PI / 180.0)];
const MM: Units = &[("mm", 1.0), ("m", 1e3), ("cm", 10.0), ("um", 1e-3)];
const S: Units = &[("s", 1.0), ("ms", 1e-3), ("us", 1e-6)];
const NONE: Units = &[];

/// The instrument behind the dataset at `path`, searched for in its top-level group, then in the whole file. Rank-local.
///
/// # Source
/// The NeXus classes NXem, NXebeam_column, NXoptical_system_em, NXdetector, NXuser and NXsample; EMD's groups
/// `microscope`, `user` and `sample`; the names of HyperSpy's metadata, which RosettaSciIO keeps in such files.
pub(super) fn of_hdf5(file: &File, path: &str) -> Microscope {
    let mut entries = Vec::new();
    let mut left = MOST;
    if let Some((top, _)) = path.split_once('/')
        && let Ok(group) = file.group(top)
    {
        collect(&group, &normalised(top), DEEPEST, &mut left, &mut entries);
    }
    collect(file, "", DEEPEST, &mut left, &mut entries);
    let number = |names: &[&str], units: Units| first(&entries, names, |entry| entry.number(units));
    let words = |names: &[&str]| first(&entries, names, Entry::text);
    let start = words(&["start_time"]);
    Microscope {
        title: words(&["general/title", "entry/title"]),
        instrument: words(&["tem/microscope", "instrument/name", "microscope/name"]),
        detector: words(&["eels/spectrometer", "spectrometer/name", "detector/description"]),
        beam_energy_kev: first(&entries, BEAM, Entry::beam_kev),
        convergence_angle_mrad: number(
            &["convergence_angle", "semi_convergence_angle", "convergence_semi_angle", "beam_convergence"],
            MRAD,
        ),
        collection_angle_mrad: number(
            &["collection_angle", "semi_collection_angle", "collection_semi_angle", "acceptance_angle"],
            MRAD,
        ),
        camera_length_mm: number(&["camera_length"], MM),
        aperture_mm: number(&["eels/aperture_size", "entrance_aperture"], MM),
        exposure_s: number(
            &["eels/dwell_time", "eels/exposure", "detector/count_time", "dwell_time", "exposure_time", "exposure"],
            S,
        ),
        frames: number(&["frame_number", "number_of_frames"], NONE),
        operator: words(&["general/authors", "user/name", "operator"]),
        specimen: words(&["sample/description", "sample/name", "sample/material", "specimen"]),
        date: words(&["general/date"]).or_else(|| dates::date(start.as_deref()?)),
        time: words(&["general/time"]).or_else(|| dates::time(start.as_deref()?)),
        gain_factor: number(&["variance_linear_model/gain_factor"], NONE),
        gain_offset: number(&["variance_linear_model/gain_offset"], NONE),
        intensity_units: None,
    }
}

const BEAM: &[&str] = &[
    "beam_energy",
    "accelerating_voltage",
    "acceleration_voltage",
    "high_tension",
    "electron_source/voltage",
    "electron_gun/voltage",
    "source/voltage",
    "microscope/voltage",
    "source/energy",
];

/// The `value` of the first entry that has one, sought by each of `names` in turn; a name is the end of a path.
fn first<T>(entries: &[Entry], names: &[&str], value: impl Fn(&Entry) -> Option<T>) -> Option<T> {
    let is_called = |entry: &&Entry, name: &str| {
        let rest = entry.path.strip_suffix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
    };
    names.iter().find_map(|name| {
        let mut of_name = entries.iter().filter(|entry| is_called(entry, name));
        of_name.find_map(&value)
    })
}

impl Entry {
    /// The number in the first of `units`, HyperSpy's; it is taken to be in that one if the file names none.
    fn number(&self, units: Units) -> Option<f64> {
        let Value::Number(number) = self.value else {
            return None;
        };
        if self.units.is_empty() || units.is_empty() {
            return Some(number);
        }
        let known = units.iter().find(|(name, _)| *name == self.units);
        known.map(|(_, factor)| number * factor)
    }

    fn beam_kev(&self) -> Option<f64> {
        let number = self.number(KEV)?;
        Some(if self.units.is_empty() && number > MOST_KEV { number / 1e3 } else { number })
    }

    fn text(&self) -> Option<String> {
        match &self.value {
            Value::Text(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        }
    }
}

/// Adds the single values at and below `group`, whose normalised path is `path`.
fn collect(group: &Group, path: &str, depth: usize, left: &mut usize, entries: &mut Vec<Entry>) {
    let below = |name: &str| match path {
        "" => normalised(name),
        path => format!("{path}/{}", normalised(name)),
    };
    for name in group.attr_names().unwrap_or_default() {
        let value = group.attr(&name).ok().and_then(|value| single(&value));
        if let Some(value) = value {
            let units = ["_units", " units", "_unit"].iter().find_map(|ending| text(group, &format!("{name}{ending}")));
            entries.push(Entry { path: below(&name), value, units: normalised_units(units) });
        }
    }
    let mut names = group.member_names().unwrap_or_default();
    names.sort();
    for name in names {
        if *left == 0 || depth == 0 {
            return;
        }
        *left -= 1;
        if let Ok(dataset) = group.dataset(&name) {
            if let Some(value) = single(&dataset) {
                let units = normalised_units(text(&dataset, "units"));
                entries.push(Entry { path: below(&name), value, units });
            }
        } else if let Ok(inner) = group.group(&name) {
            collect(&inner, &below(&name), depth - 1, left, entries);
        }
    }
}

/// The value of an attribute or a dataset that holds just one; none if that is neither number nor text.
fn single(container: &Container) -> Option<Value> {
    if container.size() != 1 {
        return None;
    }
    Some(match numbers(container) {
        Some(numbers) => Value::Number(numbers.first().copied().filter(|number| number.is_finite())?),
        None => Value::Text(strings(container)?.first()?.trim().to_string()),
    })
}

fn normalised(name: &str) -> String {
    name.to_lowercase().replace([' ', '-'], "_")
}

fn normalised_units(units: Option<String>) -> String {
    let units = units.unwrap_or_default().replace(['[', ']', '_'], "");
    match units.trim() {
        "degree" | "degrees" | "\u{b0}" => "deg".into(),
        "seconds" | "second" => "s".into(),
        "milliradian" | "milliradians" => "mrad".into(),
        units => units.replace(['\u{b5}', '\u{3bc}'], "u"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdf5::Location;
    use hdf5::types::VarLenUnicode;

    fn set(location: &Location, name: &str, text: &str) {
        let text: VarLenUnicode = text.parse().unwrap();
        let attribute = location.new_attr::<VarLenUnicode>().create(name).unwrap();
        attribute.write_scalar(&text).unwrap();
    }

    #[test]
    fn nexus_quantities_come_in_the_units_of_the_field() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("a.nxs")).unwrap();
        for (path, value, units) in [
            ("entry/em/ebeam_column/electron_source/voltage", 2e5, "V"),
            ("entry/em/optics/semi_convergence_angle", 0.03, "rad"),
            ("entry/em/optics/camera_length", 0.06, "m"),
            ("entry/em/detector/count_time", 50.0, "ms"),
            // Of another measurement.
            ("other/source/voltage", 3e5, "V"),
        ] {
            let (group, name) = path.rsplit_once('/').unwrap();
            let group = file.group(group).or_else(|_| file.create_group(group)).unwrap();
            let dataset = group.new_dataset::<f64>().create(name).unwrap();
            dataset.write_scalar(&value).unwrap();
            set(&dataset, "units", units);
        }
        let user = file.create_group("entry/user").unwrap();
        set(&user, "name", "Ada");
        set(&file.group("entry").unwrap(), "start_time", "2021-03-12T15:16:22+01:00");
        let found = of_hdf5(&file, "entry/data/counts");
        let expected = Microscope {
            beam_energy_kev: Some(200.0),
            convergence_angle_mrad: Some(30.0),
            camera_length_mm: Some(60.0),
            exposure_s: Some(0.05),
            operator: Some("Ada".into()),
            date: Some("2021-03-12".into()),
            time: Some("15:16:22".into()),
            ..Microscope::default()
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn emd_attributes_may_leave_out_their_units() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("a.emd")).unwrap();
        let group = file.create_group("microscope").unwrap();
        for (name, value) in [("voltage", 3e5), ("convergence angle", 25.0)] {
            let attribute = group.new_attr::<f64>().create(name).unwrap();
            attribute.write_scalar(&value).unwrap();
        }
        set(&group, "convergence angle units", "[m_rad]");
        let found = of_hdf5(&file, "signals/a/data");
        assert_eq!(found.beam_energy_kev, Some(300.0));
        assert_eq!(found.convergence_angle_mrad, Some(25.0));
    }
}
