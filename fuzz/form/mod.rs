//! Parses a form three times: in one piece, in several, and with a reference parser. The results must agree.

mod case;
mod head;
mod reading;
mod reference;
mod text;

use self::case::Case;
pub use self::reading::Reading;

/// Parses the form that these bytes encode in all three ways.
///
/// # Panics
/// If two results differ.
pub fn check(input: &[u8]) -> Reading {
    let case = Case::new(input);
    let whole = reading::read(&case, vec![case.body.clone()]);
    let split = reading::read(&case, case.pieces());
    // For unterminated content, the two may have returned different numbers of bytes before the error.
    assert_eq!(whole.fields, split.fields, "in pieces: {case:?}");
    assert_eq!(whole.refused, split.refused, "in pieces: {case:?}");

    let expected = reference::read(&case);
    assert_eq!(expected.fields, whole.fields, "by the reference: {case:?}");
    let (refused, message) = (expected.refused.as_deref(), whole.refused.as_deref());
    let same = refused.zip(message).map_or(refused == message, |(begin, message)| message.starts_with(begin));
    assert!(same, "the reference gives {refused:?}, the parser {message:?}: {case:?}");
    for cut_off in [&whole.cut_off, &split.cut_off] {
        assert!(expected.cut_off.starts_with(cut_off), "not a prefix of the content: {cut_off:?}: {case:?}");
    }
    whole
}
