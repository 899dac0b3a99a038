//! Chooses the image of a Gatan file that is the cube.

use anyhow::{Result, anyhow, bail, ensure};

use super::image::{Image, Values};
use crate::archive::layout::Layout;
use crate::archive::number_type::NumberType;
use crate::invalid::Invalid;

/// The image that is the cube.
pub(crate) struct Chosen {
    pub index: usize,
    pub number: NumberType,
    pub layout: Layout,
}

/// The core-loss spectrum image among `images`, or image `wanted`.
///
/// Of several EELS images only those with the most dimensions count, and of these the one without the zero-loss peak.
///
/// # Errors
/// No image at all; several core-loss ones (lists them); an image that is damaged or (as [`Invalid`]) not of real numbers.
/// An image that is no EELS is no error: its layout holds the reason.
pub(crate) fn choose(images: &[Image], wanted: Option<usize>, format: &'static str) -> Result<Chosen> {
    ensure!(!images.is_empty(), "a Gatan file without an image");
    if let Some(index) = wanted {
        let image = images.get(index).ok_or_else(|| {
            anyhow!("no image {index} in it; archive.image can be one of: {}", listed(images, 0..images.len()))
        })?;
        let mut chosen = take(index, image, format)?;
        let layout = &mut chosen.layout;
        if let Err(reason) = &layout.energy {
            layout.problems.push(format!("{reason}; read as EELS because archive.image names it"));
            layout.energy = Ok(image.likely_energy());
        }
        navigate(layout);
        return Ok(chosen);
    }
    let energies: Vec<Result<usize, String>> = images.iter().map(Image::energy).collect();
    let mut eels: Vec<usize> = (0..images.len()).filter(|&index| energies[index].is_ok()).collect();
    let most = eels.iter().map(|&index| images[index].axes.len()).max();
    eels.retain(|&index| Some(images[index].axes.len()) == most);
    let is_core = |index: &usize| energies[*index].as_ref().is_ok_and(|&dim| !images[*index].has_zero_loss(dim));
    let core: Vec<usize> = eels.iter().copied().filter(is_core).collect();
    // Both ranges of a dual acquisition may begin below 0: then the tags tell them apart.
    let untagged: Vec<usize> = eels.iter().copied().filter(|&index| !images[index].is_low_loss).collect();
    match (&core[..], &untagged[..], &eels[..]) {
        (&[index], ..) | (_, &[index], _) | (.., &[index]) => {
            let mut chosen = take(index, &images[index], format)?;
            navigate(&mut chosen.layout);
            Ok(chosen)
        }
        (.., []) => {
            // For `inspect`: the largest image of real numbers, else the refusal of the first.
            let is_real = |&index: &usize| matches!(images[index].values, Values::Real(_));
            let index = (0..images.len())
                .filter(is_real)
                .max_by_key(|&index| images[index].shape().iter().product::<usize>())
                .unwrap_or(0);
            let mut chosen = take(index, &images[index], format)?;
            if images.len() > 1 {
                let reasons: Vec<String> = (energies.into_iter().enumerate())
                    .filter_map(|(index, energy)| Some(format!("image {index}: {}", energy.err()?)))
                    .collect();
                chosen.layout.energy = Err(format!("{}; archive.image can insist on one", reasons.join("; ")));
            }
            Ok(chosen)
        }
        _ => {
            let several = if core.is_empty() { eels } else { core };
            bail!("several EELS spectrum images; choose one by archive.image: {}", listed(images, several))
        }
    }
}

/// Whether `image` is a spectrum image of `pixels` `[y, x]` with the zero-loss peak in its range.
pub(crate) fn is_low_loss(image: &Image, pixels: [usize; 2]) -> bool {
    let Ok(energy) = image.energy() else {
        return false;
    };
    let navigation = (0..image.axes.len()).filter(|&dim| dim != energy);
    let count: usize = navigation.map(|dim| image.axes[dim].size).product();
    let [first, last] = image.axes[energy].span();
    first.min(last) <= 0.0 && first.max(last) >= 0.0 && count == pixels[0] * pixels[1]
}

/// Image `index` with its layout.
fn take(index: usize, image: &Image, format: &'static str) -> Result<Chosen> {
    let name = format!("image {index} ({})", image.title);
    match &image.values {
        Values::Real(number) => Ok(Chosen {
            index,
            number: *number,
            layout: Layout {
                format,
                dataset: name,
                axes: image.axes.clone(),
                x_before_y: false,
                energy: image.energy(),
                problems: Vec::new(),
                microscope: image.microscope.clone(),
            },
        }),
        Values::Other(what) => Err(anyhow!(Invalid(format!(
            "{name} holds {what}; save the one real quantity that is a spectrum image, such as its modulus"
        )))),
        Values::Broken(what) => bail!("{name} is damaged: {what}"),
    }
}

/// Flags the navigation axes and names them y and x.
fn navigate(layout: &mut Layout) {
    let Ok(energy) = layout.energy else { return };
    let navigation = (0..layout.axes.len()).rev().filter(|&dim| dim != energy);
    for (dim, name) in navigation.zip(["x", "y"]) {
        layout.axes[dim].name = name.into();
        layout.axes[dim].navigate = true;
    }
}

fn listed(images: &[Image], indices: impl IntoIterator<Item = usize>) -> String {
    let lines: Vec<String> =
        indices.into_iter().map(|index| format!("{index} ({})", images[index].describe())).collect();
    lines.join(", ")
}
