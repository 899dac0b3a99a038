//! The compressors of Zarr's chunks.

use anyhow::{Result, bail, ensure};
use libdeflater::Decompressor;

/// One compressor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Blosc,
    Zstd,
    Gzip,
    Zlib,
}

impl Codec {
    /// The compressor that Zarr calls `name`.
    ///
    /// # Errors
    /// One that is not read.
    pub fn of(name: &str) -> Result<Codec> {
        Ok(match name {
            "blosc" | "numcodecs.blosc" => Codec::Blosc,
            "zstd" | "numcodecs.zstd" => Codec::Zstd,
            "gzip" | "numcodecs.gzip" => Codec::Gzip,
            "zlib" | "numcodecs.zlib" => Codec::Zlib,
            _ => bail!(
                "its values are compressed by {name:?}, which is not read; save it with Blosc, Zstd or gzip, as HyperSpy \
                 does by default"
            ),
        })
    }

    /// Fills `values` from `bytes`, which must decode to just as many.
    ///
    /// # Errors
    /// Bytes that are damaged or decode to another size.
    pub fn decode(self, bytes: &[u8], values: &mut [u8]) -> Result<()> {
        let length = match self {
            Codec::Blosc => blosc(bytes, values)?,
            Codec::Zstd => zstd::bulk::decompress_to_buffer(bytes, values)?,
            Codec::Gzip => Decompressor::new().gzip_decompress(bytes, values)?,
            Codec::Zlib => Decompressor::new().zlib_decompress(bytes, values)?,
        };
        ensure!(length == values.len(), "it decodes to {length} bytes, not {}", values.len());
        Ok(())
    }
}

/// Decodes a buffer of c-blosc; gives the number of its bytes.
fn blosc(bytes: &[u8], values: &mut [u8]) -> Result<usize> {
    let mut size = 0;
    // SAFETY: reads no more than the stated number of bytes.
    let is_valid = unsafe { blosc_src::blosc_cbuffer_validate(bytes.as_ptr().cast(), bytes.len(), &mut size) } == 0;
    ensure!(is_valid, "it is no Blosc buffer, or cut short");
    ensure!(size == values.len(), "it decodes to {size} bytes, not {}", values.len());
    // SAFETY: the input is as long as its header says, which was just compared, and the output has room for all of it.
    // Uses no global state and one thread: chunks are decoded in parallel.
    let length =
        unsafe { blosc_src::blosc_decompress_ctx(bytes.as_ptr().cast(), values.as_mut_ptr().cast(), values.len(), 1) };
    ensure!(
        length >= 0,
        "Blosc cannot decode it (error {length}): it is damaged, or not compressed by LZ4, Zstd or BloscLZ inside"
    );
    Ok(length as usize)
}

/// Compresses `bytes`, which are values of `size` bytes each, as HyperSpy does: Blosc with Zstd of level 1, after grouping
/// the bytes by their significance.
///
/// # Errors
/// More bytes than Blosc can hold, 2 GiB.
pub(crate) fn compress_blosc(bytes: &[u8], size: usize) -> Result<Vec<u8>> {
    let mut compressed = vec![0; bytes.len() + blosc_src::BLOSC_MAX_OVERHEAD as usize];
    // SAFETY: both buffers have the lengths that are told; the name ends with a zero. Uses no global state.
    let length = unsafe {
        blosc_src::blosc_compress_ctx(
            1,
            blosc_src::BLOSC_SHUFFLE as i32,
            size,
            bytes.len(),
            bytes.as_ptr().cast(),
            compressed.as_mut_ptr().cast(),
            compressed.len(),
            c"zstd".as_ptr(),
            0,
            1,
        )
    };
    ensure!(length > 0, "Blosc cannot compress {} bytes (error {length}); make the chunks smaller", bytes.len());
    compressed.truncate(length as usize);
    Ok(compressed)
}
