//! Characters that are invisible or change how their neighbours are displayed, and can deceive a reader.

/// Whether a character is a control character (which terminals interpret), a line separator or a bidirectional control,
/// or has no width. These are Unicode's `Default_Ignorable_Code_Point`, without the variation selectors that emoji and
/// Japanese names need, and the separators and annotations that do not belong in a single line.
pub fn is_invisible(it: char) -> bool {
    it.is_control()
        || matches!(
            it,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e00ff}'
                | '\u{e01f0}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_marks_spaces_and_emoji_are_visible() {
        let text = "aé e\u{301} 你好 עברית हिन्दी \u{a0}\u{3000}🦀 ❤\u{fe0f} 葛\u{e0100} .-_~\"'";
        assert_eq!(text.chars().find(|it| is_invisible(*it)), None);
    }

    #[test]
    fn control_zero_width_and_bidirectional_characters_are_invisible() {
        for it in ['\0', '\n', '\u{7f}', '\u{85}', '\u{ad}', '\u{200b}', '\u{200e}', '\u{2028}', '\u{202e}', '\u{2066}']
        {
            assert!(is_invisible(it), "{it:?}");
        }
        for it in ['\u{61c}', '\u{2060}', '\u{feff}', '\u{3164}', '\u{e0041}'] {
            assert!(is_invisible(it), "{it:?}");
        }
    }
}
