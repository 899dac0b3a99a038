//! Gatan files with arbitrary bytes changed.

use std::io::Cursor;

use super::Folder;
use super::dm_file::Form;
use super::dm_hostile::{try_to_read, valid};
use crate::archive::dm;
use crate::fuzz::fuzz;

#[test]
fn fuzz_gatan_files() {
    let folder = Folder::new();
    fuzz(Form::ALL.map(valid).into(), &["%%%%", "ImageList"], |bytes| {
        dm::read_tags(Cursor::new(bytes), bytes.len() as u64)?;
        try_to_read(&folder, bytes)
    });
}
