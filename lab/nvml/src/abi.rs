//! The border to C: out parameters that may be null, texts and lists in buffers of the caller, result codes.
//!
//! `Option<&mut T>` is what C calls a pointer that may be null, so most functions need no unsafe code.

use std::mem::MaybeUninit;
use std::os::raw::{c_char, c_uint};

use nvml_wrapper_sys::bindings as c;

use crate::state::Refused;

/// A result code that is not success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) c::nvmlReturn_t);

pub(crate) const INVALID: Code = Code(c::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT);
pub(crate) const NOT_SUPPORTED: Code = Code(c::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED);
pub(crate) const NOT_FOUND: Code = Code(c::nvmlReturn_enum_NVML_ERROR_NOT_FOUND);
pub(crate) const TOO_SMALL: Code = Code(c::nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE);
pub(crate) const IN_USE: Code = Code(c::nvmlReturn_enum_NVML_ERROR_IN_USE);
pub(crate) const LOST: Code = Code(c::nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST);
pub(crate) const NOT_LOADED: Code = Code(c::nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED);
pub(crate) const UNINITIALIZED: Code = Code(c::nvmlReturn_enum_NVML_ERROR_UNINITIALIZED);
pub(crate) const OTHER_VERSION: Code = Code(c::nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH);

/// What a function comes to.
pub(crate) type Answer = Result<(), Code>;

/// An out parameter whose memory says nothing yet.
pub(crate) type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

impl From<Refused> for Code {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::InUse => IN_USE,
            Refused::Invalid => INVALID,
            Refused::Forbidden => Self(c::nvmlReturn_enum_NVML_ERROR_NO_PERMISSION),
            Refused::Lost => LOST,
            Refused::NotSupported => NOT_SUPPORTED,
            Refused::NoRoom => Self(c::nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_RESOURCES),
            Refused::Failed => Self(c::nvmlReturn_enum_NVML_ERROR_UNKNOWN),
        }
    }
}

/// Returns the result code of an answer.
pub(crate) fn code(answer: Answer) -> c::nvmlReturn_t {
    answer.map_or_else(|code| code.0, |()| c::nvmlReturn_enum_NVML_SUCCESS)
}

/// Gives a value out.
pub(crate) fn put<T>(out: Out<'_, T>, value: T) -> Answer {
    out.ok_or(INVALID)?.write(value);
    Ok(())
}

/// Writes a text with its end into the caller's buffer of `length` characters.
pub(crate) fn put_text(buffer: *mut c_char, length: c_uint, text: &str) -> Answer {
    if buffer.is_null() {
        return Err(INVALID);
    }
    if text.len() >= length as usize {
        return Err(TOO_SMALL);
    }
    // SAFETY: not null, and the caller says that it holds `length` bytes, of which at most all are written;
    // `text` is ours, so the two do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast::<u8>(), text.len()) };
    // SAFETY: `text.len()` is below `length`.
    let end = unsafe { buffer.add(text.len()) };
    // SAFETY: `end` is within the same buffer, as above.
    unsafe { end.write(0) };
    Ok(())
}

/// As [`put_text`], where the caller passes the length by reference and gets the needed one back.
pub(crate) fn put_text_sized(buffer: *mut c_char, size: Option<&mut c_uint>, text: &str) -> Answer {
    let size = size.ok_or(INVALID)?;
    let needed = count(text.len() + 1);
    let given = std::mem::replace(size, needed);
    if given < needed { Err(TOO_SMALL) } else { put_text(buffer, given, text) }
}

/// Gives a list out: `room` holds what the caller's buffer takes, and gets how many there are. A caller
/// without a buffer, or with too small a one, is told the number alone.
pub(crate) fn put_list<T: Copy>(buffer: *mut T, room: Option<&mut c_uint>, list: &[T]) -> Answer {
    let room = room.ok_or(INVALID)?;
    let given = std::mem::replace(room, count(list.len()));
    if list.is_empty() {
        return Ok(());
    }
    if buffer.is_null() || given < *room {
        return Err(TOO_SMALL);
    }
    // SAFETY: not null, and the caller says that it holds `given` items, which is no less than are written;
    // `list` is ours, so the two do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(list.as_ptr(), buffer, list.len()) };
    Ok(())
}

/// Gives a list out into a buffer that the caller promises to be large enough for all there can be.
pub(crate) fn put_all<T: Copy>(buffer: *mut T, number: Out<'_, c_uint>, list: &[T]) -> Answer {
    put(number, count(list.len()))?;
    if list.is_empty() {
        return Ok(());
    }
    if buffer.is_null() {
        return Err(INVALID);
    }
    // SAFETY: not null, and large enough by the contract of the call; `list` is ours, so the two do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(list.as_ptr(), buffer, list.len()) };
    Ok(())
}

/// Reads a text of the caller's.
pub(crate) fn text<'a>(text: *const c_char) -> Result<&'a str, Code> {
    if text.is_null() {
        return Err(INVALID);
    }
    // SAFETY: not null, and C's contract is a text with its end, which lives as long as the call.
    let text = unsafe { std::ffi::CStr::from_ptr(text) };
    text.to_str().map_err(|_| INVALID)
}

/// Returns a text as C's array of a fixed length, cut where it must be.
pub(crate) fn array<const N: usize>(text: &str) -> [c_char; N] {
    let mut array = [0; N];
    for (place, byte) in array.iter_mut().take(N.saturating_sub(1)).zip(text.bytes()) {
        *place = c_char::from_ne_bytes([byte]);
    }
    array
}

pub(crate) fn count(len: usize) -> c_uint {
    c_uint::try_from(len).unwrap_or(c_uint::MAX)
}

/// Returns the version field of a struct: its size and the number of its layout.
pub(crate) fn version<T>(layout: c_uint) -> c_uint {
    count(size_of::<T>()) | layout << 24
}

/// Checks that the caller means this layout of a struct.
pub(crate) fn is_version<T>(given: c_uint, layout: c_uint) -> Answer {
    if given == version::<T>(layout) { Ok(()) } else { Err(OTHER_VERSION) }
}

/// Declares functions of the C interface, whose body is an [`Answer`].
macro_rules! nvml {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $kind:ty),* $(,)?) $body:block)*) => { $(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        pub(crate) extern "C" fn $name($($arg: $kind),*) -> nvml_wrapper_sys::bindings::nvmlReturn_t {
            fn answer($($arg: $kind),*) -> crate::abi::Answer { $body }
            crate::abi::code(answer($($arg),*))
        }
    )* };
}
pub(crate) use nvml;
