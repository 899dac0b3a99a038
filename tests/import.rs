//! `coreloss import` on 1, 2 and 3 ranks: values equal to the bit in the stored type, copies that exist already, files
//! that must not be overwritten, bad files, and a job that is killed halfway. HyperSpy judges the copies.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coreloss::archive::{Number, Options, Reader};
use ndarray::Array3;
use serde_json::Value;

use crate::common::cube::{counts, write_hspy};
use crate::common::result::{maps, summary};
use crate::common::{Ended, Job, ask_python, coreloss, files, folder, measured_data, mpirun};

const LIMIT: Duration = Duration::from_secs(60);

fn reader(path: &Path) -> Reader {
    Reader::open(path, &Options::default()).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()))
}

fn values<T: Number>(path: &Path) -> Array3<T> {
    let reader = reader(path);
    let [rows, columns, channels] = reader.info().shape();
    assert_eq!(reader.info().dtype, T::DTYPE, "{}", path.display());
    let read = reader.read_stored(0..rows, 0..columns, 0..channels);
    read.unwrap_or_else(|error| panic!("{}: {error:#}", path.display()))
}

fn import(ranks: usize, inputs: &[&Path], output: &Path, more: &[&str]) -> Ended {
    let mut arguments = vec!["import", "--json", "-o"];
    let text = |path: &Path| path.to_str().expect("paths are text").to_string();
    let (output, inputs): (String, Vec<String>) = (text(output), inputs.iter().map(|path| text(path)).collect());
    arguments.push(&output);
    arguments.extend(inputs.iter().map(String::as_str));
    arguments.extend(more);
    mpirun(ranks, &arguments, LIMIT)
}

/// The lines of JSON on stdout, one per file.
fn lines(ended: &Ended) -> Vec<Value> {
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    ended.stdout.lines().map(line).collect()
}

/// A NeXus file of 16-bit integers with the energy first, contiguous unless `chunk` is given.
fn write_energy_first(path: &Path, [rows, columns, channels]: [usize; 3], chunk: Option<[usize; 3]>) -> Array3<u16> {
    let cube = Array3::from_shape_fn((rows, columns, channels), |(y, x, e)| {
        ((y * 7919 + x * 104_729 + e * 31) % 60_013) as u16
    });
    let file = hdf5::File::create(path).expect("a file can be made");
    let stored = cube.view().permuted_axes([2, 0, 1]);
    let group = file.create_group("entry").expect("groups");
    let stored = stored.as_standard_layout();
    let dataset = group.new_dataset_builder().with_data(&stored);
    let dataset = match chunk {
        Some(chunk) => dataset.chunk(chunk).deflate(1),
        None => dataset,
    };
    dataset.create("counts").expect("a dataset");
    let text = |place: &hdf5::Location, name: &str, value: &str| {
        let value: hdf5::types::VarLenUnicode = value.parse().expect("text");
        let attribute = place.new_attr::<hdf5::types::VarLenUnicode>();
        let attribute = attribute.create(name).expect("an attribute");
        attribute.write_scalar(&value).expect("an attribute");
    };
    text(&group, "NX_class", "NXdata");
    text(&group, "axes", "energy,y,x");
    let energies: Vec<f64> = (0..channels).map(|e| 0.45 + 0.0005 * e as f64).collect();
    let energy = group.new_dataset_builder().with_data(&energies);
    text(&energy.create("energy").expect("an axis"), "units", "keV");
    cube
}

#[test]
fn copies_hold_the_values_of_the_source_on_any_number_of_ranks() {
    let folder = folder("values");
    let sources = folder.join("archive");
    fs::create_dir_all(sources.join("monday")).expect("folders");
    let floats = counts([23, 9, 70], 1);
    let integers = floats.mapv(|value| value as u16);
    write_hspy(&sources.join("monday/si.hspy"), &integers);
    write_hspy(&sources.join("si.hspy"), &floats);
    write_hspy(&sources.join("line.hspy"), &counts([1, 40, 70], 2).mapv(|value| value as i32));
    let cube = write_energy_first(&sources.join("first.nxs"), [37, 300, 512], None);
    let mut checksums = Vec::new();
    for ranks in [1, 2, 3] {
        let output = folder.join(format!("out-{ranks}"));
        // Little memory: several lines are read at a time, and some ranks get no line of the small cubes.
        let ended = import(ranks, &[&sources], &output, &["--set", "io.memory_mib=64"]);
        let lines = lines(ended.succeeded());
        assert_eq!(lines.len(), 4, "{}", ended.dump());
        assert!(lines.iter().all(|line| line["status"] == "imported"));
        checksums.push(lines.iter().map(|line| line["checksum"].clone()).collect::<Vec<_>>());
        assert_eq!(values::<u16>(&output.join("monday/si.hspy")), integers);
        assert_eq!(values::<f32>(&output.join("si.hspy")), floats);
        assert_eq!(values::<u16>(&output.join("first.hspy")), cube);
        let copy = reader(&output.join("first.hspy"));
        let energy = &copy.info().energy;
        assert_eq!((&energy.units[..], energy.size), ("eV", 512));
        assert!((energy.offset - 450.0).abs() < 1e-9 && (energy.scale - 0.5).abs() < 1e-9);
        assert_eq!(files(&output, ".hspy").len(), 4);
        assert!(files(&output, ".partial").is_empty());

        // Complete copies are left as they are; a source that changed is copied again.
        let before = fs::metadata(output.join("si.hspy")).expect("a copy").modified().expect("time");
        let again = import(ranks, &[&sources], &output, &[]);
        assert!(self::lines(again.succeeded()).iter().all(|line| line["status"] == "skipped"));
        assert_eq!(fs::metadata(output.join("si.hspy")).expect("a copy").modified().expect("time"), before);
        write_hspy(&sources.join("monday/si.hspy"), &integers);
        let again = import(ranks, &[&sources], &output, &[]);
        let status: Vec<Value> = self::lines(again.succeeded()).iter().map(|line| line["status"].clone()).collect();
        assert_eq!(status, ["skipped", "skipped", "imported", "skipped"]);
    }
    assert!(checksums.iter().all(|sums| *sums == checksums[0]), "{checksums:?}");
    let paired = files(&folder.join("out-2"), ".hspy");
    let of_hspy = paired.iter().filter(|copy| !copy.ends_with("first.hspy"));
    let pairs: Vec<PathBuf> = of_hspy
        .flat_map(|copy| {
            let below = copy.strip_prefix(folder.join("out-2")).expect("below it");
            [sources.join(below), copy.clone()]
        })
        .collect();
    ask_python("tests/judges/import_judge.py", &pairs);
}

#[test]
fn copies_as_zarr_hold_the_same_values_and_axes() {
    let folder = folder("zarr");
    let sources = folder.join("archive");
    fs::create_dir_all(&sources).expect("folders");
    let floats = counts([23, 9, 70], 1);
    write_hspy(&sources.join("si.hspy"), &floats);
    let integers = write_energy_first(&sources.join("first.nxs"), [37, 30, 512], None);
    let mut checksums = Vec::new();
    for ranks in [1, 2, 3] {
        let output = folder.join(format!("out-{ranks}"));
        let zarr = ["--zspy", "--set", "io.memory_mib=64"];
        let ended = import(ranks, &[&sources], &output, &zarr);
        let lines = lines(ended.succeeded());
        assert!(lines.iter().all(|line| line["status"] == "imported"), "{}", ended.dump());
        checksums.push(lines.iter().map(|line| line["checksum"].clone()).collect::<Vec<_>>());
        assert_eq!(values::<f32>(&output.join("si.zspy")), floats);
        assert_eq!(values::<u16>(&output.join("first.zspy")), integers);
        let (copy, source) = (reader(&output.join("si.zspy")), reader(&sources.join("si.hspy")));
        let (copy, source) = (copy.info(), source.info());
        assert_eq!((&copy.y, &copy.x, &copy.energy), (&source.y, &source.x, &source.energy));
        // Nothing is left of what lay in between.
        assert_eq!(fs::read_dir(&output).expect("a folder").count(), 2);
        let again = import(ranks, &[&sources], &output, &zarr);
        assert!(self::lines(again.succeeded()).iter().all(|line| line["status"] == "skipped"));

        // And back: the folder of the copies is searched for them.
        let back = folder.join(format!("back-{ranks}"));
        let ended = import(ranks, &[&output], &back, &[]);
        let sums: Vec<Value> = self::lines(ended.succeeded()).iter().map(|line| line["checksum"].clone()).collect();
        assert_eq!(sums, *checksums.last().expect("one"));
    }
    assert!(checksums.iter().all(|sums| *sums == checksums[0]), "{checksums:?}");
    let pair = [folder.join("out-2/si.zspy"), folder.join("back-2/si.hspy")];
    // The first is read by HyperSpy, where it has Zarr.
    let has_zarr = ask_python("tests/judges/formats_judge.py", &["zarr".into(), PathBuf::new()]);
    if has_zarr.is_some_and(|said| said.contains("yes")) {
        ask_python("tests/judges/import_judge.py", &pair);
    }
}

/// As cameras write: each chunk covers all pixels at a few energies, so every spectrum needs every chunk.
#[test]
fn chunks_that_span_the_cube_are_decoded_once() {
    let folder = folder("planes");
    let source = folder.join("planes.nxs");
    let cube = write_energy_first(&source, [192, 256, 512], Some([8, 192, 256]));
    for ranks in [1, 2] {
        let output = folder.join(format!("out-{ranks}"));
        let ended = import(ranks, &[&source], &output, &["--set", "io.memory_mib=64"]);
        ended.succeeded().says("unpacking it");
        assert_eq!(values::<u16>(&output.join("planes.hspy")), cube);
        assert!(files(&output, ".partial").is_empty());
    }
}

#[test]
fn nothing_of_others_is_written_over_and_bad_files_are_set_aside() {
    let folder = folder("refused");
    let sources = folder.join("in");
    fs::create_dir_all(&sources).expect("a folder");
    write_hspy(&sources.join("a.hspy"), &counts([4, 4, 40], 1));
    write_hspy(&sources.join("c.hspy"), &counts([4, 4, 40], 2));
    fs::write(sources.join("b.hspy"), "not a cube").expect("a file");
    for ranks in [1, 3] {
        let output = folder.join(format!("out-{ranks}"));
        let ended = import(ranks, &[&sources], &output, &[]);
        let status: Vec<Value> =
            lines(ended.exits(3).without_panic()).iter().map(|line| line["status"].clone()).collect();
        assert_eq!(status, ["imported", "failed", "imported"]);
        // A bad file that was named is an error, after the others are copied.
        let named = import(
            ranks,
            &[&sources.join("b.hspy"), &sources.join("a.hspy")],
            &folder.join(format!("named-{ranks}")),
            &[],
        );
        named.exits(1).without_panic().says("is no HDF5 file");
        assert_eq!(files(&folder.join(format!("named-{ranks}")), "a.hspy").len(), 1);
        // Not onto itself, nor onto a file that was not imported, nor onto the copy of another cube.
        let a = sources.join("a.hspy");
        import(ranks, &[&a], &sources, &[]).exits(1).says("over itself");
        let other = folder.join("other");
        fs::create_dir_all(&other).expect("a folder");
        write_hspy(&other.join("a.hspy"), &counts([4, 4, 40], 3));
        import(ranks, &[&a], &other, &[]).exits(1).says("was not imported");
        import(ranks, &[&other.join("a.hspy")], &output, &[]).exits(1).says("is the copy of");
        import(ranks, &[Path::new("none.dm4")], &output, &[]).exits(2).says("no such file");
        assert_eq!(values::<f32>(&output.join("a.hspy")), counts([4, 4, 40], 1));
        assert!(files(&output, ".partial").is_empty());
    }
}

#[test]
fn an_import_that_is_killed_is_done_again() {
    let folder = folder("killed");
    let source = folder.join("large.nxs");
    let cube = write_energy_first(&source, [128, 256, 512], None);
    for ranks in [1, 2, 3] {
        let output = folder.join(format!("out-{ranks}"));
        let arguments = ["import", "-o", output.to_str().expect("text"), source.to_str().expect("text")];
        let mut command = coreloss(ranks, &arguments);
        command.args(["--set", "io.memory_mib=64"]);
        let mut job = Job::of(command);
        let partial = output.join("large.hspy.partial");
        job.until("a partial file has values", LIMIT, || {
            fs::metadata(&partial).is_ok_and(|about| about.len() > 1 << 20)
        });
        assert_ne!(job.kill().code(), 0);
        assert!(partial.exists() && !output.join("large.hspy").exists());
        let again = import(ranks, &[&source], &output, &[]);
        assert_eq!(lines(again.succeeded())[0]["status"], "imported");
        assert_eq!(values::<u16>(&output.join("large.hspy")), cube, "{ranks} ranks");
        assert!(!partial.exists());
    }
}

#[test]
fn measured_cubes_are_the_same_in_hyperspy_before_and_after() {
    let Some(data) = measured_data() else { return };
    let folder = folder("measured");
    let unpacked = folder.join("unpacked");
    fs::create_dir_all(&unpacked).expect("a folder");
    for packed in files(&data.join("formats"), ".tar.gz") {
        let status = std::process::Command::new("tar")
            .args(["--warning=none", "-xzf"])
            .arg(&packed)
            .current_dir(&unpacked)
            .status();
        assert!(status.expect("tar starts").success(), "{}", packed.display());
    }
    let neoarm = unpacked.join("neoarm-gatan_SI_dataZeroed.dm4");
    let sources = [
        data.join("real"),
        data.join("formats/EELS_SI.dm4"),
        data.join("formats/ti_l23_6x10.dm4"),
        unpacked.join("Titan_EELS_SI_dataZeroed.dm3"),
    ];
    let cubes = files(&sources[0], "").len() + sources.len() - 1;
    let output = folder.join("out");
    let inputs: Vec<&Path> = sources.iter().map(PathBuf::as_path).collect();
    let ended = import(2, &inputs, &output, &[]);
    let lines = self::lines(ended.succeeded());
    assert_eq!(lines.len(), cubes, "{}", ended.dump());
    let text = |line: &Value, name: &str| PathBuf::from(line[name].as_str().expect("text"));
    let pairs: Vec<PathBuf> = lines.iter().flat_map(|line| [text(line, "path"), text(line, "output")]).collect();
    ask_python("tests/judges/import_judge.py", &pairs);
    let of_nanocubes = lines.iter().filter(|line| line["id"].as_str().is_some_and(|id| id.contains("nanocubes")));
    let checksums: Vec<&Value> = of_nanocubes.map(|line| &line["checksum"]).collect();
    assert!(checksums.len() == 2 && checksums[0] == checksums[1], "{checksums:?}");

    // X-ray data is not EELS. With `archive.image` it is imported all the same, and the pictures beside it.
    import(1, &[&neoarm], &output, &[]).exits(1).says("not EELS");
    let insisted = import(2, &[&neoarm], &output, &["--set", "archive.image=3"]);
    let line = &self::lines(insisted.succeeded())[0];
    assert_eq!(line["shape"], serde_json::json!([52, 106, 2048]));
    let pictures = text(line, "pictures");
    let file = hdf5::File::open(&pictures).expect("the survey opens");
    let names = file.group("Experiments").and_then(|group| group.member_names()).expect("signals");
    assert_eq!(names, ["00 ADF Image (SI Survey)", "01 JEOL ADF1 Image", "02 ADF Image"]);
    ask_python("tests/judges/hyperspy_judge.py", &[&pictures, &text(line, "output")]);
}

#[test]
fn the_nanocubes_give_equal_results_in_every_format() {
    let Some(data) = measured_data() else { return };
    let folder = folder("equal");
    let dm3 = data.join("real/fe_oxide_nanocubes.dm3");
    import(2, &[&dm3], &folder, &[]).succeeded();
    let sources = [dm3, data.join("real/fe_oxide_nanocubes.hspy"), folder.join("fe_oxide_nanocubes.hspy")];
    fs::write(folder.join("run.yaml"), "train: {steps: 2}\npca: {components: [3]}\n").expect("a file");
    let mut found = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        let output = folder.join(format!("out-{i}"));
        let sets = [
            format!("archive.inputs=[{}]", source.display()),
            format!("output={}", output.display()),
            "archive.energy_range_ev=[600, 780]".into(),
        ];
        let config = folder.join("run.yaml");
        let mut arguments = vec!["run", config.to_str().expect("text")];
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        mpirun(2, &arguments, LIMIT).succeeded();
        let mut cubes = summary(&output)["cubes"].clone();
        cubes[0]["name"] = "any".into();
        found.push((maps(&output), cubes));
    }
    // Gatan's calibrations are single-precision numbers; HyperSpy stores the same values as doubles.
    assert!(found[0] == found[1], "DM3 and HyperSpy's copy");
    assert!(found[0] == found[2], "DM3 and our copy");
}
