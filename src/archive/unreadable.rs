//! Why an object that an HDF5 file names cannot be opened: its link leads nowhere, or a newer HDF5 wrote it.

use std::ffi::{CStr, CString};
use std::ptr::null;

use hdf5::Group;
use hdf5_sys::h5l::{H5L_info1_t, H5L_type_t, H5Lget_info1, H5Lget_val, H5Lunpack_elink_val};
use hdf5_sys::h5p::H5P_DEFAULT;

/// Why the object `name` in `group`, of path `path` in the file, does not open.
pub(super) fn why(group: &Group, name: &str, path: &str) -> String {
    if let Some(target) = target(group, name) {
        return format!("{path} is a link to {target}, which is not there: bring it back beside this file");
    }
    let cause = match group.dataset(name) {
        Err(cause) => cause.to_string(),
        Ok(_) => "it opens now".into(),
    };
    let (major, minor, release) = hdf5::library_version();
    format!(
        "{path} does not open ({cause}): HDF5 {major}.{minor}.{release} reads here, and a newer one may have written it. Write \
         it again by h5py with `libver='v110'`, or repack it there with `h5repack -l 0 -h 2`"
    )
}

/// Where the soft or external link `name` in `group` leads; none if it is no such link.
fn target(group: &Group, name: &str) -> Option<String> {
    let name = CString::new(name).ok()?;
    hdf5::sync::sync(|| {
        let mut about = H5L_info1_t::default();
        // SAFETY: the group is open, the name ends with NUL, and `about` outlives the call.
        let code = unsafe { H5Lget_info1(group.id(), name.as_ptr(), &raw mut about, H5P_DEFAULT) };
        if code < 0 || !matches!(about.type_, H5L_type_t::H5L_TYPE_SOFT | H5L_type_t::H5L_TYPE_EXTERNAL) {
            return None;
        }
        // SAFETY: this link has a value, whose size is what the union holds.
        let size = unsafe { *about.u.val_size() };
        let mut value = vec![0u8; size + 1];
        // SAFETY: `value` has room for `size` bytes.
        let code = unsafe { H5Lget_val(group.id(), name.as_ptr(), value.as_mut_ptr().cast(), size, H5P_DEFAULT) };
        if code < 0 {
            return None;
        }
        if about.type_ == H5L_type_t::H5L_TYPE_SOFT {
            return Some(CStr::from_bytes_until_nul(&value).ok()?.to_string_lossy().into_owned());
        }
        let (mut file, mut object) = (null(), null());
        let flags = std::ptr::null_mut();
        // SAFETY: the value is of an external link; both results point into it, and end with NUL.
        unsafe {
            if H5Lunpack_elink_val(value.as_ptr().cast(), size, flags, &raw mut file, &raw mut object) < 0 {
                return None;
            }
            let [file, object] = [file, object].map(|text| CStr::from_ptr(text).to_string_lossy());
            Some(format!("{object} in the file {file}"))
        }
    })
}
