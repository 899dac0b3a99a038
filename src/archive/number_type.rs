//! The number types that cubes are stored in: as Rust types ([`Number`]), and by their numpy names ([`NumberType`]).

use hdf5::H5Type;

/// A Rust type that values are stored in: the integers of 8 to 64 bits and the floats of 32 and 64.
pub trait Number: H5Type + Copy + Default + Send + Sync + 'static {
    /// Its numpy name.
    const DTYPE: &'static str;

    /// Reads one number from exactly its size in little-endian bytes.
    fn from_le(bytes: &[u8]) -> Self;

    /// Appends its little-endian bytes.
    fn put_le(self, bytes: &mut Vec<u8>);

    /// The nearest float32.
    fn to_f32(self) -> f32;

    /// The nearest float64.
    fn to_f64(self) -> f64;
}

macro_rules! number {
    ($($number:ty => $dtype:literal),*) => {$(
        impl Number for $number {
            const DTYPE: &'static str = $dtype;

            fn from_le(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<$number>()];
                own.copy_from_slice(bytes);
                Self::from_le_bytes(own)
            }

            fn put_le(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }

            fn to_f32(self) -> f32 {
                self as f32
            }

            fn to_f64(self) -> f64 {
                self as f64
            }
        }
    )*};
}

number!(
    i8 => "int8", u8 => "uint8", i16 => "int16", u16 => "uint16", i32 => "int32", u32 => "uint32",
    i64 => "int64", u64 => "uint64", f32 => "float32", f64 => "float64"
);

/// Evaluates `$call` with `$number` standing for the Rust type ([`Number`](crate::archive::Number)) of a stored `$dtype`,
/// given by its numpy name.
///
/// Booleans are kept in `u8` and half-precision floats in `f32`, both without loss. `$other` is for every other type.
#[macro_export]
macro_rules! with_number_type {
    ($dtype:expr, $number:ident => $call:expr, else $other:expr) => {
        $crate::with_number_type!(
            @ $dtype, $number, $call, $other,
            "int8" => i8, "bool" | "uint8" => u8, "int16" => i16, "uint16" => u16, "int32" => i32, "uint32" => u32,
            "int64" => i64, "uint64" => u64, "float16" | "float32" => f32, "float64" => f64
        )
    };
    (@ $dtype:expr, $number:ident, $call:expr, $other:expr, $($($name:literal)|+ => $rust:ty),+) => {
        match $dtype {
            $($($name)|+ => {
                type $number = $rust;
                $call
            })+
            _ => $other,
        }
    };
}

/// A number type known at run time, for values that lie uncompressed in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberType {
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

impl NumberType {
    /// The type that holds values of `T`.
    pub fn of<T: Number>() -> NumberType {
        NumberType::named(T::DTYPE).expect("every Rust type has its number type")
    }

    /// The type of this numpy name, if values of it are read.
    pub fn named(dtype: &str) -> Option<NumberType> {
        use NumberType::*;
        let all = [Bool, I8, U8, I16, U16, I32, U32, I64, U64, F32, F64];
        all.into_iter().find(|number| number.dtype() == dtype)
    }

    /// Its numpy name.
    pub fn dtype(self) -> &'static str {
        match self {
            NumberType::Bool => "bool",
            NumberType::I8 => "int8",
            NumberType::U8 => "uint8",
            NumberType::I16 => "int16",
            NumberType::U16 => "uint16",
            NumberType::I32 => "int32",
            NumberType::U32 => "uint32",
            NumberType::I64 => "int64",
            NumberType::U64 => "uint64",
            NumberType::F32 => "float32",
            NumberType::F64 => "float64",
        }
    }

    /// Bytes of one value.
    pub fn size(self) -> usize {
        with_number_type!(self.dtype(), T => size_of::<T>(), else unreachable!("every number type has a Rust type"))
    }

    /// The value in the first bytes of `bytes`; 64-bit integers are rounded to 53 bits.
    pub fn value(self, bytes: &[u8], little: bool) -> f64 {
        let bytes = &bytes[..self.size()];
        with_number_type!(
            self.dtype(),
            T => number::<T>(bytes, little).to_f64(),
            else unreachable!("every number type has a Rust type")
        )
    }

    /// Appends the values in `bytes` to `values` as float32, rounded to the nearest.
    pub fn decode_f32(self, bytes: &[u8], little: bool, values: &mut Vec<f32>) {
        with_number_type!(
            self.dtype(),
            T => decode(bytes, little, values, T::to_f32),
            else unreachable!("every number type has a Rust type")
        )
    }
}

/// Appends to `values` what `convert` makes of each number in `bytes`, which are stored as `T`.
pub(crate) fn decode<T: Number, U>(bytes: &[u8], little: bool, values: &mut Vec<U>, convert: impl Fn(T) -> U) {
    let numbers = bytes.chunks_exact(size_of::<T>());
    if little {
        values.extend(numbers.map(|bytes| convert(T::from_le(bytes))));
    } else {
        values.extend(numbers.map(|bytes| convert(number(bytes, false))));
    }
}

/// The number in `bytes`, which are as many as it has.
fn number<T: Number>(bytes: &[u8], little: bool) -> T {
    if little {
        return T::from_le(bytes);
    }
    let mut reversed = [0; 8];
    let reversed = &mut reversed[..size_of::<T>()];
    reversed.copy_from_slice(bytes);
    reversed.reverse();
    T::from_le(reversed)
}
