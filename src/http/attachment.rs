//! The file name in `Content-Disposition` (RFC 6266): safe to save, and no longer than file systems allow. JSON bodies
//! contain the original name.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use windlass_types::{Filename, is_invisible};

/// The longest file name of common file systems, in bytes. It also keeps the head of a response below 2 KiB; proxies
/// buffer 4 KiB.
const MOST_BYTES: usize = 255;

/// The longest part of an extension that is preserved when a name is shortened, in bytes.
const LONGEST_EXTENSION: usize = 16;

/// The characters that `filename*` does not encode (RFC 8187, attr-char).
const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The value of the header: the name in ASCII for old clients and, if that differs, in UTF-8 for others.
pub fn attachment(filename: &Filename) -> String {
    let name = safe_name(filename);
    let is_plain = |it: char| (it == ' ' || it.is_ascii_graphic()) && !matches!(it, '"' | '%');
    let plain: String = name.chars().map(|it| if is_plain(it) { it } else { '_' }).collect();
    if plain == name {
        return format!("attachment; filename=\"{plain}\"");
    }
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(&name, ATTR_CHAR))
}

/// A name under which the file can be saved: not a path, and at most 255 bytes.
pub fn safe_name(filename: &Filename) -> String {
    shortened(&harmless(filename.as_str()))
}

/// Replaces path separators and invisible characters, and names that are directories.
fn harmless(name: &str) -> String {
    let replaced = |it: char| matches!(it, '/' | '\\') || is_invisible(it);
    let name: String = name.chars().map(|it| if replaced(it) { '_' } else { it }).collect();
    // `.` and `..` are directories. Some clients strip trailing dots and spaces.
    if name.chars().all(|it| it == '.' || it.is_whitespace()) {
        return "_".repeat(name.chars().count());
    }
    name
}

fn shortened(name: &str) -> String {
    if name.len() <= MOST_BYTES {
        return name.to_owned();
    }
    let extension = extension(name);
    let end = name.floor_char_boundary(MOST_BYTES - extension.len());
    format!("{}{extension}", &name[..end])
}

/// The extension, of one or two parts, as in `.tar.gz`; empty if there is no plausible one.
fn extension(name: &str) -> &str {
    let mut start = name.len();
    for _ in 0..2 {
        let Some((before, part)) = name[..start].rsplit_once('.') else { break };
        let is_short = (1..=LONGEST_EXTENSION).contains(&part.len());
        if before.is_empty() || !is_short || !part.chars().all(char::is_alphanumeric) {
            break;
        }
        start = before.len();
    }
    &name[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(name: &str) -> String {
        attachment(&name.parse().unwrap())
    }

    #[test]
    fn names_are_sent_so_that_every_client_can_save_them() {
        assert_eq!(sent("plain name.txt"), "attachment; filename=\"plain name.txt\"");
        assert_eq!(sent("你.txt"), "attachment; filename=\"_.txt\"; filename*=UTF-8''%E4%BD%A0.txt");
        assert_eq!(sent("a\"b"), "attachment; filename=\"a_b\"; filename*=UTF-8''a%22b");
        assert_eq!(sent("a%41"), "attachment; filename=\"a_41\"; filename*=UTF-8''a%2541");
        assert_eq!(sent(".gitignore"), "attachment; filename=\".gitignore\"");
    }

    #[test]
    fn directory_names_and_deceptive_names_are_made_harmless() {
        assert_eq!(sent("../etc/passwd"), "attachment; filename=\".._etc_passwd\"");
        assert_eq!(sent("C:\\x"), "attachment; filename=\"C:_x\"");
        for (name, harmless) in [(".", "_"), ("..", "__"), ("...", "___"), (".. ", "___"), (" ", "_")] {
            assert_eq!(sent(name), format!("attachment; filename=\"{harmless}\""), "{name}");
        }
        for hidden in ["\u{202e}", "\u{2066}", "\u{200b}", "\u{200f}", "\u{2028}", "\u{feff}", "\u{ad}", "\u{e0041}"] {
            assert_eq!(sent(&format!("a{hidden}gpj.exe")), "attachment; filename=\"a_gpj.exe\"", "{hidden:?}");
            assert_eq!(sent(&format!(".{hidden}.")), "attachment; filename=\"._.\"", "{hidden:?}");
        }
    }

    #[test]
    fn a_long_name_is_shortened_and_keeps_its_extension() {
        for (ending, kept) in [
            (".pdf", ".pdf"),
            (".tar.gz", ".tar.gz"),
            (".a.tar.gz", ".tar.gz"),
            (". an ending", ""),
            (".文档", ".文档"),
            ("", ""),
            (".extension-of-no-kind", ""),
        ] {
            for letter in ["x", "é", "你", "🦀"] {
                let name = letter.repeat(512 - ending.chars().count()) + ending;
                let header = sent(&name);
                assert!(header.len() < 1100, "{} bytes", header.len());
                let (_, encoded) = header.rsplit_once(['\'', '=']).unwrap();
                let saved = percent_encoding::percent_decode_str(encoded.trim_matches('"')).decode_utf8().unwrap();
                assert!(saved.len() <= 255 && saved.len() > 250, "{saved}");
                assert!(saved.starts_with(letter) && saved.ends_with(kept), "{saved}");
            }
        }
        assert_eq!(sent(&"x".repeat(255)), format!("attachment; filename=\"{}\"", "x".repeat(255)));
    }
}
