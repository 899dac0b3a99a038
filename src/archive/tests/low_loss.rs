//! The low-loss cube of a core-loss one: where it is searched for, and in which order.

use super::dm_file::{Form, Spec, document, energy_first};
use super::*;
use crate::archive::low_loss;

const FORM: Form = Form { version: 4, little: true };

fn write(folder: &Folder, name: &str, images: Vec<Spec>) -> PathBuf {
    let path = folder.path(name);
    std::fs::write(&path, FORM.file(&document(images))).unwrap();
    path
}

fn cube(title: &'static str, pixels: [u32; 2], first: f32) -> Spec {
    energy_first(FORM, title, [6, pixels[0], pixels[1]], first)
}

/// The title of the low-loss cube found for the cube at `path`.
fn found(path: &Path, pattern: Option<&str>) -> Option<String> {
    let found = low_loss(&open(path), &Options::default(), pattern).unwrap();
    found.map(|reader| reader.microscope().title.clone().unwrap_or_default())
}

#[test]
fn the_companion_goes_before_the_image_and_the_image_before_the_cube() {
    let folder = Folder::new();
    let core = || cube("core", [3, 2], 450.0);
    let path = write(&folder, "x.dm4", vec![core()]);
    assert_eq!(found(&path, None), None);
    let path = write(&folder, "x.dm4", vec![cube("itself", [3, 2], -1.0)]);
    assert_eq!(found(&path, None).as_deref(), Some("itself"));
    // Of the images, the one of as many pixels; of two such, none.
    let other = || cube("elsewhere", [5, 2], -1.0);
    let low = || cube("image", [3, 2], -1.0);
    let path = write(&folder, "x.dm4", vec![other(), low(), core()]);
    assert_eq!(found(&path, None).as_deref(), Some("image"));
    let path = write(&folder, "x.dm4", vec![low(), low(), core()]);
    assert_eq!(found(&path, None), None);
    // Both ranges of a dual acquisition may begin below 0: then the tags tell them apart.
    let path = write(&folder, "x.dm4", vec![cube("dual low loss", [3, 2], -2.0), cube("core", [3, 2], -1.0)]);
    assert_eq!(open(&path).microscope().title.as_deref(), Some("core"));
    assert_eq!(found(&path, None).as_deref(), Some("dual low loss"));
    let path = write(&folder, "x.dm4", vec![low(), core()]);
    write(&folder, "x.lowloss.dm4", vec![cube("beside", [3, 2], -1.0)]);
    assert_eq!(found(&path, None).as_deref(), Some("beside"));
    write(&folder, "LL_x_1.dm4", vec![cube("named", [3, 2], -1.0)]);
    assert_eq!(found(&path, Some("LL_{}_1.dm4")).as_deref(), Some("named"));
}

#[test]
fn one_that_does_not_fit_is_refused_by_name() {
    let folder = Folder::new();
    let path = write(&folder, "x.dm4", vec![cube("core", [3, 2], 450.0)]);
    let refusal = |pattern| {
        let error = low_loss(&open(&path), &Options::default(), pattern).err();
        format!("{:#}", error.unwrap())
    };
    assert!(refusal(Some("{}.nothing")).contains("x.nothing, which is no file"));
    write(&folder, "x.lowloss.dm4", vec![cube("low", [2, 3], -1.0)]);
    let message = refusal(None);
    assert!(message.contains("x.lowloss.dm4") && message.contains("[2, 3]"), "{message}");
    write(&folder, "x.lowloss.dm4", vec![cube("low", [3, 2], 20.0)]);
    assert!(refusal(None).contains("hold no zero-loss peak"));
}

#[test]
fn a_mask_lies_beside_a_file_of_any_format() {
    let folder = Folder::new();
    let path = write(&folder, "x.dm3", vec![cube("core", [3, 2], 450.0)]);
    let (_, file) = folder.file("x.mask.hspy");
    let mut mask = ArrayD::<u8>::zeros(IxDyn(&[3, 2]));
    mask[[1, 1]] = 1;
    experiment(&file, "mask", &mask, &[], "");
    file.close().unwrap();
    let ignored = user_mask(&path, [3, 2]).unwrap().expect("a mask");
    assert_eq!(ignored.iter().filter(|&&flag| flag).count(), 1);
    assert!(ignored[[1, 1]]);
}
