//! Hostile Gatan files: refused in words whatever the bytes, without a panic or memory beyond the size of the file.

use std::io::Cursor;

use proptest::prelude::*;

use super::dm_file::{Form, Node, document, energy_first};
use super::*;
use crate::archive::dm;

pub(super) fn valid(form: Form) -> Vec<u8> {
    let images =
        vec![energy_first(form, "low loss", [6, 2, 2], -1.0), energy_first(form, "core loss", [6, 2, 2], 450.0)];
    form.file(&document(images))
}

/// Reads as far as the bytes allow.
pub(super) fn try_to_read(folder: &Folder, bytes: &[u8]) -> anyhow::Result<()> {
    let path = folder.path("x.dm4");
    std::fs::write(&path, bytes).unwrap();
    let _ = inspect(&path, &Options::default());
    for image in [None, Some(0), Some(1)] {
        let options = Options { image, ..Options::default() };
        let reader = Reader::open(&path, &options)?;
        let [rows, columns, channels] = reader.info().shape();
        reader.read(0..rows, 0..columns, 0..channels)?;
    }
    Ok(())
}

fn message_of(bytes: &[u8]) -> String {
    let read = dm::read_tags(Cursor::new(bytes), bytes.len() as u64);
    format!("{:#}", read.expect_err("refused"))
}

#[test]
fn a_file_cut_anywhere_is_said_to_be_cut() {
    let folder = Folder::new();
    for form in Form::ALL {
        let bytes = valid(form);
        assert!(try_to_read(&folder, &bytes).is_ok());
        for length in 12..bytes.len() {
            let message = message_of(&bytes[..length]);
            assert!(
                message.contains("cut short or damaged") && message.contains("copy it again"),
                "{length}: {message}"
            );
        }
    }
}

#[test]
fn nesting_lengths_and_counts_are_bounded() {
    let form = Form { version: 4, little: true };
    let mut nested = Node::Group(vec![]);
    for _ in 0..1000 {
        nested = Node::Group(vec![("", nested)]);
    }
    assert!(message_of(&form.file(&nested)).contains("deep"));

    let one = |node: Node| form.file(&Node::Group(vec![("x", node)]));
    for encoding in [
        vec![20, 4, u64::MAX],
        vec![20, 4, u64::MAX / 2],
        vec![20, 20, 7, 1 << 40, 1 << 20],
        vec![18, u64::MAX - 8],
        vec![20, 4, 1 << 40],
    ] {
        let bytes = one(Node::Raw(encoding.clone(), vec![0; 16]));
        // A size that overflows is an unknown encoding, skipped by the length of its tag.
        match dm::read_tags(Cursor::new(&bytes), bytes.len() as u64) {
            Ok(_) => assert!(encoding.iter().any(|&word| word > 1 << 39)),
            Err(error) => assert!(format!("{error:#}").contains("cut short"), "{error:#}"),
        }
    }
    let words = one(Node::Raw(vec![5; 2000], vec![]));
    assert!(message_of(&words).contains("an encoding of 2000 words"));

    // A group that claims more members than the file has bytes.
    let mut bytes = form.file(&Node::Group(vec![]));
    let count = bytes.len() - 8..;
    bytes[count].fill(0xff);
    assert!(message_of(&bytes).contains("cut short"));

    // So many tags that their names and places alone would fill the memory.
    let many = form.file(&Node::Group((0..(1 << 20) + 1).map(|_| ("", Node::Group(vec![]))).collect()));
    assert!(message_of(&many).contains("more than 1048576 tags"));
}

#[test]
fn other_files_are_not_taken_for_gatan_s() {
    assert!(message_of(&[0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1]).contains("version 3 or 4"));
    assert!(message_of(&[0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 9]).contains("byte order"));
    let folder = Folder::new();
    let path = folder.path("x.dm3");
    std::fs::write(&path, "not one of them").unwrap();
    assert!(refusal(&path).contains("none of Gatan's"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_after_a_header_do_no_harm(
        wide in any::<bool>(),
        little in any::<bool>(),
        noise in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let form = Form { version: if wide { 4 } else { 3 }, little };
        let empty = form.file(&Node::Group(vec![]));
        let header = if wide { 16 } else { 12 };
        let bytes = [&empty[..header], &noise].concat();
        let _ = dm::read_tags(Cursor::new(&bytes), bytes.len() as u64);
    }

    #[test]
    fn changed_bytes_do_no_harm(
        form in 0..4usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = valid(Form::ALL[form]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = try_to_read(&Folder::new(), &bytes);
    }

    #[test]
    fn flipped_bits_do_no_harm(form in 0..4usize, at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = valid(Form::ALL[form]);
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        let _ = try_to_read(&Folder::new(), &bytes);
    }
}
