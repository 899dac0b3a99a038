//! A Gatan file of any size that takes no space on the disk: a hole stands for its values.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A tag. The values must come last in the file, so that they can be a hole.
enum Tag {
    Group(Vec<(&'static str, Tag)>),
    U32(u32),
    F32(f32),
    Text(&'static str),
    /// This many unsigned 16-bit numbers.
    Hole(u64),
}

/// The bytes of a tag, and the size of the hole that follows them.
fn content(tag: &Tag) -> (Vec<u8>, u64) {
    let entry = |encoding: &[u64], data: &[u8]| {
        let mut bytes = b"%%%%".to_vec();
        bytes.extend((encoding.len() as u64).to_be_bytes());
        bytes.extend(encoding.iter().flat_map(|word| word.to_be_bytes()));
        bytes.extend(data);
        bytes
    };
    match tag {
        Tag::Group(members) => {
            let mut bytes = vec![1, 0];
            bytes.extend((members.len() as u64).to_be_bytes());
            let mut hole = 0;
            for (name, member) in members {
                let (inner, beyond) = content(member);
                bytes.push(20 + u8::from(!matches!(member, Tag::Group(_))));
                bytes.extend((name.len() as u16).to_be_bytes());
                bytes.extend(name.as_bytes());
                bytes.extend((inner.len() as u64 + beyond).to_be_bytes());
                bytes.extend(inner);
                hole += beyond;
            }
            (bytes, hole)
        }
        Tag::U32(value) => (entry(&[5], &value.to_le_bytes()), 0),
        Tag::F32(value) => (entry(&[6], &value.to_le_bytes()), 0),
        Tag::Text(text) => {
            let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            (entry(&[20, 4, bytes.len() as u64 / 2], &bytes), 0)
        }
        Tag::Hole(count) => (entry(&[20, 4, *count], &[]), 2 * count),
    }
}

/// Writes a spectrum image of zeros with a few `values` at `[y, x, energy]`. The file has the energy first, as
/// DigitalMicrograph does.
pub fn write_sparse(path: &Path, shape: [usize; 3], values: &[([usize; 3], u16)]) {
    let [rows, columns, channels] = shape;
    let axis = |origin: f32, scale: f32, units| {
        let tags = vec![("Origin", Tag::F32(origin)), ("Scale", Tag::F32(scale)), ("Units", Tag::Text(units))];
        ("", Tag::Group(tags))
    };
    let axes = vec![axis(0.0, 0.5, "nm"), axis(0.0, 0.5, "nm"), axis(-800.0, 0.5, "eV")];
    let sizes = [columns, rows, channels].map(|size| ("", Tag::U32(size as u32)));
    let meta = vec![("Format", Tag::Text("Spectrum image")), ("Signal", Tag::Text("EELS"))];
    let data = vec![
        ("Calibrations", Tag::Group(vec![("Dimension", Tag::Group(axes))])),
        ("DataType", Tag::U32(10)),
        ("Dimensions", Tag::Group(sizes.into())),
        ("Data", Tag::Hole((rows * columns * channels) as u64)),
    ];
    let image = vec![
        ("ImageTags", Tag::Group(vec![("Meta Data", Tag::Group(meta))])),
        ("Name", Tag::Text("EELS Spectrum Image")),
        ("ImageData", Tag::Group(data)),
    ];
    let list = vec![("", Tag::Group(image))];
    let (body, hole) = content(&Tag::Group(vec![("ImageList", Tag::Group(list))]));
    let mut bytes = 4u32.to_be_bytes().to_vec();
    bytes.extend((body.len() as u64 + hole).to_be_bytes());
    bytes.extend(1u32.to_be_bytes());
    bytes.extend(body);
    let file = File::create(path).expect("a file can be made");
    let write = |bytes: &[u8], place: u64| file.write_all_at(bytes, place).expect("room");
    file.set_len(bytes.len() as u64 + hole).expect("a hole");
    write(&bytes, 0);
    for &([y, x, e], value) in values {
        let place = ((e * rows + y) * columns + x) as u64;
        write(&value.to_le_bytes(), bytes.len() as u64 + 2 * place);
    }
}
