//! The reference's parser for the header of a part. Each byte is one `char` here, so that text can be searched, split
//! and replaced with the methods of `str`.

use windlass_types::{Filename, MimeType};

use super::text::{self, Value};

/// The parsed header of a part.
pub struct Head {
    /// Name of the field; empty if it has none.
    pub name: String,
    /// File name; `None` if it is not a valid one.
    pub filename: Option<String>,
    /// Content type; `None` if it is not a valid one.
    pub mime_type: Option<String>,
    /// Whether the content has a coding or transfer encoding that would have to be decoded.
    pub encoded: bool,
    /// Whether the content is a nested multipart body (several files).
    pub several: bool,
}

impl Head {
    /// Parses a header; `None` if it is malformed.
    pub fn read(head: &[u8]) -> Option<Self> {
        let head: String = head.iter().copied().map(char::from).collect();
        let lines = head.replace("\r\n", "\n");
        let legal = |it: char| it == '\n' || it == '\t' || !it.is_ascii_control();
        let begins_header = |line: &str| line.is_empty() || line.starts_with([' ', '\t']) || line.contains(':');
        let no_bare_lf = head.matches('\n').count() == head.matches("\r\n").count();
        if !no_bare_lf || !lines.chars().all(legal) || !lines.split('\n').all(begins_header) {
            return None;
        }
        let mut headers = Vec::new();
        for line in lines.replace("\n ", " ").replace("\n\t", "\t").split('\n').filter(|it| !it.is_empty()) {
            let (name, value) = line.split_once(':')?;
            let name = name.trim_end_matches([' ', '\t']);
            if name.is_empty() || !name.chars().all(is_token) {
                return None;
            }
            headers.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
        let get = |name: &str| {
            let values: Vec<_> = headers.iter().filter(|it| it.0 == name).map(|it| it.1.clone()).collect();
            if values.len() > 1 { None } else { Some(values.into_iter().next()) }
        };
        let parameters = Parameters::read(&get("content-disposition")??)?;
        let mime_type = get("content-type")?.unwrap_or_default().replace('\t', " ");
        let transfer = get("content-transfer-encoding")?.unwrap_or_default().to_ascii_lowercase();
        let coding = get("content-encoding")?.unwrap_or_default().to_ascii_lowercase();
        let essence = mime_type.split(';').next()?.trim_matches(' ');
        let several = essence.to_ascii_lowercase().starts_with("multipart/");
        let several = several && matches!(parameters.text("filename"), Text::Absent);
        let filename = match parameters.text("filename") {
            Text::Absent => Some("upload".to_owned()),
            Text::Unreadable => None,
            Text::Read(text) => Some(text),
        };
        let name = match parameters.text("name") {
            Text::Absent => String::new(),
            Text::Unreadable => return None,
            Text::Read(text) => text,
        };
        Some(Self {
            name,
            filename: filename.and_then(|it| it.parse::<Filename>().ok()).map(|it| it.as_str().to_owned()),
            mime_type: if mime_type.is_empty() {
                Some("application/octet-stream".to_owned())
            } else {
                [&*mime_type, essence].iter().find_map(|it| it.parse().ok()).map(|it: MimeType| it.as_str().to_owned())
            },
            encoded: !["", "7bit", "8bit", "binary"].contains(&&*transfer)
                || !coding.split(',').all(|it| ["", "identity"].contains(&it.trim_matches([' ', '\t']))),
            several,
        })
    }
}

/// The parameters of a `form-data` disposition, with lower-case names.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn read(disposition: &str) -> Option<Self> {
        let (kind, mut rest) = disposition.split_once(';').unwrap_or((disposition, ""));
        let mut parameters: Vec<(String, String)> = Vec::new();
        loop {
            rest = rest.trim_start_matches([' ', '\t', ';']);
            if rest.is_empty() {
                break;
            }
            let (name, value) = rest.split_once('=').filter(|it| !it.0.contains(';'))?;
            let name = name.trim_end_matches([' ', '\t']).to_ascii_lowercase();
            let (value, after) = value_of(value.trim_start_matches([' ', '\t']))?;
            if name.is_empty() || !name.chars().all(is_token) || parameters.iter().any(|it| it.0 == name) {
                return None;
            }
            parameters.push((name, value));
            rest = after;
        }
        kind.trim_matches([' ', '\t']).eq_ignore_ascii_case("form-data").then_some(Self(parameters))
    }

    fn text(&self, name: &str) -> Text {
        let named = |wanted: &str| self.0.iter().find(|it| it.0 == wanted).map(|it| it.1.as_str());
        if let Some(value) = named(&format!("{name}*")) {
            return text::decoded(&[Value::Extended(value)]).into();
        }
        let mut segments = Vec::new();
        for (key, value) in &self.0 {
            let Some(index) = key.strip_prefix(name).and_then(|it| it.strip_prefix('*')) else { continue };
            let (index, extended) = index.strip_suffix('*').map_or((index, false), |it| (it, true));
            let Some(number) = index.parse().ok().filter(|it: &usize| it.to_string() == index) else {
                return Text::Unreadable;
            };
            segments.push((number, if extended { Value::Extended(value) } else { Value::Plain(value) }));
        }
        segments.sort_by_key(|it| it.0);
        if !segments.iter().map(|it| it.0).eq(0..segments.len()) {
            return Text::Unreadable;
        }
        if segments.is_empty() {
            return named(name).map_or(Text::Absent, |it| text::plain(it).into());
        }
        text::decoded(&segments.into_iter().map(|it| it.1).collect::<Vec<_>>()).into()
    }
}

/// The text of a parameter.
enum Text {
    Absent,
    Unreadable,
    Read(String),
}

impl From<Option<String>> for Text {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Unreadable, Self::Read)
    }
}

/// Splits off the value of a parameter; `None` if its quotes do not match.
fn value_of(rest: &str) -> Option<(String, &str)> {
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, after) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
        return (!value.contains('"')).then(|| (value.trim_end_matches([' ', '\t']).to_owned(), after));
    };
    let quotes: Vec<_> = quoted.match_indices('"').map(|it| it.0).collect();
    let escaped = |at: usize| (at - quoted[..at].trim_end_matches('\\').len()) % 2 == 1;
    let after = |at: usize| quoted[at + 1..].trim_start_matches([' ', '\t']);
    let ends = |at: &usize| after(*at).is_empty() || after(*at).starts_with(';');
    let first_unescaped = quotes.iter().copied().find(|it| !escaped(*it)).filter(ends);
    let end = first_unescaped.or_else(|| quotes.first().copied().filter(ends))?;
    Some((unescaped(&quoted[..end]), after(end)))
}

/// Removes the escapes of a quoted string. The text has no control characters, so two of them can mark escapes.
fn unescaped(text: &str) -> String {
    let marked = text.replace("\\\\", "\u{1}").replace("\\\"", "\u{2}");
    if marked.contains('\\') {
        text.replace("\\\"", "\"")
    } else {
        marked.replace('\u{1}', "\\").replace('\u{2}', "\"")
    }
}

fn is_token(it: char) -> bool {
    it.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(it)
}
