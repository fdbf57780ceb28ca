//! [`ErrorChain`]: an error with its causes, for logs.

use std::error::Error;
use std::fmt;

/// Displays an error and its causes on one line, separated by colons.
///
/// ```
/// use windlass_types::ErrorChain;
///
/// let error = std::io::Error::other("the disk is full");
/// assert_eq!(ErrorChain(&error).to_string(), "the disk is full");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ErrorChain<'error>(pub &'error dyn Error);

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(it) = cause {
            write!(f, ": {it}")?;
            cause = it.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the store failed")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn the_causes_follow_the_error_on_one_line() {
        let error = Outer(std::io::Error::other("connection refused"));
        assert_eq!(ErrorChain(&error).to_string(), "the store failed: connection refused");
    }
}
