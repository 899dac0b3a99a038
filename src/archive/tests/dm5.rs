//! Gatan's HDF5 files made up: what the reference files do not show.

use super::*;

fn member(parent: &Group, name: &str) -> Group {
    parent.group(name).or_else(|_| parent.create_group(name)).unwrap()
}

/// An image in the list of `file`, its axes `(units, scale, origin)` from the fastest one.
fn image(file: &File, i: usize, data: &ArrayD<f32>, signal: &str, axes: &[(&str, f32, f32)]) {
    let image = file.create_group(&format!("ImageList/[{i}]")).unwrap();
    text(&image, "Name", &format!("image {i}"));
    let about = member(&image, "ImageData");
    attribute(&about, "DataType", 2i64);
    about.new_dataset_builder().with_data(data).create("Data").unwrap();
    let sizes = member(&about, "Dimensions");
    for (dim, &size) in data.shape().iter().rev().enumerate() {
        attribute(&sizes, &format!("[{dim}]"), size as u32);
    }
    for (dim, (units, scale, origin)) in axes.iter().enumerate() {
        let axis = about.create_group(&format!("Calibrations/Dimension/[{dim}]")).unwrap();
        text(&axis, "Units", units);
        attribute(&axis, "Scale", *scale);
        attribute(&axis, "Origin", *origin);
    }
    let tags = image.create_group("ImageTags/Meta Data").unwrap();
    text(&tags, "Signal", signal);
    let scope = image.create_group("ImageTags/Microscope Info").unwrap();
    attribute(&scope, "Voltage", 2e5f64);
}

fn stored() -> ArrayD<f32> {
    values().permuted_axes([2, 0, 1]).as_standard_layout().into_owned().into_dyn()
}

const AXES: [(&str, f32, f32); 3] = [("nm", 0.5, 0.0), ("nm", 2.0, 1.0), ("eV", 0.25, -1800.0)];

#[test]
fn the_core_loss_image_is_found_among_others() {
    let folder = Folder::new();
    let (path, file) = folder.file("a.dm5");
    let picture = ArrayD::from_shape_fn(IxDyn(&[3, 4]), |index| (index[0] * 4 + index[1]) as f32);
    image(&file, 0, &picture, "", &AXES[..2]);
    image(&file, 1, &(stored() * 2.0), "EELS", &[AXES[0], AXES[1], ("eV", 0.25, 2.0)]);
    image(&file, 2, &stored(), "EELS", &AXES);
    // Links that lead in circles.
    file.link_hard("/", "ImageList/[0]/ImageTags/root").unwrap();
    file.close().unwrap();
    let reader = open(&path);
    assert_eq!(read_all(&reader), values());
    let info = reader.info();
    assert_eq!((info.energy.offset, info.energy.scale, info.y.scale, info.y.offset), (450.0, 0.25, 2.0, -2.0));
    assert_eq!(reader.microscope().beam_energy_kev, Some(200.0));
    assert!(matches!(reader.metadata().unwrap(), crate::archive::Metadata::Group(tags) if !tags.is_empty()));
    let low = crate::archive::low_loss(&reader, &Options::default(), None).unwrap().unwrap();
    assert_eq!(read_all(&low), values() * 2.0);
    let (pictures, _) = reader.pictures(&Options::default()).unwrap();
    assert_eq!(pictures.len(), 1);
    assert_eq!(pictures[0].read::<f32>().unwrap(), picture);
    assert_eq!(inspect(&path, &Options::default()).unwrap().images.len(), 3);
}

#[test]
fn lists_are_in_the_order_of_their_numbers() {
    let folder = Folder::new();
    let (path, file) = folder.file("a.dm5");
    for i in 0..12 {
        image(&file, i, &(stored() + i as f32), "EELS", &AXES);
    }
    file.close().unwrap();
    assert!(refusal(&path).contains("choose one by archive.image: 0 (\"image 0\""));
    for i in [2, 10] {
        let reader = Reader::open(&path, &Options { image: Some(i), ..Options::default() }).unwrap();
        assert_eq!(read_all(&reader), values() + i as f32);
    }
}

#[test]
fn tags_that_contradict_the_data_are_refused() {
    let folder = Folder::new();
    let (path, file) = folder.file("a.dm5");
    image(&file, 0, &stored(), "EELS", &AXES);
    let sizes = file.group("ImageList/[0]/ImageData/Dimensions").unwrap();
    for (name, size) in [("[0]", 3u32), ("[1]", 4)] {
        sizes.delete_attr(name).unwrap();
        attribute(&sizes, name, size);
    }
    drop(sizes);
    file.close().unwrap();
    let refused = refusal(&path);
    assert!(refused.contains("its data have shape [5, 3, 4], its tags tell [5, 4, 3]"), "{refused}");
}
