//! The numbers that Gatan files hold, in tags and in images.

/// A number as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Bool,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F32,
    F64,
}

impl Number {
    /// The number that a tag's encoding `code` means; none where it is no number.
    pub fn of_tag(code: u64) -> Option<Number> {
        Some(match code {
            2 => Number::I16,
            3 => Number::I32,
            4 => Number::U16,
            5 => Number::U32,
            6 => Number::F32,
            7 => Number::F64,
            8 => Number::Bool,
            9 => Number::I8,
            10 => Number::U8,
            11 => Number::I64,
            12 => Number::U64,
            _ => return None,
        })
    }

    /// The number that an image's `ImageData:DataType` means; none where it is no real number.
    pub fn of_image(data_type: f64) -> Option<Number> {
        Some(match data_type as i64 {
            1 => Number::I16,
            2 => Number::F32,
            6 => Number::U8,
            7 => Number::I32,
            9 => Number::I8,
            10 => Number::U16,
            11 => Number::U32,
            12 => Number::F64,
            14 => Number::Bool,
            39 => Number::I64,
            40 => Number::U64,
            _ => return None,
        })
    }

    /// The number that numpy calls `dtype`.
    pub fn of_dtype(dtype: &str) -> Option<Number> {
        let all = [
            Number::I8,
            Number::U8,
            Number::I16,
            Number::U16,
            Number::I32,
            Number::U32,
            Number::I64,
            Number::U64,
            Number::F32,
            Number::F64,
        ];
        all.into_iter().find(|number| number.dtype() == dtype)
    }

    /// Bytes of one.
    pub fn size(self) -> usize {
        match self {
            Number::Bool | Number::I8 | Number::U8 => 1,
            Number::I16 | Number::U16 => 2,
            Number::I32 | Number::U32 | Number::F32 => 4,
            Number::I64 | Number::U64 | Number::F64 => 8,
        }
    }

    /// The name that numpy has for it.
    pub fn dtype(self) -> &'static str {
        match self {
            Number::Bool => "bool",
            Number::I8 => "int8",
            Number::U8 => "uint8",
            Number::I16 => "int16",
            Number::U16 => "uint16",
            Number::I32 => "int32",
            Number::U32 => "uint32",
            Number::I64 => "int64",
            Number::U64 => "uint64",
            Number::F32 => "float32",
            Number::F64 => "float64",
        }
    }

    /// The value in the first bytes of `bytes`; wide integers are rounded to 53 bits.
    pub fn value(self, bytes: &[u8; 8], little: bool) -> f64 {
        match self {
            Number::Bool | Number::U8 => f64::from(bytes[0]),
            Number::I8 => f64::from(bytes[0] as i8),
            Number::I16 => f64::from(u16::from_le_bytes(first(bytes, little)) as i16),
            Number::U16 => f64::from(u16::from_le_bytes(first(bytes, little))),
            Number::I32 => f64::from(u32::from_le_bytes(first(bytes, little)) as i32),
            Number::U32 => f64::from(u32::from_le_bytes(first(bytes, little))),
            Number::F32 => f64::from(f32::from_le_bytes(first(bytes, little))),
            Number::I64 => i64::from_le_bytes(first(bytes, little)) as f64,
            Number::U64 => u64::from_le_bytes(first(bytes, little)) as f64,
            Number::F64 => f64::from_le_bytes(first(bytes, little)),
        }
    }

    /// Appends the values in `bytes` to `values` as float32, rounded to the nearest.
    pub fn decode(self, bytes: &[u8], little: bool, values: &mut Vec<f32>) {
        match self {
            Number::Bool | Number::U8 => values.extend(bytes.iter().map(|&b| f32::from(b))),
            Number::I8 => values.extend(bytes.iter().map(|&b| f32::from(b as i8))),
            Number::I16 => each(bytes, little, values, |b| f32::from(i16::from_le_bytes(b))),
            Number::U16 => each(bytes, little, values, |b| f32::from(u16::from_le_bytes(b))),
            Number::I32 => each(bytes, little, values, |b| i32::from_le_bytes(b) as f32),
            Number::U32 => each(bytes, little, values, |b| u32::from_le_bytes(b) as f32),
            Number::I64 => each(bytes, little, values, |b| i64::from_le_bytes(b) as f32),
            Number::U64 => each(bytes, little, values, |b| u64::from_le_bytes(b) as f32),
            Number::F32 => each(bytes, little, values, f32::from_le_bytes),
            Number::F64 => each(bytes, little, values, |b| f64::from_le_bytes(b) as f32),
        }
    }
}

/// The first `N` of `bytes`, turned to little-endian.
fn first<const N: usize>(bytes: &[u8; 8], little: bool) -> [u8; N] {
    let mut taken = [0; N];
    taken.copy_from_slice(&bytes[..N]);
    if !little {
        taken.reverse();
    }
    taken
}

fn each<const N: usize>(bytes: &[u8], little: bool, values: &mut Vec<f32>, of_little: impl Fn([u8; N]) -> f32) {
    let numbers = bytes.as_chunks::<N>().0.iter();
    if little {
        values.extend(numbers.map(|&number| of_little(number)));
    } else {
        values.extend(numbers.map(|&number| {
            let mut number = number;
            number.reverse();
            of_little(number)
        }));
    }
}
