//! The codes by which Gatan files name number types: one list for tags, another for images.

use crate::archive::number_type::NumberType;

/// The number type of `code` in a tag's encoding; none where it is no number.
pub(super) fn of_tag(code: u64) -> Option<NumberType> {
    Some(match code {
        2 => NumberType::I16,
        3 => NumberType::I32,
        4 => NumberType::U16,
        5 => NumberType::U32,
        6 => NumberType::F32,
        7 => NumberType::F64,
        8 => NumberType::Bool,
        9 => NumberType::I8,
        10 => NumberType::U8,
        11 => NumberType::I64,
        12 => NumberType::U64,
        _ => return None,
    })
}

/// The number type of an image's `ImageData:DataType`; none where it is no real number.
pub(super) fn of_image(data_type: f64) -> Option<NumberType> {
    Some(match data_type as i64 {
        1 => NumberType::I16,
        2 => NumberType::F32,
        6 => NumberType::U8,
        7 => NumberType::I32,
        9 => NumberType::I8,
        10 => NumberType::U16,
        11 => NumberType::U32,
        12 => NumberType::F64,
        14 => NumberType::Bool,
        39 => NumberType::I64,
        40 => NumberType::U64,
        _ => return None,
    })
}
