//! Which MIME types an Upload may declare for its purpose.

use super::{MimeType, Purpose};

/// How strictly a declared type is held against the purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MimePolicy {
    /// As the contract says: `assistants` and `vision` take the types listed here, the others any.
    #[default]
    Contract,
    /// Every purpose takes any type.
    Any,
}

/// A type that its purpose does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("files for the purpose '{purpose}' cannot be '{mime_type}'; accepted are {}", accepted.join(", "))]
pub struct MimeTypeNotAccepted {
    /// What the file is for.
    pub purpose: Purpose,
    /// What was declared.
    pub mime_type: String,
    /// The accepted types, without aliases.
    pub accepted: Vec<&'static str>,
}

/// A file format.
struct Format {
    /// Its types in OpenAI's documentation.
    listed: &'static [&'static str],
    /// Other types that browsers, operating systems and SDKs give such files.
    aliases: &'static [&'static str],
}

const fn format(listed: &'static [&'static str], aliases: &'static [&'static str]) -> Format {
    Format { listed, aliases }
}

const PNG: Format = format(&["image/png"], &["image/x-png"]);
const JPEG: Format = format(&["image/jpeg"], &["image/jpg", "image/pjpeg"]);
const WEBP: Format = format(&["image/webp"], &[]);
const GIF: Format = format(&["image/gif"], &[]);

/// What file search and the code interpreter read. `docs/operations.md` has the sources.
#[rustfmt::skip]
const ASSISTANTS: &[Format] = &[
    format(&["text/x-c"], &["text/x-csrc", "text/x-chdr"]),
    format(&["text/x-c++"], &["text/x-c++src", "text/x-c++hdr"]),
    format(&["text/x-csharp"], &[]),
    format(&["text/css"], &[]),
    format(&["text/csv", "application/csv"], &["text/x-csv", "application/x-csv", "text/comma-separated-values",
        "text/x-comma-separated-values", "application/vnd.ms-excel"]),
    format(&["application/msword"], &["application/x-msword", "application/vnd.ms-word",
        "zz-application/zz-winassoc-doc"]),
    format(&["application/vnd.openxmlformats-officedocument.wordprocessingml.document"], &[]),
    GIF,
    format(&["text/x-golang"], &["text/x-go"]),
    format(&["text/html"], &["application/xhtml+xml"]),
    format(&["text/x-java"], &["text/x-java-source"]),
    JPEG,
    format(&["text/javascript"], &["application/javascript", "application/x-javascript", "text/x-javascript"]),
    format(&["application/json"], &["text/json", "application/schema+json"]),
    format(&["text/markdown"], &["text/x-markdown"]),
    format(&["application/pdf"], &["application/x-pdf", "application/acrobat", "application/nappdf", "image/pdf"]),
    format(&["text/x-php"], &["text/php", "application/x-php", "application/x-httpd-php"]),
    // For .pkl, and for files without a known type.
    format(&["application/octet-stream"], &[]),
    PNG,
    format(&["application/vnd.openxmlformats-officedocument.presentationml.presentation"], &[]),
    format(&["text/x-python", "text/x-script.python"], &["text/x-python3", "text/x-python-script",
        "application/x-python", "application/x-python-code"]),
    format(&["text/x-ruby"], &["application/x-ruby", "text/x-ruby-script"]),
    format(&["application/x-sh"], &["text/x-sh", "text/x-shellscript", "application/x-shellscript"]),
    format(&["application/x-tar"], &["application/tar", "application/x-gtar", "application/gzip",
        "application/x-gzip", "application/x-compressed-tar", "application/x-tgz"]),
    format(&["text/x-tex"], &["application/x-tex"]),
    // The last five are what extension tables have for .ts.
    format(&["application/typescript"], &["application/x-typescript", "text/typescript", "text/x-typescript",
        "video/mp2t", "video/vnd.dlna.mpeg-tts", "application/x-linguist", "text/vnd.qt.linguist",
        "text/vnd.trolltech.linguist"]),
    format(&["text/plain"], &[]),
    WEBP,
    format(&["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"], &[]),
    format(&["application/xml", "text/xml"], &[]),
    format(&["application/zip"], &["application/x-zip", "application/x-zip-compressed"]),
];

/// The images that vision models read.
const VISION: &[Format] = &[PNG, JPEG, WEBP, GIF];

impl MimePolicy {
    /// Holds a declared type against the purpose, ignoring parameters and case.
    ///
    /// # Errors
    /// When the purpose is bound to a list and the type is not on it.
    pub fn check(self, purpose: Purpose, mime_type: &MimeType) -> Result<(), MimeTypeNotAccepted> {
        let formats = match (self, purpose) {
            (Self::Any, _)
            | (Self::Contract, Purpose::Batch | Purpose::FineTune | Purpose::UserData | Purpose::Evals) => {
                return Ok(());
            }
            (Self::Contract, Purpose::Assistants) => ASSISTANTS,
            (Self::Contract, Purpose::Vision) => VISION,
        };
        let essence = mime_type.essence();
        if formats.iter().any(|it| it.listed.iter().chain(it.aliases).any(|it| *it == essence)) {
            return Ok(());
        }
        let accepted = formats.iter().flat_map(|it| it.listed).copied().collect();
        Err(MimeTypeNotAccepted { purpose, mime_type: mime_type.as_str().to_owned(), accepted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: MimePolicy, purpose: Purpose, mime_type: &str) -> Result<(), String> {
        policy.check(purpose, &mime_type.parse().unwrap()).map_err(|it| it.to_string())
    }

    /// The types that OpenAI lists, by extension, and aliases of them.
    #[rustfmt::skip]
    const ASSISTANTS_FILES: &[(&str, &[&str])] = &[
        ("c", &["text/x-c", "text/x-csrc"]),
        ("cpp", &["text/x-c++", "text/x-c++src"]),
        ("cs", &["text/x-csharp"]),
        ("css", &["text/css"]),
        ("csv", &["text/csv", "application/csv", "application/vnd.ms-excel"]),
        ("doc", &["application/msword", "zz-application/zz-winassoc-doc"]),
        ("docx", &["application/vnd.openxmlformats-officedocument.wordprocessingml.document"]),
        ("gif", &["image/gif"]),
        ("go", &["text/x-golang", "text/x-go"]),
        ("html", &["text/html", "application/xhtml+xml"]),
        ("java", &["text/x-java", "text/x-java-source"]),
        ("jpeg", &["image/jpeg", "image/jpg"]),
        ("js", &["text/javascript", "application/javascript", "application/x-javascript"]),
        ("json", &["application/json", "application/schema+json"]),
        ("md", &["text/markdown", "text/x-markdown"]),
        ("pdf", &["application/pdf", "application/acrobat", "image/pdf"]),
        ("php", &["text/x-php", "application/x-php", "application/x-httpd-php", "text/php"]),
        ("pkl", &["application/octet-stream"]),
        ("png", &["image/png"]),
        ("pptx", &["application/vnd.openxmlformats-officedocument.presentationml.presentation"]),
        ("py", &["text/x-python", "text/x-script.python"]),
        ("rb", &["text/x-ruby", "application/x-ruby"]),
        ("sh", &["application/x-sh", "text/x-sh", "application/x-shellscript"]),
        ("tar", &["application/x-tar", "application/x-gtar"]),
        ("tar.gz", &["application/gzip", "application/x-gzip", "application/x-compressed-tar"]),
        ("tex", &["text/x-tex", "application/x-tex"]),
        ("ts", &["application/typescript", "text/typescript", "video/mp2t", "text/vnd.trolltech.linguist",
            "text/vnd.qt.linguist", "application/x-linguist", "video/vnd.dlna.mpeg-tts"]),
        ("txt", &["text/plain"]),
        ("webp", &["image/webp"]),
        ("xlsx", &["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"]),
        ("xml", &["application/xml", "text/xml"]),
        ("zip", &["application/zip", "application/x-zip-compressed", "application/x-zip"]),
    ];

    #[test]
    fn assistants_take_what_file_search_and_the_code_interpreter_read_by_all_its_names() {
        for (extension, types) in ASSISTANTS_FILES {
            for mime_type in *types {
                assert_eq!(check(MimePolicy::Contract, Purpose::Assistants, mime_type), Ok(()), "{extension}");
            }
        }
        for refused in ["video/mp4", "audio/mpeg", "image/tiff", "application/x-yaml", "text/jsonl", "text", "text/"] {
            let error = check(MimePolicy::Contract, Purpose::Assistants, refused).unwrap_err();
            assert!(error.contains(&format!("'assistants' cannot be '{refused}'; accepted are text/x-c,")), "{error}");
        }
    }

    #[test]
    fn vision_takes_the_four_kinds_of_images_and_names_them() {
        for accepted in ["image/png", "image/jpeg", "image/jpg", "image/pjpeg", "image/webp", "image/gif"] {
            assert_eq!(check(MimePolicy::Contract, Purpose::Vision, accepted), Ok(()));
        }
        for refused in
            ["image/tiff", "image/svg+xml", "image/heic", "application/pdf", "application/octet-stream", "png"]
        {
            let error = check(MimePolicy::Contract, Purpose::Vision, refused).unwrap_err();
            assert!(error.ends_with("accepted are image/png, image/jpeg, image/webp, image/gif"), "{error}");
        }
    }

    #[test]
    fn case_and_parameters_do_not_matter() {
        for (purpose, mime_type) in [
            (Purpose::Assistants, "Text/Markdown; charset=UTF-8"),
            (Purpose::Assistants, "text/markdown;charset=utf-8;variant=GFM"),
            (Purpose::Assistants, "APPLICATION/X-ZIP-COMPRESSED"),
            (Purpose::Assistants, " text/csv ; header=present"),
            (Purpose::Vision, "IMAGE/PNG"),
        ] {
            assert_eq!(check(MimePolicy::Contract, purpose, mime_type), Ok(()), "{mime_type}");
        }
    }

    #[test]
    fn a_message_names_each_type_once_and_no_alias() {
        let error = check(MimePolicy::Contract, Purpose::Assistants, "x").unwrap_err();
        let named: Vec<_> = error.split("accepted are ").last().unwrap().split(", ").collect();
        let mut once = named.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!((named.len(), named.contains(&"application/x-zip")), (once.len(), false), "{named:?}");
    }

    #[test]
    fn the_other_purposes_and_the_other_policy_take_any_type() {
        for purpose in [Purpose::Batch, Purpose::FineTune, Purpose::UserData, Purpose::Evals] {
            assert_eq!(check(MimePolicy::Contract, purpose, "video/mp4"), Ok(()));
            assert_eq!(check(MimePolicy::Contract, purpose, "txt"), Ok(()));
        }
        assert_eq!(check(MimePolicy::Any, Purpose::Vision, "text/plain"), Ok(()));
        assert_eq!(check(MimePolicy::Any, Purpose::Assistants, "video/mp4"), Ok(()));
    }
}
