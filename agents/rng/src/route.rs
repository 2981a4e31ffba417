//! Parses the path of a request into a route.

/// The largest number of bytes in one answer.
pub const BYTES_MAX: usize = 1 << 20;

/// The resource that a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/`
    Greeting,
    /// `/N`
    Bytes(usize),
    /// `/N` above `BYTES_MAX`
    TooManyBytes,
    Unknown,
}

impl Route {
    /// Parses a path as it was sent. A number has only digits: no sign, no prefix, no decimal point.
    pub fn of(path: &str) -> Route {
        let Some(name) = path.strip_prefix('/') else { return Route::Unknown };
        if name.is_empty() {
            return Route::Greeting;
        }
        if !name.bytes().all(|byte| byte.is_ascii_digit()) {
            return Route::Unknown;
        }
        match name.parse() {
            Ok(count) if count <= BYTES_MAX => Route::Bytes(count),
            _ => Route::TooManyBytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_alone_are_a_number() {
        assert_eq!(Route::of("/"), Route::Greeting);
        for (path, count) in [("/0", 0), ("/32", 32), ("/0032", 32), ("/1048576", BYTES_MAX)] {
            assert_eq!(Route::of(path), Route::Bytes(count), "{path}");
        }
        for path in ["/1048577", "/18446744073709551616", &format!("/{}", "9".repeat(5000))] {
            assert_eq!(Route::of(path), Route::TooManyBytes, "{path}");
        }
        for path in ["", "*", "32", "/-1", "/+1", "/abc", "/32/", "//", "//32", "/3 2", "/1.0", "/0x20", "/٣"]
        {
            assert_eq!(Route::of(path), Route::Unknown, "{path:?}");
        }
    }
}
