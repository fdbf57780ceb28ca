//! Parses header parameters, `value; name=token; name="quoted string"` (RFC 2045, section 5.1; RFC 2231, section 3).

use std::collections::BTreeMap;

use super::text::{self, BadText, excerpt};

/// The value of a header, and its parameters by lower-case name. The names of extended and segmented parameters include
/// the asterisks.
#[derive(Debug)]
pub struct Parameters {
    value: String,
    parameters: BTreeMap<String, Vec<u8>>,
}

/// The error for a malformed header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadParameters {
    /// The text between two semicolons is not a parameter.
    #[error("'{0}' is not a parameter of the form name=value")]
    NotAParameter(String),
    /// The end of a quoted string is ambiguous or missing.
    #[error("the quotes of its parameter '{0}' do not match; inside a value, send a quote as \\\" or %22")]
    Quotes(String),
    /// A parameter occurs twice.
    #[error("its parameter '{0}' is given more than once")]
    Twice(String),
}

impl Parameters {
    /// Parses the value of a header, without line breaks.
    ///
    /// # Errors
    /// When the syntax is invalid, or a parameter occurs twice.
    pub fn parse(header: &[u8]) -> Result<Self, BadParameters> {
        let (value, mut rest) = header.split_at(until_semicolon(header));
        let value = String::from_utf8_lossy(value.trim_ascii()).to_ascii_lowercase();
        let mut parameters = BTreeMap::new();
        while let [b';', parameter @ ..] = rest {
            let parameter = parameter.trim_ascii_start();
            let end = until_semicolon(parameter);
            if end == 0 {
                rest = parameter;
                continue;
            }
            let bad = || BadParameters::NotAParameter(excerpt(parameter[..end].trim_ascii()));
            let equals = parameter[..end].iter().position(|it| *it == b'=').ok_or_else(bad)?;
            let name = parameter[..equals].trim_ascii();
            if name.is_empty() || !name.iter().copied().all(is_token) {
                return Err(bad());
            }
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            let value = match parameter[equals + 1..].trim_ascii_start() {
                [b'"', quoted @ ..] => unquoted(quoted),
                token => bare(token),
            };
            let (value, after) = value.ok_or_else(|| BadParameters::Quotes(excerpt(name.as_bytes())))?;
            if parameters.insert(name.clone(), value).is_some() {
                return Err(BadParameters::Twice(excerpt(name.as_bytes())));
            }
            rest = after.trim_ascii_start();
        }
        Ok(Self { value, parameters })
    }

    /// The value before the parameters, in lower case.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The bytes of a parameter that is neither extended nor segmented.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.parameters.get(name).map(Vec::as_slice)
    }

    /// The decoded text of a parameter: of `name*` if it exists, else of the segments `name*0`, `name*1`…, else of
    /// `name`.
    ///
    /// # Errors
    /// When the text cannot be decoded.
    pub fn text(&self, name: &str) -> Result<Option<String>, BadText> {
        if let Some(value) = self.get(&format!("{name}*")) {
            return text::segmented([(value, true)]).map(Some);
        }
        let segment = |index: usize| {
            let (segment, extended) = (format!("{name}*{index}"), format!("{name}*{index}*"));
            self.get(&segment).map(|it| (it, false)).or_else(|| self.get(&extended).map(|it| (it, true)))
        };
        let of_name = |it: &&String| it.strip_prefix(name).is_some_and(|it| it.starts_with('*'));
        match self.parameters.keys().filter(of_name).count() {
            0 => self.get(name).map(text::plain).transpose(),
            count => {
                let segments: Option<Vec<_>> = (0..count).map(segment).collect();
                text::segmented(segments.ok_or(BadText::Segments)?).map(Some)
            }
        }
    }
}

/// Parses an unquoted value. Returns it and the rest. Characters that a token may not contain, such as spaces, are
/// accepted.
fn bare(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (value, after) = text.split_at(until_semicolon(text));
    (!value.contains(&b'"')).then(|| (value.trim_ascii().to_vec(), after))
}

/// Parses a quoted string after its opening quote. Returns its value and the rest.
///
/// Some clients send a backslash as `\\` and a quote as `\"` (Python, Go, curl's `--form-escape`), others send a
/// backslash as `\` and a quote as `%22` (browsers, Node). So the string ends at the first unescaped quote or, if no
/// parameter can end there, at the first quote: the latter clients send the name `dir\` as `"dir\"`.
fn unquoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let ends = [first_unescaped_quote(text), text.iter().position(|it| *it == b'"')];
    let end = ends.into_iter().flatten().find(|it| matches!(text[it + 1..].trim_ascii_start(), [] | [b';', ..]))?;
    Some((unescaped(&text[..end]), &text[end + 1..]))
}

fn first_unescaped_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at..)? {
            [b'"', ..] => return Some(at),
            [b'\\', b'\\' | b'"', ..] => at += 2,
            [] => return None,
            _ => at += 1,
        }
    }
}

/// Resolves escapes. A backslash before anything other than a backslash or a quote shows that the client does not
/// escape backslashes. Then all backslashes are literal, as in `\\server\share`, except before a quote.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let (unescaped, is_every_backslash_an_escape) = without_escapes_of(b"\\\"", text);
    if is_every_backslash_an_escape { unescaped } else { without_escapes_of(b"\"", text).0 }
}

/// Removes the backslashes before the given characters. Returns the text, and whether there were no other backslashes.
fn without_escapes_of(characters: &[u8], mut text: &[u8]) -> (Vec<u8>, bool) {
    let (mut unescaped, mut complete) = (Vec::with_capacity(text.len()), true);
    while let [first, after @ ..] = text {
        let escaped = after.first().filter(|it| *first == b'\\' && characters.contains(it));
        complete &= escaped.is_some() || *first != b'\\';
        unescaped.push(*escaped.unwrap_or(first));
        text = if escaped.is_some() { &after[1..] } else { after };
    }
    (unescaped, complete)
}

fn until_semicolon(bytes: &[u8]) -> usize {
    bytes.iter().position(|it| *it == b';').unwrap_or(bytes.len())
}

/// Whether a token may contain this byte (RFC 9110, section 5.6.2; RFC 2045 allows a few more, such as braces).
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filename(header: &str) -> Result<Option<String>, BadText> {
        Parameters::parse(header.as_bytes()).unwrap().text("filename")
    }

    #[track_caller]
    fn check(parameter: &str, expected: &str) {
        for header in [
            format!("form-data; {parameter}; name=file"),
            format!("form-data; name=\"file\"; {parameter}"),
            format!("form-data;{parameter} \t;;\tname \t=\t\"file\" ; "),
        ] {
            assert_eq!(filename(&header).unwrap().as_deref(), Some(expected), "{header}");
            let parameters = Parameters::parse(header.as_bytes()).unwrap();
            assert_eq!(parameters.value(), "form-data", "{header}");
            assert_eq!(parameters.text("name").unwrap().as_deref(), Some("file"), "{header}");
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_any_order() {
        check("filename=a.txt", "a.txt");
        check("FileName=\"a; name=b; filename=c\"", "a; name=b; filename=c");
        check("xfilename=x; filename = \"a\"; filename_=y", "a");
        check("filename=", "");
        check("filename=\"\"", "");
        check("filename=my file (1)=.txt", "my file (1)=.txt");
        assert_eq!(filename("form-data; name=\"my filename=x\""), Ok(None));
        assert_eq!(filename("Form-Data"), Ok(None));
    }

    #[test]
    fn backslashes_of_clients_that_escape_them_are_unescaped() {
        check(r#"filename="a\\b.txt""#, r"a\b.txt");
        check(r#"filename="C:\\dir\\x""#, r"C:\dir\x");
        check(r#"filename="\\\\server\\share""#, r"\\server\share");
        check(r#"filename="dir\\""#, r"dir\");
        check(r#"filename="a\"b.txt""#, r#"a"b.txt"#);
        check(r#"filename="a\\\"b\\""#, r#"a\"b\"#);
        check(r#"filename="a\"; name=\"b""#, r#"a"; name="b"#);
    }

    #[test]
    fn backslashes_of_clients_that_do_not_escape_them_are_kept() {
        check(r#"filename="a\b.txt""#, r"a\b.txt");
        check(r#"filename="C:\fakepath\x""#, r"C:\fakepath\x");
        check(r#"filename="\\server\share""#, r"\\server\share");
        check(r#"filename="C:\\dir\file""#, r"C:\\dir\file");
        check(r#"filename="dir\""#, r"dir\");
        check(r#"filename="a\b%22c""#, r#"a\b"c"#);
        check(r#"filename="a\b\"c""#, r#"a\b"c"#);
        check(r"filename=a\b", r"a\b");
        check(r"filename=a\\b", r"a\\b");
    }

    #[test]
    fn extended_names_take_precedence_in_any_position() {
        for header in [
            "form-data; filename=\"=?utf-8?B?eA==?=\"; filename*=utf-8''%E4%BD%A0; name=file",
            "form-data; filename*=\"utf-8''%E4%BD%A0\"; name=file; filename=x",
            "form-data; FILENAME*=UTF-8''%E4%BD%A0",
            "form-data; filename*0*=utf-8''%E4%BD; filename*1*=%A0; filename=x",
            "form-data; filename*1*=%A0; filename*0*=utf-8''%E4%BD",
            "form-data; filename*0=x; filename*=utf-8''%E4%BD%A0",
        ] {
            assert_eq!(filename(header).unwrap().as_deref(), Some("你"), "{header}");
        }
        let long: Vec<_> = (0..12).map(|it| format!("filename*{it}=\"{it},\"")).collect();
        assert_eq!(
            filename(&format!("form-data; {}", long.join("; "))).unwrap().as_deref(),
            Some("0,1,2,3,4,5,6,7,8,9,10,11,")
        );
        for header in
            ["x; filename*1=a", "x; filename*0=a; filename*2=b", "x; filename*0=a; filename*0*=''b", "x; filename**=a"]
        {
            assert_eq!(filename(header), Err(BadText::Segments), "{header}");
        }
    }

    #[test]
    fn a_header_with_invalid_syntax_is_refused() {
        let parse = |header: &str| Parameters::parse(header.as_bytes()).map(|_| ()).unwrap_err();
        for (header, parameter) in
            [("x; name", "name"), ("x; a=b; =c", "=c"), ("x; na me=b", "na me=b"), ("x; a b; c=d", "a b")]
        {
            assert_eq!(parse(header), BadParameters::NotAParameter(parameter.to_owned()), "{header}");
        }
        for header in ["x; a=\"b", "x; a=\"b\"c", "x; a=\"b\"c\"", "x; a=b\"c", "x; a=\"b\" c=d", "x; a=\"b\\\"c"] {
            assert_eq!(parse(header), BadParameters::Quotes("a".to_owned()), "{header}");
        }
        for header in ["x; a=b; A=b", "x; a*0=b; a*0=c", "x; b=c; a=; a=\"\""] {
            assert!(matches!(parse(header), BadParameters::Twice(_)), "{header}");
        }
    }
}
