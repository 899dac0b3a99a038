//! The images in a Gatan file: shape, calibration, number type, energy dimension, and what the tags say of the instrument.

use super::codes;
use super::tags::{Array, Tag, Tree};
use crate::archive::dates;
use crate::archive::layout::in_ev;
use crate::archive::microscope::Microscope;
use crate::archive::number_type::NumberType;
use crate::cube::Axis;

/// One image.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub title: String,
    /// One per dimension, the slowest on disk first: the energy, in most spectrum images.
    pub axes: Vec<Axis>,
    pub values: Values,
    /// Bytes from the file's start to the first value; see [`Array`].
    pub offset: Option<u64>,
    /// Its name in the list of images, which only DM5 gives.
    pub member: String,
    /// `ImageTags:Meta Data:Format`: `Spectrum image`, `Spectrum`, `Image`, ...
    format: Option<String>,
    /// `ImageTags:Meta Data:Signal`: `EELS`, `X-ray`, `CL`, ...
    signal: Option<String>,
    pub is_low_loss: bool,
    pub microscope: Microscope,
}

/// The values of an image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    Real(NumberType),
    /// No counts: complex numbers or colours.
    Other(&'static str),
    /// The file contradicts itself.
    Broken(String),
}

/// The images of `tree` without thumbnails, in stored order, which is also that of HyperSpy's list.
pub(crate) fn images(tree: &Tree) -> Vec<Image> {
    let thumbnails: Vec<f64> =
        tree.root.list("Thumbnails").iter().filter_map(|(_, thumbnail)| thumbnail.number("ImageIndex")).collect();
    let all = tree.root.list("ImageList");
    let is_thumbnail = |index: usize| all.len() > 1 && thumbnails.contains(&(index as f64));
    (all.iter().enumerate())
        .filter(|&(index, _)| !is_thumbnail(index))
        .filter_map(|(_, (name, tags))| image(name, tags))
        .collect()
}

/// The image in `tags`, called `member` in its list; none if it has no data.
fn image(member: &str, tags: &Tag) -> Option<Image> {
    let Some(Tag::Array(data)) = tags.get("ImageData:Data") else {
        return None;
    };
    // The fastest dimension first.
    let sizes: Vec<f64> = tags
        .list("ImageData:Dimensions")
        .iter()
        .filter_map(|(_, size)| match size {
            Tag::Number(size) => Some(*size),
            _ => None,
        })
        .collect();
    let calibrations = tags.list("ImageData:Calibrations:Dimension");
    let mut axes: Vec<Axis> = (sizes.iter().enumerate())
        .map(|(dim, &size)| axis(calibrations.get(dim).map(|(_, tags)| tags), size as usize))
        .rev()
        .collect();
    while axes.len() > 3 {
        let Some(dim) = axes.iter().position(|axis| axis.size == 1) else {
            break;
        };
        axes.remove(dim);
    }
    let of = |path: &str| tags.text(path).map(str::to_string);
    Some(Image {
        title: of("Name").unwrap_or_default(),
        values: values(tags, data, &sizes),
        offset: data.offset,
        member: member.to_string(),
        format: of("ImageTags:Meta Data:Format"),
        signal: of("ImageTags:Meta Data:Signal"),
        is_low_loss: tags.number("ImageTags:EELS:Acquisition:Is dual acquire low-loss") == Some(1.0),
        microscope: microscope(tags),
        axes,
    })
}

/// One axis. Gatan's origin is the channel of value 0: the offset is `-origin * scale`.
fn axis(calibration: Option<&Tag>, size: usize) -> Axis {
    let Some(tags) = calibration else {
        return Axis::of_indices("", size, false);
    };
    let scale = tags.number("Scale").unwrap_or(1.0);
    let origin = tags.number("Origin").unwrap_or(0.0);
    Axis {
        units: tags.text("Units").unwrap_or_default().to_string(),
        scale,
        // The sum turns -0 into 0.
        offset: -origin * scale + 0.0,
        ..Axis::of_indices("", size, false)
    }
}

fn values(tags: &Tag, data: &Array, sizes: &[f64]) -> Values {
    let broken = |what: String| Values::Broken(format!("{what}; copy or export it again"));
    let Some(data_type) = tags.number("ImageData:DataType") else {
        return broken("its ImageData:DataType is missing".into());
    };
    let number = match (codes::of_image(data_type), data.element) {
        (Some(number), _) => number,
        (None, _) if matches!(data_type as i64, 3 | 5 | 13 | 27 | 28) => return Values::Other("complex values"),
        (None, _) if matches!(data_type as i64, 8 | 15..=26) => return Values::Other("RGB colours"),
        _ => return broken(format!("its ImageData:DataType is {data_type}, which is not known")),
    };
    let count = sizes.iter().try_fold(1u64, |count, &size| {
        let whole = size >= 1.0 && size.fract() == 0.0 && size < 1e15;
        whole.then(|| count.checked_mul(size as u64))?
    });
    let bytes = count.and_then(|count| count.checked_mul(number.size() as u64));
    if sizes.is_empty() || bytes != Some(data.bytes) {
        return broken(format!(
            "its ImageData:Dimensions {sizes:?} of {} ({} bytes each) do not make up the {} bytes of ImageData:Data",
            number.dtype(),
            number.size(),
            data.bytes
        ));
    }
    Values::Real(number)
}

fn microscope(tags: &Tag) -> Microscope {
    let of = |path: &str| tags.number(&format!("ImageTags:{path}"));
    let text = |path: &str| tags.text(path).map(str::to_string);
    // The tags of a spectrum image, of a spectrum, and of a picture by a camera or detector.
    let moment = |[image, spectrum, picture]: [&str; 3]| {
        [format!("SI:Acquisition:{image}"), format!("EELS:Acquisition:{spectrum}"), format!("DataBar:{picture}")]
            .iter()
            .find_map(|path| text(&format!("ImageTags:{path}")))
    };
    let brightness = |name: &str| tags.number(&format!("ImageData:Calibrations:Brightness:{name}"));
    Microscope {
        title: text("Name"),
        instrument: text("ImageTags:Session Info:Microscope").or_else(|| text("ImageTags:Microscope Info:Name")),
        detector: text("ImageTags:EELS Spectrometer:Instrument name")
            .or_else(|| text("ImageTags:Acquisition:Device:Name")),
        beam_energy_kev: of("Microscope Info:Voltage").map(|volts| volts / 1e3),
        convergence_angle_mrad: of("EELS:Experimental Conditions:Convergence semi-angle (mrad)")
            .or_else(|| of("EELS:Convergence semi-angle (mrad)")),
        collection_angle_mrad: of("EELS:Experimental Conditions:Collection semi-angle (mrad)")
            .or_else(|| of("EELS:Collection semi-angle (mrad)")),
        exposure_s: of("EELS:Acquisition:Exposure (s)")
            .map(|seconds| seconds * of("EELS:Acquisition:Number of frames").unwrap_or(1.0)),
        camera_length_mm: of("Microscope Info:STEM Camera Length"),
        aperture_mm: (tags.text("ImageTags:EELS Spectrometer:Aperture label"))
            .and_then(|label| label.trim_end_matches("mm").trim().parse().ok()),
        frames: of("EELS:Acquisition:Number of frames"),
        operator: text("ImageTags:Session Info:Operator"),
        specimen: text("ImageTags:Session Info:Specimen"),
        date: moment(["Date", "Date", "Acquisition Date"]).and_then(|text| dates::date(&text)),
        time: moment(["Start time", "Start time", "Acquisition Time"]).and_then(|text| dates::time(&text)),
        gain_factor: brightness("Scale"),
        gain_offset: brightness("Origin"),
        intensity_units: text("ImageData:Calibrations:Brightness:Units"),
    }
}

impl Image {
    /// Sizes, the slowest dimension on disk first.
    pub fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.size).collect()
    }

    /// Title, stored shape and type, for users to choose by.
    pub fn describe(&self) -> String {
        let dtype = match &self.values {
            Values::Real(number) => number.dtype(),
            Values::Other(what) => what,
            Values::Broken(_) => "damaged",
        };
        format!("{:?} {:?} {dtype}", self.title, self.shape())
    }

    /// The dimension of the energy loss, or the reason why this is no EELS spectrum image.
    pub fn energy(&self) -> Result<usize, String> {
        let is_eels = self.signal.as_deref() == Some("EELS");
        match (&self.signal, &self.format) {
            (Some(signal), _) if !is_eels => return Err(format!("its Meta Data:Signal is {signal}, not EELS")),
            // A camera image of a spectrum has an energy axis too, but its other axis is no navigation.
            (_, Some(format)) if format == "Image" => return Err("its Meta Data:Format is Image: no spectra".into()),
            _ => (),
        }
        match self.axes_in_ev()[..] {
            [dim] => Ok(dim),
            [] if is_eels && !self.axes.is_empty() => Ok(self.usual_energy()),
            [] => Err("no axis of it is in eV, and no Meta Data:Signal says EELS".into()),
            _ => Err("several of its axes are in eV".into()),
        }
    }

    /// The likely energy dimension of an image that the user named; it must have a dimension.
    pub fn likely_energy(&self) -> usize {
        match self.axes_in_ev()[..] {
            [dim] => dim,
            _ => self.usual_energy(),
        }
    }

    fn axes_in_ev(&self) -> Vec<usize> {
        (0..self.axes.len()).filter(|&dim| in_ev(&self.axes[dim].units).is_some()).collect()
    }

    /// DigitalMicrograph stores cubes with the energy slowest, lines and spectra with the energy fastest.
    fn usual_energy(&self) -> usize {
        if self.axes.len() == 3 { 0 } else { self.axes.len() - 1 }
    }

    /// Whether energy axis `dim` covers the zero-loss peak, or the tags call the image low-loss.
    pub fn has_zero_loss(&self, dim: usize) -> bool {
        let axis = &self.axes[dim];
        let ends = [axis.value(0), axis.value(axis.size.saturating_sub(1))];
        self.is_low_loss || (ends[0].min(ends[1]) <= 0.0 && ends[0].max(ends[1]) >= 0.0)
    }
}
