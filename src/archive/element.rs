//! The numbers that cubes hold, in Rust's words: for who copies values as they are stored.

use hdf5::H5Type;

/// A number as cubes store it. Implemented for the integers of 8 to 64 bits and the floats of 32 and 64.
pub trait Element: H5Type + Copy + Default + Send + Sync + 'static {
    /// As numpy writes it.
    const DTYPE: &'static str;

    /// The number in `bytes`, which are as many as it has and little-endian.
    fn from_le(bytes: &[u8]) -> Self;

    /// Appends its little-endian bytes.
    fn put_le(self, bytes: &mut Vec<u8>);
}

macro_rules! element {
    ($($number:ty => $dtype:literal),*) => {$(
        impl Element for $number {
            const DTYPE: &'static str = $dtype;

            fn from_le(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<$number>()];
                own.copy_from_slice(bytes);
                Self::from_le_bytes(own)
            }

            fn put_le(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }
        }
    )*};
}

element!(
    i8 => "int8", u8 => "uint8", i16 => "int16", u16 => "uint16", i32 => "int32", u32 => "uint32",
    i64 => "int64", u64 => "uint64", f32 => "float32", f64 => "float64"
);

/// Calls `$call` with the [`Element`] that a stored `dtype` is kept in as its last type argument: itself, but a Gatan
/// boolean in a byte and a half-precision float in a single one, which hold their values to the bit.
///
/// The `else` arm gives what a type means that no reader lets through.
#[macro_export]
macro_rules! with_element {
    ($dtype:expr, $element:ident => $call:expr, else $other:expr) => {
        match $dtype {
            "int8" => {
                type $element = i8;
                $call
            }
            "bool" | "uint8" => {
                type $element = u8;
                $call
            }
            "int16" => {
                type $element = i16;
                $call
            }
            "uint16" => {
                type $element = u16;
                $call
            }
            "int32" => {
                type $element = i32;
                $call
            }
            "uint32" => {
                type $element = u32;
                $call
            }
            "int64" => {
                type $element = i64;
                $call
            }
            "uint64" => {
                type $element = u64;
                $call
            }
            "float16" | "float32" => {
                type $element = f32;
                $call
            }
            "float64" => {
                type $element = f64;
                $call
            }
            _ => $other,
        }
    };
}

/// Appends the numbers in `bytes`, stored as `T`, to `values`.
pub(crate) fn decode<T: Element>(bytes: &[u8], little: bool, values: &mut Vec<T>) {
    let numbers = bytes.chunks_exact(size_of::<T>());
    if little {
        values.extend(numbers.map(T::from_le));
    } else {
        let mut turned = [0; 8];
        let turned = &mut turned[..size_of::<T>()];
        values.extend(numbers.map(|number| {
            turned.copy_from_slice(number);
            turned.reverse();
            T::from_le(turned)
        }));
    }
}
