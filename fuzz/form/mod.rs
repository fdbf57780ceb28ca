//! One form, read three times: as one piece, in pieces, and by a reference. All three must agree.

mod case;
mod head;
mod reading;
mod reference;
mod text;

use self::case::Case;
pub use self::reading::Reading;

/// Reads the form that these bytes stand for, in every way.
///
/// # Panics
/// When two ways do not agree.
pub fn check(input: &[u8]) -> Reading {
    let case = Case::new(input);
    let whole = reading::read(&case, vec![case.body.clone()]);
    let split = reading::read(&case, case.pieces());
    // Of a content that has no end, more or less may have been handed on before that was known.
    assert_eq!(whole.fields, split.fields, "in pieces: {case:?}");
    assert_eq!(whole.refused, split.refused, "in pieces: {case:?}");

    let expected = reference::read(&case);
    assert_eq!(expected.fields, whole.fields, "by the reference: {case:?}");
    let (refused, message) = (expected.refused.as_deref(), whole.refused.as_deref());
    let same = refused.zip(message).map_or(refused == message, |(begin, message)| message.starts_with(begin));
    assert!(same, "the reference has {refused:?}, not {message:?}: {case:?}");
    for cut_off in [&whole.cut_off, &split.cut_off] {
        assert!(expected.cut_off.starts_with(cut_off), "not of the content: {cut_off:?}: {case:?}");
    }
    whole
}
