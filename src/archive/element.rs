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

    /// The nearest float32.
    fn to_f32(self) -> f32;
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

            fn to_f32(self) -> f32 {
                self as f32
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
    ($dtype:expr_2021, $element:ident => $call:expr_2021, else $other:expr_2021) => {
        $crate::with_element!(
            @ $dtype, $element, $call, $other,
            "int8" => i8, "bool" | "uint8" => u8, "int16" => i16, "uint16" => u16, "int32" => i32, "uint32" => u32,
            "int64" => i64, "uint64" => u64, "float16" | "float32" => f32, "float64" => f64
        )
    };
    (@ $dtype:expr_2021, $element:ident, $call:expr_2021, $other:expr_2021, $($($name:literal)|+ => $number:ty),+) => {
        match $dtype {
            $($($name)|+ => {
                type $element = $number;
                $call
            })+
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
