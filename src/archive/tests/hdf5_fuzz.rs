//! HDF5 files whose calibrations are anything: the library itself reads no broken file, so what it hands on is mutated.

use super::*;
use crate::archive::swift;
use crate::cube::Axis;
use crate::fuzz::fuzz;

const PROPERTIES: &str = r#"{"uuid": "0", "metadata": {"hardware_source": {"channel": 1}},
    "dimensional_calibrations": [{"offset": -1.0, "scale": 0.5, "units": "nm"}, {"offset": -2.0, "scale": 0.5, "units": "nm"},
    {"offset": 450.0, "scale": 0.25, "units": "eV"}]}"#;

#[test]
fn fuzz_properties_of_swift() {
    let tokens = ["\"dimensional_calibrations\"", "\"spatial_calibrations\"", "{", "[", "]", "1e999", "null", "-0"];
    fuzz(vec![PROPERTIES.into()], &tokens, |bytes| {
        let axes = swift::of_properties(&String::from_utf8_lossy(bytes), &[3, 4, 5]);
        let axes = axes.ok_or_else(|| anyhow::anyhow!("not Swift's"))?;
        assert_eq!(axes.iter().map(|axis| axis.size).collect::<Vec<_>>(), [3, 4, 5]);
        Ok(())
    });
}

/// Numbers of eight bytes.
fn numbers(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(8).map(|number| f64::from_le_bytes(number.try_into().unwrap())).collect()
}

fn bytes(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A file that is only in memory.
fn in_memory() -> File {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    File::with_options().with_fapl(|fapl| fapl.core_filebacked(false)).create(format!("fuzz-{count}.h5")).unwrap()
}

/// The axes that the reader takes from `file`, if it takes it for a cube. They are of its shape, and can be counted along.
fn axes(file: &File) -> anyhow::Result<Vec<Axis>> {
    let found = crate::archive::reader::find(file, Path::new("fuzz"), &Options::default())?;
    let energy = found.energy.map_err(|reason| anyhow::anyhow!(reason))?;
    let axis = &found.axes[energy];
    assert!(axis.scale > 0.0 && axis.scale.is_finite() && axis.offset.is_finite(), "{axis:?}");
    Ok(found.axes)
}

#[test]
fn fuzz_axes_of_hdf5() {
    let scale = bytes(&[450.0, 450.25, 450.5, 450.75, 451.0]);
    let edges = bytes(&[449.0, 450.0, 451.0, 452.0, 453.0, 454.0]);
    fuzz(vec![scale, edges, bytes(&[450.0, 0.25])], &["eV"], |mutant| {
        let file = in_memory();
        let group = file.create_group("data").unwrap();
        group.new_dataset_builder().with_data(values().view()).create("counts").unwrap();
        let energy = numbers(mutant);
        group.new_dataset_builder().with_data(&energy).create("energy")?;
        text(&group, "NX_class", "NXdata");
        text(&group, "signal", "counts");
        let names: Vec<VarLenUnicode> = [".", ".", "energy"].iter().map(|name| name.parse().unwrap()).collect();
        group.new_attr::<VarLenUnicode>().shape(3).create("axes").unwrap().write_raw(&names).unwrap();
        axes(&file).map(|_| ())
    });
}

#[test]
fn fuzz_tags_of_gatans_hdf5() {
    // Type, sizes, then scale and origin of each axis.
    let seed = bytes(&[2.0, 4.0, 3.0, 5.0, 0.5, 0.0, 0.5, 0.0, 0.25, -1800.0]);
    fuzz(vec![seed], &[], |mutant| {
        let file = in_memory();
        let mut numbers = numbers(mutant).into_iter();
        let image = file.create_group("ImageList/[0]").unwrap();
        let about = image.create_group("ImageData").unwrap();
        attribute(&about, "DataType", numbers.next().unwrap_or(f64::NAN));
        let data = values().permuted_axes([2, 0, 1]).as_standard_layout().into_owned();
        about.new_dataset_builder().with_data(data.view()).create("Data").unwrap();
        let sizes = about.create_group("Dimensions").unwrap();
        for (dim, size) in numbers.by_ref().take(3).enumerate() {
            attribute(&sizes, &format!("[{dim}]"), size);
        }
        for dim in 0..3 {
            let axis = about.create_group(&format!("Calibrations/Dimension/[{dim}]")).unwrap();
            text(&axis, "Units", if dim == 2 { "eV" } else { "nm" });
            for name in ["Scale", "Origin"] {
                if let Some(number) = numbers.next() {
                    attribute(&axis, name, number);
                }
            }
        }
        axes(&file).map(|_| ())
    });
}
