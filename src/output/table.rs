//! Writes tables: CSV for people and spreadsheets, HDF5 for h5py, PyTables and pandas.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hdf5::types::{CompoundField, CompoundType, FloatSize, IntSize, TypeDescriptor};
use hdf5::{Datatype, File};

use super::transfer::write_records;
use crate::durable::{self, Partial};

/// A named column; all of a table are equally long.
pub struct Column {
    pub name: String,
    pub values: Values,
}

pub enum Values {
    /// NaN for a missing value.
    Float(Vec<f64>),
    Integer(Vec<i64>),
    Text(Vec<String>),
}

impl Column {
    pub fn new(name: &str, values: Values) -> Column {
        Column { name: name.into(), values }
    }

    fn rows(&self) -> usize {
        match &self.values {
            Values::Float(values) => values.len(),
            Values::Integer(values) => values.len(),
            Values::Text(values) => values.len(),
        }
    }
}

/// Writes a table as CSV (RFC 4180, lines ending in `\n`), whole or not at all; a missing value is an empty field.
/// Rank-local.
///
/// # Errors
/// A folder that cannot be written.
pub fn write_csv(path: &Path, table: &[Column]) -> Result<()> {
    let write = |file: &mut dyn Write| -> Result<()> {
        let mut csv = csv::Writer::from_writer(file);
        csv.write_record(table.iter().map(|column| &column.name))?;
        for row in 0..table.first().map_or(0, Column::rows) {
            csv.write_record(table.iter().map(|column| match &column.values {
                Values::Float(values) if values[row].is_nan() => String::new(),
                Values::Float(values) => values[row].to_string(),
                Values::Integer(values) => values[row].to_string(),
                Values::Text(values) => values[row].clone(),
            }))?;
        }
        Ok(csv.flush()?)
    };
    durable::replace(path, write)
}

/// Writes each table as a dataset of records, whole or not at all. Rank-local.
///
/// `pandas.DataFrame(h5py.File(path)[name][:])` reads it; texts are UTF-8 of fixed length.
///
/// # Errors
/// A folder that cannot be written, columns of unequal length.
pub fn write_tables(path: &Path, tables: &[(&str, Vec<Column>)]) -> Result<()> {
    let partial = Partial::of(path);
    let write = || -> Result<()> {
        let file = File::with_options().with_fapl(|fapl| fapl.file_locking(false)).create(partial.path())?;
        for (name, table) in tables {
            add(&file, name, table).with_context(|| format!("table {name}"))?;
        }
        Ok(file.close()?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    partial.commit()
}

fn add(file: &File, name: &str, table: &[Column]) -> Result<()> {
    let rows = table.first().map_or(0, Column::rows);
    ensure!(table.iter().all(|column| column.rows() == rows), "its columns are not equally long");
    let mut record = CompoundType { fields: Vec::new(), size: 0 };
    for (index, column) in table.iter().enumerate() {
        let (ty, size) = match &column.values {
            Values::Float(_) => (TypeDescriptor::Float(FloatSize::U8), 8),
            Values::Integer(_) => (TypeDescriptor::Integer(IntSize::U8), 8),
            Values::Text(values) => {
                let longest = values.iter().map(String::len).max().unwrap_or(0).max(1);
                (TypeDescriptor::FixedUnicode(longest), longest)
            }
        };
        record.fields.push(CompoundField::new(&column.name, ty, record.size, index));
        record.size += size;
    }
    let mut bytes = vec![0u8; rows * record.size];
    for (row, bytes) in bytes.chunks_exact_mut(record.size.max(1)).enumerate() {
        for (column, field) in table.iter().zip(&record.fields) {
            let target = &mut bytes[field.offset..];
            match &column.values {
                Values::Float(values) => target[..8].copy_from_slice(&values[row].to_ne_bytes()),
                Values::Integer(values) => target[..8].copy_from_slice(&values[row].to_ne_bytes()),
                Values::Text(values) => target[..values[row].len()].copy_from_slice(values[row].as_bytes()),
            }
        }
    }
    let datatype = Datatype::from_descriptor(&TypeDescriptor::Compound(record))?;
    let dataset = file.new_dataset_builder().empty_as(&datatype).shape([rows]).create(name)?;
    write_records(&dataset, &datatype, &bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn table() -> Vec<Column> {
        vec![
            Column::new("name", Values::Text(vec!["a,b".into(), "\u{3b2}".into()])),
            Column::new("f1", Values::Float(vec![0.5, f64::NAN])),
            Column::new("flagged", Values::Integer(vec![7, -1])),
        ]
    }

    #[test]
    fn csv_quotes_what_it_must() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        write_csv(&path, &table()).unwrap();
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text, "name,f1,flagged\n\"a,b\",0.5,7\n\u{3b2},,-1\n");
    }

    #[test]
    fn records_read_back() {
        #[derive(hdf5::H5Type, Clone)]
        #[repr(C)]
        struct Row {
            f1: f64,
            flagged: i64,
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.h5");
        write_tables(&path, &[("points", table()), ("none", Vec::new())]).unwrap_err();
        write_tables(&path, &[("points", table())]).unwrap();
        let file = File::open(&path).unwrap();
        // HDF5 matches fields by name.
        let rows: Vec<Row> = file.dataset("points").unwrap().read_raw().unwrap();
        assert_eq!((rows[0].f1, rows[0].flagged, rows[1].flagged), (0.5, 7, -1));
        assert!(rows[1].f1.is_nan());
        let uneven = vec![Column::new("a", Values::Integer(vec![1])), Column::new("b", Values::Integer(vec![]))];
        assert!(write_tables(&path, &[("uneven", uneven)]).is_err());
    }
}
